"""How much memory a run needs, from the sizes of the tensors alone. Pure arithmetic, no I/O.

Counted are the arrays that the methods are known to hold at once (see :mod:`merging.methods.edits`,
:mod:`merging.methods.merges`) and what images take on their way through the tower.
:class:`merging.core.memory.PeakMemory` measures the same quantity. On a CPU the C library may hold up to a third more,
since it keeps what it freed; memory-mapped files never count.
"""

from dataclasses import dataclass, replace
from math import prod

import torch

from merging.core.errors import MismatchedCheckpoint
from merging.core.streaming import STREAMS, threads
from merging.evaluation.evaluator import CPU_IMAGES, GPU_IMAGES
from merging.methods.edits.awd import AwdParams
from merging.methods.layers import TOGETHER
from merging.methods.merges import adamerging
from merging.methods.merges.wudi import WudiParams
from merging.methods.spec import Spec
from merging.suites.architecture import Tower, tower_of
from merging.weights.resident import Room
from merging.weights.roles import role_of
from merging.weights.vectors import TaskVectors

_FLOAT = 4  # merging arithmetic is float32
_OPEN_CLIP = 150 * 2**20  # of loading it, measured; in the computer's memory
_BACKWARD = 100 * 2**20  # of torch's kernels and autograd on a CPU, whatever the size of the tower, measured


@dataclass(frozen=True)
class Estimate:
    """Peak memory of a run.

    Attributes:
        phases: what is held, and its bytes; the phases do not overlap, so the largest counts.
        throughout: what is held all the time, and its bytes.
        images: in one pass while AdaMerging learns, where there is no memory for all of a step's; else None.
    """

    phases: dict[str, int]
    throughout: dict[str, int]
    images: int | None = None

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.phases.values()) + sum(self.throughout.values())


def estimate(
    vectors: TaskVectors,
    spec: Spec,
    measurable: bool,
    device: torch.device | None = None,
    quick_gelu: bool = False,
    room: int | None = None,
) -> Estimate:
    """Memory that a specification needs on its device, above what the process holds before.

    Args:
        vectors: the task vectors; only their shapes are looked at.
        spec: what to run.
        measurable: whether the suite has images and heads for all tasks.
        device: where it will run; by default the CPU.
        quick_gelu: whether the tower's activation is QuickGELU, which keeps more for the backward pass.
        room: bytes that the device has; where not all images of a step of AdaMerging fit, fewer are counted, as
            the run will find out, and where the models don't fit on a GPU they are read tensor by tensor.
    """
    device = device or torch.device("cpu")
    shapes = {name: vectors.info(name).shape for name in vectors.names}
    sizes = _Sizes(
        tasks=len(vectors.tasks),
        weights=vectors.size,
        largest=max(torch.Size(shape).numel() for shape in shapes.values()),
        squares=_squares(spec, shapes),
        item=spec.torch_dtype.itemsize,
        tower=_tower(shapes),
        quick_gelu=quick_gelu,
        on_cpu=device.type == "cpu",
        mapped=device.type == "cpu" and all(vectors.info(name).dtype == torch.float32 for name in shapes),
    )
    looks = measurable and (spec.evaluate or spec.data.images)
    throughout = {}
    if looks:
        throughout["the image tower"] = sizes.item * sizes.weights
        if sizes.on_cpu:
            throughout["loading open_clip"] = _OPEN_CLIP
    need = Room.of(vectors)
    if not sizes.on_cpu and spec.pair.data.needs == "none" and (room is None or need.total <= room):
        throughout["base and all models, and the merged weights"] = need.models + need.result
        sizes = replace(sizes, at_once=STREAMS)
    phases = {
        f"edit: {_edit_text(spec)}": _edit_bytes(spec, sizes),
        f"merge: {_merge_text(spec)}": _merge_bytes(spec, sizes),
    }
    if measurable and spec.evaluate:
        phases["evaluation: the merged weights and a batch of images"] = _FLOAT * sizes.weights + sizes.evaluation()
    if spec.merge != "adamerging":
        return Estimate(phases, throughout)
    if sizes.on_cpu:
        throughout["passes backwards"] = _BACKWARD
    images = wanted = _step_images(spec, sizes)
    held = _adamerging_bytes(spec, sizes)
    while room is not None and images > 1 and held + sizes.backward(images) + sum(throughout.values()) > room:
        images //= 2
    phases[f"learning: {_learning_text(spec)}, and {images} images on their way"] = held + sizes.backward(images)
    return Estimate(phases, throughout, images if images < wanted else None)


