"""Measuring memory, doing with less of it, and the estimate against what autograd and the process really hold."""

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.autograd.graph import saved_tensors_hooks

from merging.core.errors import DeviceError
from merging.core.memory import BatchSize, PeakMemory, anonymous_bytes, explain_out_of_memory, is_out_of_memory
from merging.evaluation.evaluator import Evaluator
from merging.evaluation.input_grams import input_grams
from merging.methods.context import Context
from merging.methods.estimate import _adamerging_bytes, _Sizes, _tokens, estimate
from merging.methods.merges.adamerging import AdaMergingParams, CoefficientLearner, _passes
from merging.runs.jobs import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites import Suite
from merging.suites.architecture import NAMED, Tower, tower_of
from merging.weights.files import open_checkpoint
from tests.carrying import execute
from tests.lightly import open_clip
from tests.random_models import TASKS

OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_the_peak_is_what_was_held_at_most(device: torch.device) -> None:
    with PeakMemory(device) as memory:
        held = torch.ones(8 << 20, device=device)  # 32 MiB
        size = held.nbytes
        time.sleep(0.05)  # a CPU's memory is looked at now and then
        del held
    assert 0.9 * size <= memory.peak <= 2 * size
    assert anonymous_bytes() > 0


def test_mapped_files_do_not_count(tmp_path: Path) -> None:
    save_file({"large": torch.zeros(8 << 20)}, tmp_path / "large.safetensors")
    with PeakMemory() as memory:
        mapped = open_checkpoint(tmp_path / "large.safetensors", part="all")["large"]
        assert float(mapped.sum()) == 0
    assert memory.peak < 16 << 20


@pytest.mark.parametrize(
    "error",
    [
        OUT,
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
    ],
)
def test_memory_that_ran_out_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)
    tried = []

    def work(images: int) -> int:
        tried.append(images)
        if images > 5:
            raise error
        return images

    size = BatchSize(40)
    assert size.fit(work) == 5
    assert tried == [40, 20, 10, 5]
    assert size.fit(work) == 5  # and stays so
    assert tried[4:] == [5]


def test_other_errors_and_a_single_image_are_not_tried_again() -> None:
    tried = []

    def fail(error: Exception) -> None:
        tried.append(error)
        raise error

    with pytest.raises(RuntimeError, match="shapes differ"):
        BatchSize(8).fit(lambda images: fail(RuntimeError("shapes differ")))
    with pytest.raises(torch.OutOfMemoryError):
        BatchSize(1).fit(lambda images: fail(OUT))
    assert len(tried) == 2


class Narrow(torch.nn.Module):
    """A tower on a device that has no memory for more than so many images at once."""

    def __init__(self, tower: torch.nn.Module, images: int) -> None:
        super().__init__()
        self.tower, self.images, self.seen = tower, images, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.images:
            raise OUT
        self.seen = max(self.seen, len(images))
        return self.tower(images)

    def state_dict(self, *args: object, **choices: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return self.tower.state_dict(*args, **choices)  # type: ignore[call-overload]

    def named_parameters(self, *args: object, **choices: object):  # type: ignore[no-untyped-def, override]
        return self.tower.named_parameters(*args, **choices)  # type: ignore[arg-type]


def narrowed(evaluator: Evaluator, images: int) -> Narrow:
    evaluator.tower = Narrow(evaluator.tower, images)  # type: ignore[misc]  # takes the cached property's place
    return evaluator.tower  # type: ignore[return-value]


def test_accuracy_is_found_with_fewer_images_at_once(suite: Suite) -> None:
    expected = Evaluator(suite).accuracy(suite.checkpoint("roads"), TASKS)
    evaluator = Evaluator(suite)
    tower = narrowed(evaluator, 7)
    assert evaluator.accuracy(suite.checkpoint("roads"), TASKS) == expected
    assert evaluator.batch.images == tower.seen == 6  # 25, 12, 6


def test_adamerging_learns_the_same_with_fewer_images_at_once(suite: Suite) -> None:
    vectors, params = suite.vectors(), AdaMergingParams(batch_size=10)
    batch = {task: Evaluator(suite).images(task, "test", slice(0, 10)) for task in TASKS}

    def gradient(images: int) -> tuple[list[float], torch.Tensor, int]:
        evaluator = Evaluator(suite)
        tower = narrowed(evaluator, images)
        learner = CoefficientLearner(vectors, params, Context(), evaluator)
        entropies = learner.gradient(batch)
        assert learner.raw.grad is not None
        return entropies, learner.raw.grad, tower.seen

    entropies, expected, most = gradient(1000)
    assert most == 40
    for limit, seen in ((39, 20), (9, 5), (1, 1)):
        again, found, most = gradient(limit)
        assert most == seen
        assert again == pytest.approx(entropies, rel=1e-5)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_grams_are_the_same_with_fewer_images_at_once(suite: Suite) -> None:
    def grams(images: int) -> dict[str, torch.Tensor]:
        evaluator = Evaluator(suite)
        narrowed(evaluator, images)
        return input_grams(evaluator, suite.base_checkpoint, "roads", 20, Context())

    expected, found = grams(1000), grams(3)
    assert expected and expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("counts", "images"), [((4, 4, 4), 8), ((5, 3, 9), 4), ((1,), 1), ((7, 2), 100)])
