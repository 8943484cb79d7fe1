"""A merge that follows an edit is the merge of the edited models.

Merges that only apply a formula get edited vectors when tensors stream. Those here look at vectors before, while they
are planned: for them models are written that *are* the edited ones, and merged without any edit.
"""

import shutil
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.torch import save_file

from merging.evaluation.evaluator import Evaluator
from merging.methods.context import Context
from merging.methods.plan import Plan, plan
from merging.runs.jobs.merge import MergeSpec
from merging.suites import Suite, load_suite

TASKS = ("digits", "leaves", "roads")
EDIT = {"edit": "dare", "edit_params": {"drop": 0.7}}  # leaves out most entries and makes the rest three times as long


def searched(planned: Plan) -> list[float]:
    """Accuracies at all λ tried, of a search that goes on for as long as it pays: at those that every search tries."""
    return planned.merge.report["scaling_search"]["average_accuracy"][:21]


def written(planned: Plan) -> np.ndarray:
    return np.concatenate([tensor.double().numpy().ravel() for _, tensor in planned.tensors()])


# A merge that looks at task vectors while it is planned → what it learned from them, and how exactly that is known.
LOOKING: dict[str, tuple[str, dict[str, object], Callable[[Plan], object], float]] = {
    "adamerging": (
        "adamerging",
        {"steps": 3, "batch_size": 8, "learning_rate": 0.01},
        lambda p: p.merge.report["entropy"],
        1e-3,
    ),
    "adamerging task": (
        "adamerging",
        {"steps": 3, "batch_size": 8, "learning_rate": 0.01, "granularity": "task"},
        lambda p: p.merge.report["entropy"],
        1e-3,
    ),
    "tall masks": (
        "tall_masks",
        {"threshold": "auto"},
        lambda p: p.merge.report["threshold_search"]["accuracy"],
        0.05,
    ),
    "tall masks of a ties sum": ("tall_masks", {"total": "ties"}, written, 1e-5),
    **{
        f"{merge}, λ auto": (merge, {"scaling": "auto"}, searched, 0.02)
        for merge in ("task_arithmetic", "iso_c", "iso_cts", "tsv_m", "wudi", "overlap")
    },
}


@pytest.fixture(scope="module")
def edited_suite(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The tiny suite with models that the edit was applied to."""
    folder = tmp_path_factory.mktemp("edited") / "tiny"
    shutil.copytree(suite.folder, folder)
    planned = plan(suite.vectors(TASKS), MergeSpec.build(suite="any", tasks=TASKS, **EDIT).pair, Context())
    stacks = {name: base + stack for name, base, stack in planned.edited.iterate()}
    for index, task in enumerate(TASKS):
        save_file({name: stack[index].contiguous() for name, stack in stacks.items()}, folder / f"{task}.safetensors")
    return load_suite(folder)


@pytest.mark.parametrize("name", LOOKING)
def test_a_merge_is_planned_on_the_edited_vectors(name: str, suite: Suite, edited_suite: Suite) -> None:
    merge, params, learned, tolerance = LOOKING[name]

    def found(models: Suite, **edit: object) -> np.ndarray:
        spec = MergeSpec.build(suite="any", tasks=TASKS, merge=merge, merge_params=params, **edit)
        return np.array(learned(plan(models.vectors(TASKS), spec.pair, Context(evaluator=Evaluator(models)))))

    expected = found(edited_suite)
    np.testing.assert_allclose(found(suite, **EDIT), expected, rtol=0, atol=tolerance)
    assert np.abs(found(suite) - expected).max() > 2 * tolerance  # the models themselves say something else
