"""Which images a method looks at while it is planned: those of the split and the tasks that it says, and no others."""

from collections.abc import Mapping

import pytest

from merging.evaluation.evaluator import Evaluator
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.plan import plan
from merging.runs.jobs.merge import MergeSpec
from merging.suites import Suite
from merging.suites.images.suite_images import ImageSet
from merging.suites.suite import Split

TASKS = ("digits", "roads")
ADAPTING = {"merge": "adamerging", "merge_params": {"steps": 2, "batch_size": 4}}
# A method that looks at images → the split that it says it looks at.
METHODS: dict[str, tuple[Mapping[str, object], set[Split]]] = {
    "adamerging as published": (ADAPTING, {"test"}),
    "adamerging on validation": ({**ADAPTING, "merge_params": {"steps": 2, "batch_size": 4, "split": "val"}}, {"val"}),
    "fisher": ({"merge": "fisher", "merge_params": {"images": 3}}, {"val"}),
    "regmean": ({"merge": "regmean", "merge_params": {"images": 3}}, {"val"}),
    "regmean++": ({"merge": "regmean_plus_plus", "merge_params": {"images": 3}}, {"val"}),
    "trust region": (
        {
            "edit": "trust_region",
            "edit_params": {"sensitivity": "gradient", "images": 3},
            "merge_params": {"scaling": 1},
        },
        {"val"},
    ),
    "trust region, zero-shot": ({"edit": "trust_region", "edit_params": {"sensitivity": "zero_shot"}}, set()),
    "consensus, threshold auto": ({"edit": "consensus", "edit_params": {"threshold": "auto"}}, {"val"}),
    "tall masks, threshold auto": ({"merge": "tall_masks", "merge_params": {"threshold": "auto"}}, {"val"}),
    "forgetting, λ auto": ({"merge_params": {"scaling": "auto", "weights": [1, -1]}}, {"val"}),
    **{
        f"{merge}, λ auto": ({"merge": merge, "merge_params": {"scaling": "auto"}}, {"val"})
        for merge in ("task_arithmetic", "iso_c", "iso_cts", "tsv_m", "wudi", "ace", "svc", "overlap")
    },
}


def test_every_method_that_can_look_at_images_is_tried_here() -> None:
    specs = [MergeSpec.build(suite="any", tasks=TASKS, **fields) for fields, _ in METHODS.values()]
    looking = {
        method.name
        for method in (*registry.edits().values(), *registry.merges().values())
        if method.data({}).needs != "none"
        or any("auto" in str(field.annotation) for field in method.params.model_fields.values())
    }
    assert looking <= {name for spec in specs for name in (spec.edit, spec.merge)}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_looks_at_the_split_that_it_says(method: str, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, expected = METHODS[method]
    seen: set[tuple[str, Split]] = set()
    image_set = Evaluator.image_set

    def watched(evaluator: Evaluator, task: str, split: Split) -> ImageSet:
        seen.add((task, split))
        return image_set(evaluator, task, split)

    monkeypatch.setattr(Evaluator, "image_set", watched)
    context = Context(evaluator=Evaluator(suite))
    spec = MergeSpec.build(suite="any", tasks=TASKS, **fields)
    planned = plan(suite.vectors(TASKS), spec.pair, context)
    looked_at = suite.task_names if spec.forgotten else TASKS  # what is not to be forgotten must not suffer
    assert seen == {(task, split) for task in looked_at for split in expected}
    reports = (planned.merge.report.get(key, {}) for key in ("adapted_on", "scaling_search", "threshold_search"))
    assert {report["split"] for report in reports if "split" in report} <= expected