def test_passes_hold_every_image_once_and_not_too_many(counts: tuple[int, ...], images: int) -> None:
    tasks = {f"task{index}": count for index, count in enumerate(counts)}
    passes = list(_passes(tasks, images))
    seen = [(task, index) for parts in passes for task, part in parts for index in range(part.start, part.stop)]
    assert seen == [(task, index) for task, count in tasks.items() for index in range(count)]
    assert all(0 < sum(part.stop - part.start for _, part in parts) <= images for parts in passes)


@pytest.mark.parametrize(("task_vectors", "held"), [("bfloat16", "device"), ("float32", "host"), ("bfloat16", "host")])
def test_adamerging_on_rounded_or_distant_vectors(suite: Suite, task_vectors: str, held: str) -> None:
    batch = {task: Evaluator(suite).images(task, "test", slice(0, 6)) for task in TASKS}

    def gradient(**choices: str) -> torch.Tensor:
        params = AdaMergingParams(batch_size=6, **choices)  # type: ignore[arg-type]
        learner = CoefficientLearner(suite.vectors(), params, Context(), Evaluator(suite))
        assert {stack.dtype for stack in learner.stacks.values()} == {getattr(torch, params.task_vectors)}
        learner.gradient(batch)
        assert learner.raw.grad is not None
        return learner.raw.grad

    expected, found = gradient(), gradient(task_vectors=task_vectors, held=held)
    error = float((found - expected).norm() / expected.norm())
    assert error == 0 if task_vectors == "float32" else 0 < error < 0.05