@dataclass(frozen=True)
class _Sizes:
    """What the arithmetic starts from.

    Attributes:
        tasks: T.
        weights: D, numbers in a model.
        largest: N, numbers in its largest tensor.
        squares: Σ in² over its linear layers.
        item: bytes of a number in the tower.
        tower: its shape, where it is a vision transformer.
        quick_gelu: whether its activation is QuickGELU.
        on_cpu: whether everything runs on the CPU.
        mapped: whether the base's weights can stay in their mapped file.
        at_once: tensors that are worked on at once.
    """

    tasks: int
    weights: int
    largest: int
    squares: int
    item: int
    tower: Tower | None
    quick_gelu: bool
    on_cpu: bool
    mapped: bool
    at_once: int = 1

    @property
    def stacks(self) -> int:
        """Numbers in three stacks of the largest tensor, for each that is worked on."""
        return 3 * self.tasks * self.largest * self.at_once

    @property
    def together(self) -> int:
        """Numbers in four stacks of all matrices of one shape, which a GPU takes together where methods iterate."""
        return 4 * min(TOGETHER // _FLOAT, self.tasks * self.weights)

    def forward(self, images: int) -> int:
        """Bytes of so many images on their way through one block: its input, and the perceptron's inner features."""
        if self.tower is None:
            return 0
        features = 2 * self.tower.width + 3 * self.tower.mlp_width
        return self.item * images * _tokens(self.tower) * features + self._pixels(images)

    def evaluation(self) -> int:
        """Bytes of the images that are evaluated at once."""
        return self.forward(threads() * CPU_IMAGES if self.on_cpu else GPU_IMAGES)

    def backward(self, images: int) -> int:
        """Bytes that autograd keeps of so many images: eight times the width and all inner features, in every block.

        A block keeps the inputs of both norms and of all four linear layers, queries, keys, values and what attention
        gave: 8 times the width besides the perceptron's; of that its activation's input and output, and with QuickGELU
        the sigmoid. Around the blocks come patches, positions and two norms.
        """
        if self.tower is None:
            return 0
        inner = (3 if self.quick_gelu else 2) * self.tower.mlp_width
        features = 3 * self.tower.width + self.tower.layers * (8 * self.tower.width + inner)
        return self.item * images * _tokens(self.tower) * features + self._pixels(images)

    def _pixels(self, images: int) -> int:
        assert self.tower is not None
        return 3 * _FLOAT * images * 3 * self.tower.image_size**2  # as numbers, normalised, and as the tower wants them


def _tokens(tower: Tower) -> int:
    return int((tower.image_size // tower.patch_size) ** 2 + 1)


def _squares(spec: Spec, shapes: dict[str, tuple[int, ...]]) -> int:
    """Σ in² over the layers that RegMean takes."""
    roles = [role_of(name, shape) for name, shape in shapes.items()]
    everything = spec.merge_params.get("layers") == "all_linear"
    layers = [role for role in roles if (role.linear if everything else role.block_matrix)]
    return sum((role.shape[0] if role.inputs == "first" else prod(role.shape[1:])) ** 2 for role in layers)


def _tower(shapes: dict[str, tuple[int, ...]]) -> Tower | None:
    try:
        return tower_of(shapes)
    except MismatchedCheckpoint:  # not a vision transformer: what its images take is not known
        return None


def _learning(spec: Spec) -> adamerging.AdaMergingParams:
    """AdaMerging's parameters."""
    params = spec.pair.merge.params
    assert isinstance(params, adamerging.AdaMergingParams)
    return params


def _step_images(spec: Spec, sizes: _Sizes) -> int:
    images = _learning(spec).batch_size * sizes.tasks
    return min(images, adamerging.CPU_IMAGES) if sizes.on_cpu else images


def _adamerging_bytes(spec: Spec, sizes: _Sizes) -> int:
    """What learning holds besides images: task vectors, base, the tower's gradient, float32 copies of one tensor."""
    params = _learning(spec)
    item = getattr(torch, params.task_vectors).itemsize
    elsewhere = params.held == "host" and not sizes.on_cpu
    copies = 2 * sizes.largest + (sizes.tasks * sizes.largest if item < _FLOAT or elsewhere else 0)
    stacks = 0 if elsewhere else item * sizes.tasks * sizes.weights
    base = 0 if sizes.mapped else _FLOAT * sizes.weights
    return stacks + base + sizes.item * sizes.weights + _FLOAT * copies


def _learning_text(spec: Spec) -> str:
    params = _learning(spec)
    where = ", in the computer's memory" if params.held == "host" else ""
    return f"all task vectors, {getattr(torch, params.task_vectors).itemsize}·T·D{where}, base and gradient"


def _is_full_adam(spec: Spec) -> bool:
    params = spec.pair.edit.params
    return isinstance(params, AwdParams) and params.solver == "adam"


def _edit_bytes(spec: Spec, sizes: _Sizes) -> int:
    if _is_full_adam(spec):
        held = sizes.weights if spec.edit_params["scope"] == "model" else sizes.largest
        # stack and its joined copy, δ, gradient, two moments, one temporary
        return _FLOAT * ((2 * sizes.tasks + 5) * held + sizes.weights)
    if spec.edit == "larv":
        return _FLOAT * 2 * sizes.tasks * sizes.largest
    if _edit_is_mixing(spec):
        return 0
    stacks = sizes.stacks
    if spec.edit == "doge" and not sizes.on_cpu:
        return _FLOAT * (stacks + sizes.together + 2 * sizes.weights)
    if not _edit_needs(spec):
        return _FLOAT * stacks
    return _FLOAT * (stacks + 3 * sizes.weights) + sizes.backward(1)


def _edit_text(spec: Spec) -> str:
    if spec.edit == "none":
        return "nothing"
    if _is_full_adam(spec):
        what = "D" if spec.edit_params["scope"] == "model" else "N"
        return f"Adam on δ, 4·((2T + 5)·{what} + D)"
    if spec.edit == "larv":
        return "two stacks of the largest tensor, 4·2·T·N"
    if _edit_is_mixing(spec):
        return "Gram matrices only"
    stacks = "three stacks of the largest tensor, 4·3·T·N"
    return f"{stacks}, what is computed on images, 4·3·D, and an image on its way back" if _edit_needs(spec) else stacks


def _edit_is_mixing(spec: Spec) -> bool:
    """Whether the edit mixes whole task vectors, so that coefficients are all it holds."""
    edit = spec.pair.edit
    return bool(edit.stage.linear) or (isinstance(edit.params, AwdParams) and edit.params.scope != "row")


def _edit_needs(spec: Spec) -> bool:
    return spec.pair.edit.data.images


def _merge_bytes(spec: Spec, sizes: _Sizes) -> int:
    if spec.merge == "fisher":
        searching = 5 * _FLOAT * sizes.weights + sizes.evaluation() if _searches(spec) else 0
        return max(_FLOAT * 4 * sizes.weights + sizes.backward(1), searching)
    if spec.merge in ("regmean", "regmean_plus_plus"):
        return _FLOAT * (3 * sizes.squares + 2 * sizes.weights) + sizes.forward(32)
    mixing = spec.pair.merge.stage.linear and _edit_is_mixing(spec)
    streamed = sizes.largest * sizes.at_once if mixing else sizes.stacks
    if _together(spec, sizes):
        streamed += sizes.together + 2 * sizes.weights
    if _searches(spec):
        return _FLOAT * max(streamed, 3 * sizes.weights) + sizes.evaluation()
    return _FLOAT * streamed


def _together(spec: Spec, sizes: _Sizes) -> bool:
    """Whether a GPU takes all matrices of one shape together, and keeps what comes of them."""
    params = spec.pair.merge.params
    by_adam = isinstance(params, WudiParams) and params.solver == "adam"
    return (by_adam or spec.merge in ("tsv_m", "iso_cts")) and not sizes.on_cpu


def _searches(spec: Spec) -> bool:
    """Whether λ, of the sum or of masks, is chosen on validation."""
    return bool(spec.pair.merge.params.chosen())


def _merge_text(spec: Spec) -> str:
    if spec.merge == "fisher":
        return "two weighted sums, a gradient and its square, 4·4·D, and an image on its way back"
    if spec.merge in ("regmean", "regmean_plus_plus"):
        return "Gram matrices of the layers' inputs, their sum and products in float64, 4·(3·Σ in² + 2·D), and images"
    if _searches(spec):
        return "base, sum and merged weights while λ is searched, 4·3·D, and a batch of images"
    return "tensor by tensor"
