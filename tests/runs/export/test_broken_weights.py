"""NaN or infinity in a weight file: whatever runs into it names that file and says what to do about it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from merging.core.errors import CheckpointError, NonFiniteWeights
from merging.methods import registry
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.carrying import execute
from tests.random_models import TASKS

PAIRS = [("none", name) for name in registry.merges()] + [
    (name, "task_arithmetic") for name in registry.edits() if name != "none"
]


def put(value: float, path: Path, tensor: str = "transformer.resblocks.1.mlp.c_fc.weight") -> None:
    """Set one weight of a file."""
    state = load_file(path)
    state[tensor].view(-1)[7] = value
    save_file(state, path)


def spec(folder: Path, edit: str = "none", merge: str = "task_arithmetic", **changes: object) -> MergeSpec:
    params: dict[str, object] = {"steps": 2} if "steps" in registry.find("merge", merge).params.model_fields else {}
    return MergeSpec.build(
        suite=str(folder), tasks=TASKS, edit=edit, merge=merge, merge_params=params, device="cpu", **changes
    )


@pytest.mark.parametrize(
    ("edit", "merge", "value"),
    [(*pair, float("nan")) for pair in PAIRS] + [("awd", "task_arithmetic", float(value)) for value in ("inf", "-inf")],
)
def test_a_broken_base_is_named_by_every_method(
    edit: str, merge: str, value: float, own_suite: Path, workspace: Workspace
) -> None:
    put(value, own_suite / "base.safetensors")
    with pytest.raises(NonFiniteWeights) as caught:
        execute(spec(own_suite, edit, merge), workspace)
    assert str(caught.value).startswith("base.safetensors: tensor 'transformer.resblocks.1.mlp.c_fc.weight'")
    assert "leave the task out" not in str(caught.value)


@pytest.mark.parametrize(("edit", "merge"), PAIRS)
def test_a_broken_task_model_is_named_by_every_method(
    edit: str, merge: str, own_suite: Path, workspace: Workspace
) -> None:
    put(float("inf"), own_suite / "leaves.safetensors")
    with pytest.raises(NonFiniteWeights) as caught:
        execute(spec(own_suite, edit, merge), workspace)
    assert str(caught.value).startswith("leaves.safetensors: tensor 'transformer.resblocks.1.mlp.c_fc.weight'")


def test_a_weight_of_one_does_not_hide_a_broken_base(own_suite: Path, workspace: Workspace) -> None:
    """With λ = 1 and one task the base drops out of the sum; the task model is then what was asked for."""
    put(float("inf"), own_suite / "base.safetensors")
    alone = MergeSpec.build(
        suite=str(own_suite), tasks=("digits",), merge_params={"scaling": 1.0}, device="cpu", evaluate=False
    )
    with pytest.raises(NonFiniteWeights, match=r"^base\.safetensors: "):
        execute(alone, workspace)


@pytest.mark.parametrize("broken", ["base", "leaves"])
def test_accuracies_name_the_broken_file(broken: str, own_suite: Path, workspace: Workspace) -> None:
    put(float("nan"), own_suite / f"{broken}.safetensors")
    suite = load_suite(own_suite)
    evaluator = workspace.evaluator(suite)
    measure: Callable[..., object] = workspace.base_accuracy if broken == "base" else workspace.individual_accuracy
    with pytest.raises(NonFiniteWeights, match=f"^{broken}.safetensors: tensor .* export it again"):
        measure(evaluator, TASKS)


def test_broken_models_are_told_with_reasons_and_the_others_measured(own_suite: Path, workspace: Workspace) -> None:
    put(float("nan"), own_suite / "leaves.safetensors")
    (own_suite / "roads.safetensors").write_bytes(b"nonsense")
    suite = load_suite(own_suite)
    broken = workspace.broken(suite)
    assert set(broken) == {"leaves", "roads"}
    assert broken["leaves"].startswith("leaves.safetensors: tensor ") and broken["roads"].startswith("roads.safetens")
    assert workspace.geometry(suite, ("digits", "circles")).tasks == ("digits", "circles")
    for task in broken:
        with pytest.raises(CheckpointError, match=f"^{task}.safetensors: "):
            workspace.geometry(suite, ("digits", task))
    with pytest.raises(CheckpointError):
        workspace.geometry(suite)


def test_with_a_broken_base_nothing_is_said_of_the_others(own_suite: Path, workspace: Workspace) -> None:
    put(float("nan"), own_suite / "base.safetensors")
    with pytest.raises(NonFiniteWeights, match=r"^base\.safetensors: "):
        workspace.broken(load_suite(own_suite))


def test_a_sound_suite_has_no_broken_models(suite: Suite, workspace: Workspace) -> None:
    assert workspace.broken(suite) == {}
