"""Every method on a GPU beside the CPU, each within its bound; without a GPU: with models kept, beside streaming.

Run by ``make gpu`` where there is a card. What each bound is of: ‖GPU − CPU‖ over all weights as a share of the length
of the CPU's update.
"""

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.agreement import SHAPES
from merging.core.errors import DeviceError
from merging.core.memory import PeakMemory
from merging.core.progress import Work
from merging.evaluation.evaluator import Evaluator
from merging.methods import registry
from merging.methods.context import Context
from merging.methods.merges.adamerging import AdaMergingParams, CoefficientLearner
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.weights import resident, spectra
from merging.weights.files import Checkpoint
from merging.weights.resident import Shelf
from merging.weights.vectors import TaskVectors
from tests.carrying import execute
from tests.random_models import TASKS, random_state, random_vectors, write_models

# Settings of a method → bound. What only adds differs by rounding; decompositions of matrices with close singular
# values, descents over kinks and thousands of steps of Adam differ by more.
BOUNDS = {
    "merge=average": 1e-5,
    "merge.scaling=0.3": 1e-5,
    "edit=awd merge.scaling=0.3": 1e-4,
    "edit=awd edit.scope=layer merge.scaling=0.3": 1e-4,
    "edit=awd edit.scope=row merge.scaling=0.3": 1e-3,
    "edit=awd edit.solver=exact merge.scaling=0.3": 1e-3,
    "edit=ties merge.scaling=0.3": 1e-5,
    "edit=dare merge.scaling=0.3": 1e-5,
    "edit=consensus merge.scaling=0.3": 1e-5,
    "edit=trust_region merge.scaling=0.3": 1e-4,  # an entry more or less where two sums round apart
    "edit=larv merge.scaling=0.3": 1e-4,
    "edit=doge edit.steps=50 merge.scaling=1.0": 1e-3,
    "edit=parts merge.scaling=1.0": 1e-3,
    "merge=iso_c": 1e-4,
    "merge=iso_cts": 1e-3,
    "merge=tsv_m": 1e-3,
    "merge=wudi merge.solver=closed_form": 1e-4,
    "merge=wudi merge.steps=50": 1e-4,
    "merge=ace": 1e-3,
    "merge=svc": 1e-3,
    "merge=overlap": 1e-4,
    "merge=emr": 1e-5,
    "merge=tall_masks": 1e-5,
}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> TaskVectors:
    """Four models whose weights and task vectors are about as long as CLIP's.

    Of far shorter ones AWD's published step size makes nothing but going to and fro, which hangs on the last digit.
    """
    base, common = (random_state(seed, SHAPES, spread) for seed, spread in ((0, 0.05), (1, 2e-3)))
    own = [random_state(2 + task, SHAPES, 3e-3) for task in range(4)]
    models = [{name: base[name] + common[name] + one[name] for name in base} for one in own]
    vectors = write_models(tmp_path_factory.mktemp("tower"), base, models)
    assert all(model.fingerprint for model in (vectors.base, *vectors.checkpoints))
    return vectors


@pytest.fixture(autouse=True)
def _left_empty() -> Iterator[None]:
    """No models stay on the device after a test."""
    yield
    resident.shelf.clear()