def test_running_out_of_memory_says_what_to_do(
    suite_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OUT

    monkeypatch.setattr("merging.evaluation.evaluator.Evaluator.features", fail)
    with pytest.raises(DeviceError, match=r"out of memory on CPU.*fewer tasks.*task_vectors=bfloat16") as caught:
        execute(MergeSpec.build(suite=str(suite_file), tasks=TASKS), workspace)
    assert "--device cpu" not in str(caught.value)
    assert "--device cpu" in str(explain_out_of_memory(torch.device("meta")))


def saved_bytes(architecture: dict[str, object], images: int, quick_gelu: bool) -> tuple[int, Tower]:
    """What autograd keeps of a forward pass besides the weights: every storage once."""
    text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
    tower = open_clip.CLIP(**architecture, text_cfg=text, quick_gelu=quick_gelu).visual  # type: ignore[arg-type]
    weights = {parameter.untyped_storage().data_ptr() for parameter in tower.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        tower(torch.zeros(images, 3, *tower.image_size))
    shapes = {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    return sum(storage.nbytes() for storage in kept.values()), tower_of(shapes)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize(("width", "layers", "mlp_ratio", "images"), [(64, 3, 4.0, 4), (128, 6, 2.0, 2)])
def test_what_the_backward_pass_needs_is_what_autograd_keeps(
    width: int, layers: int, mlp_ratio: float, images: int, quick_gelu: bool
) -> None:
    vision = {
        "image_size": 64,
        "layers": layers,
        "width": width,
        "head_width": 32,
        "patch_size": 8,
        "mlp_ratio": mlp_ratio,
    }
    kept, tower = saved_bytes({"embed_dim": 32, "vision_cfg": vision}, images, quick_gelu)
    assert _tokens(tower) == 65
    sizes = _Sizes(1, 0, 0, 0, 4, tower, quick_gelu, on_cpu=True, mapped=True)
    assert sizes.backward(images) - sizes._pixels(images) == pytest.approx(kept, rel=0.1)


def spec_of(suite_file: Path, **choices: object) -> MergeSpec:
    return MergeSpec.build(suite=str(suite_file), tasks=TASKS, **choices)


def test_the_estimate_of_adamerging_is_what_the_learner_holds(suite: Suite, suite_file: Path) -> None:
    vectors = suite.vectors()
    for choices in ({}, {"task_vectors": "bfloat16"}):
        spec = spec_of(suite_file, merge="adamerging", merge_params=choices, evaluate=False)
        learner = CoefficientLearner(vectors, AdaMergingParams(**choices), Context(), Evaluator(suite))  # type: ignore[arg-type]
        stacks = sum(stack.nbytes for stack in learner.stacks.values())
        gradient = sum(weight.nbytes for _, weight in learner._weights())
        found = next(size for what, size in estimate(vectors, spec, True).phases.items() if what.startswith("learning"))
        images = _Sizes(4, 0, 0, 0, 4, tower_of({n: vectors.info(n).shape for n in vectors.names}), False, True, True)
        assert found == pytest.approx(stacks + gradient + images.backward(64), rel=0.1)


def test_less_is_estimated_for_rounded_vectors_and_fewer_images(suite: Suite, suite_file: Path) -> None:
    gpu, vectors = torch.device("cuda"), suite.vectors()

    def total(room: int | None = None, **choices: object) -> tuple[int, int | None]:
        spec = spec_of(suite_file, merge="adamerging", merge_params=choices, evaluate=False)
        found = estimate(vectors, spec, True, gpu, room=room)
        return found.total, found.images

    full, images = total()
    assert images is None
    assert total(task_vectors="bfloat16")[0] < full
    assert total(held="host")[0] < total(task_vectors="bfloat16")[0]
    less, fewer = total(room=full - 1)
    assert less < full
    assert fewer == 64  # of 4 × 32
    assert total(room=0)[1] == 1


def test_a_towers_weights_and_open_clip_count_only_where_images_are_looked_at(suite: Suite, suite_file: Path) -> None:
    vectors = suite.vectors()
    assert estimate(vectors, spec_of(suite_file, evaluate=False), True).throughout == {}
    assert estimate(vectors, spec_of(suite_file), False).throughout == {}
    looking = estimate(vectors, spec_of(suite_file), True)
    assert looking.throughout["the image tower"] == 4 * vectors.size
    half = estimate(vectors, spec_of(suite_file, dtype="bfloat16"), True)
    assert half.throughout["the image tower"] == 2 * vectors.size
    assert half.total < looking.total


def test_towers_that_are_no_vision_transformer_have_an_estimate(suite_file: Path, vectors: object) -> None:
    spec = spec_of(suite_file, merge="adamerging")
    assert estimate(vectors, spec, True).total > 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("title", "name"), [("ViT-B/32", "ViT-B-32"), ("ViT-B/16", "ViT-B-16"), ("ViT-L/14", "ViT-L-14")]
)
def test_the_docs_say_what_adamerging_needs_on_a_gpu(title: str, name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"]).visual
    counts = [weight.numel() for weight in tower.state_dict().values()]
    sizes = _Sizes(8, sum(counts), max(counts), 0, 4, NAMED[name], quick_gelu=True, on_cpu=False, mapped=False)
    needed = []
    for choices in ({}, {"task_vectors": "bfloat16"}, {"held": "host"}):
        spec = MergeSpec.build(suite="mini", tasks=TASKS, merge="adamerging", merge_params=choices)
        needed.append(f"{(_adamerging_bytes(spec, sizes) + 4 * sizes.weights) / 1e9:.1f}")
    row = f"| {title} | {' | '.join(needed)} | {sizes.backward(1) / 1e9:.3f} |"
    assert row in (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