def merged(vectors: TaskVectors, settings: str, context: Context, gpu: bool = True) -> dict[str, torch.Tensor]:
    """A merge as a GPU does it, or as the CPU does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident, "worthwhile", lambda device: gpu)
        patch.setattr(spectra, "multiplies", lambda device: gpu)
        planned = plan(vectors, Pair.read(settings), context)
        return {name: tensor.cpu() for name, tensor in planned.tensors(context)}


def apart(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], base: TaskVectors) -> float:
    """‖found − expected‖ as a share of ‖expected − θ₀‖; of localised merges, which are no models, of ‖expected‖."""
    assert found.keys() == expected.keys()
    difference = sum(
        float((found[name].double() - tensor.double()).square().sum()) for name, tensor in expected.items()
    )
    starts = {name: base.base.get(name, torch.zeros(())) for name in expected}
    length = sum(float((tensor.double() - starts[name].double()).square().sum()) for name, tensor in expected.items())
    return float((difference / length) ** 0.5)


def test_every_method_that_needs_no_images_has_a_bound() -> None:
    pairs = [Pair.read(settings) for settings in BOUNDS]
    assert {pair.edit.name for pair in pairs} == {n for n, s in registry.edits().items() if s.needs == "none"}
    assert {pair.merge.name for pair in pairs} == {n for n, s in registry.merges().items() if s.needs == "none"}


@pytest.mark.parametrize(("settings", "bound"), BOUNDS.items())
def test_devices_agree_and_give_the_same_from_run_to_run(
    tower: TaskVectors, device: torch.device, settings: str, bound: float
) -> None:
    expected = merged(tower, settings, Context(), gpu=False)
    found, again = (merged(tower, settings, Context(device)) for _ in range(2))
    assert apart(found, expected, tower) <= bound
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_a_second_merge_reads_no_file(
    tower: TaskVectors, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "merge=tsv_m"
    first = merged(tower, settings, Context(device))

    def read(self: Checkpoint, name: str) -> torch.Tensor:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(type(tower.base), "__getitem__", read)
    second = merged(tower, settings, Context(device))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluation_agrees(suite: Suite, device: torch.device) -> None:
    accuracies = [Evaluator(suite, one).accuracy(suite.base_checkpoint, TASKS) for one in (device, torch.device("cpu"))]
    assert accuracies[0] == accuracies[1]


def test_adamergings_gradient_agrees(suite: Suite, device: torch.device) -> None:
    gradients = []
    for one in (device, torch.device("cpu")):
        evaluator = Evaluator(suite, one)
        vectors = suite.vectors()
        learner = CoefficientLearner(vectors, AdaMergingParams(), Context(one, evaluator=evaluator), evaluator)
        learner.gradient({task: evaluator.images(task, "test", slice(0, 8)) for task in vectors.tasks})
        gradients.append(learner.raw.grad.cpu())  # type: ignore[union-attr]
    assert float((gradients[0] - gradients[1]).norm()) <= 1e-4 * float(gradients[1].norm())


@pytest.fixture
def card() -> torch.device:
    """A CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    return torch.device("cuda", 0)


LARGE = {f"transformer.resblocks.{number}.mlp.c_fc.weight": (2048, 2048) for number in range(6)}  # 100 MB a model


def limit(card: torch.device, room: float) -> None:
    """Let this process have so many bytes more than it has, of which ``free_memory`` knows nothing."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(card).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(card) + room) / total, card)


@pytest.mark.gpu
def test_a_full_card_means_streaming_and_then_a_sentence(tmp_path: Path, card: torch.device) -> None:
    vectors = random_vectors(tmp_path, tasks=4, spread=1e-3, shapes=LARGE)
    expected = merged(vectors, "merge.scaling=0.3", Context(card, resident=False))
    try:
        limit(card, 300e6)
        assert Shelf().placed(vectors, Work(card)).resident is None
        gc.collect()
        found = merged(vectors, "merge.scaling=0.3", Context(card))
        assert all(torch.equal(found[name], expected[name]) for name in found)
        limit(card, 30e6)
        with pytest.raises(torch.OutOfMemoryError):
            merged(vectors, "merge=tsv_m", Context(card))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, card)


@pytest.mark.gpu
def test_a_run_that_does_not_fit_at_all_says_so(suite_file: Path, workspace: Workspace, card: torch.device) -> None:
    try:
        limit(card, 1e5)
        with pytest.raises(DeviceError, match="out of memory on"):
            execute(MergeSpec.build(suite=str(suite_file), tasks=TASKS, device="cuda"), workspace)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, card)


@pytest.mark.gpu
def test_what_stays_on_the_card_is_what_was_estimated(tmp_path: Path, card: torch.device) -> None:
    vectors = random_vectors(tmp_path, tasks=4, spread=1e-3, shapes=LARGE)
    need = resident.Room.of(vectors)
    with PeakMemory(card) as memory:
        kept = resident.shelf.placed(vectors, Work(card))
        assert kept.resident is not None
        assert torch.cuda.memory_allocated(card) >= need.models
        merged(replace(vectors, resident=kept.resident), "merge.scaling=0.3", Context(card))
    assert need.models <= memory.peak <= need.total


@pytest.mark.gpu
def test_two_runs_at_a_time_on_one_card(suite_file: Path, tmp_path: Path, card: torch.device) -> None:
    command = [sys.executable, "-m", "merging", "merge", str(suite_file), "--device", "cuda", "--merge", "tsv_m"]
    ways = [
        [*command, "--home", str(tmp_path / name), "--output", str(tmp_path / f"{name}.safetensors")] for name in "ab"
    ]
    running = [subprocess.Popen(way, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for way in ways]
    said = [one.communicate(timeout=120)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0], said
    assert (tmp_path / "a.safetensors").read_bytes()[-1000:] == (tmp_path / "b.safetensors").read_bytes()[-1000:]


def test_predictions_are_numbers_on_every_device(suite: Suite, device: torch.device) -> None:
    found = Evaluator(suite, device, torch.bfloat16).predictions(TASKS[0], "test", np.arange(5))
    assert found.shape == (5,)
