"""AdaMerging: learn the coefficients by minimising the entropy of predictions on unlabeled images.

The merged weights θ* are leaves of the autograd graph, not results of it. After all tasks' batches ran,

    ∂ℓ/∂c[t,l] = ⟨∂ℓ/∂θ*^l, τ_t^l⟩

is one contraction a step: the gradient that back-propagation through T × L multiply-adds would give, at a fraction of
its memory traffic. The image tower is shared, so images of several tasks go through it as one batch.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from merging.core.devices import full_precision
from merging.core.errors import NonFiniteWeights
from merging.core.memory import BatchSize
from merging.evaluation.evaluator import Evaluator
from merging.methods.adam import Adam
from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import LinearMerge
from merging.methods.registry import merge
from merging.weights.vectors import TaskVectors

_SNAPSHOTS = 10
WATCHED_IMAGES = 100  # of each task that those who watch are told the accuracy on
CPU_IMAGES = 64  # in one pass: what its cache likes; a GPU takes all of a step's


class AdaMergingParams(Params):
    """Official defaults."""

    changing_nothing: ClassVar[frozenset[str]] = frozenset({"held"})

    granularity: Literal["layer", "task"] = Field(
        "layer", description="layer: a coefficient per task and tensor. task: one per task."
    )
    steps: int = Field(500, ge=0, le=20_000, description="Optimisation steps.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's learning rate.")
    initial: float = Field(0.3, ge=-1, le=2, description="Coefficient that all tasks start from.")
    batch_size: int = Field(32, ge=1, le=1024, description="Images a task and step (16 in FusionBench).")
    clamp: bool = Field(True, description="Keep coefficients within 0 … 1, as the official code does.")
    split: Literal["test", "val"] = Field(
        "test", description="Unlabeled images to adapt on. The published protocol takes the test images."
    )
    task_vectors: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="How task vectors are held while learning; bfloat16 halves their memory.",
        exclude_if=lambda value: value == "float32",
    )
    held: Literal["device", "host"] = Field(
        "device",
        description="Where: on the device, or in the computer's memory, copied to the device in every step.",
        exclude_if=lambda value: value == "device",
    )

    def learns_from(self) -> Literal["val", "test"]:
        """As its parameter says."""
        return self.split


def _patience(device: torch.device) -> float:
    """Seconds between two looks at the numbers: a GPU that is not asked for them goes on without a pause."""
    return 0.0 if device.type == "cpu" else 0.1


Part = tuple[str, slice]  # some images of a task's batch


@merge("adamerging", title="AdaMerging", paper="https://arxiv.org/abs/2310.02575", needs="unlabeled")
def adamerging(vectors: TaskVectors, params: AdaMergingParams, context: Context) -> LinearMerge:
    """Learn coefficients per task or per layer by minimising prediction entropy on unlabeled images."""
    evaluator = context.need_images("AdaMerging", vectors.tasks)
    evaluator.require(vectors.tasks, params.split)
    learner = CoefficientLearner(vectors, params, context, evaluator)
    entropies: list[list[float]] = []
    trajectory, snapshots = [learner.mean_per_task().tolist()], [learner.table().tolist()]
    every = max(1, params.steps // _SNAPSHOTS)
    batches = _batches(evaluator, vectors.tasks, params, context.seed)
    context.step(0, params.steps, "adapting")  # else the first step would count for what was before
    watched = _watched(learner, vectors.tasks, context)
    steps: list[tuple[torch.Tensor, torch.Tensor]] = []  # of each not yet told of: entropies and mean coefficients
    told = time.monotonic()
    for step in range(params.steps):
        steps.append((learner.step(next(batches)), learner.mean_per_task()))
        ending = (step + 1) % every == 0 or step + 1 == params.steps
        if not ending and time.monotonic() - told < _patience(context.device):
            continue
        for entropy, means in torch.stack([torch.stack([e, m.to(e.dtype)]) for e, m in steps]).tolist():
            entropies.append(entropy)
            trajectory.append(means)
            if not math.isfinite(sum(entropy)):
                raise NonFiniteWeights(
                    f"AdaMerging: the entropy of the predictions is no number in step {len(entropies)}: the merged "
                    "weights overflow, or a model's do; leave out models with huge weights (`check` gives norms), or "
                    "evaluate in float32"
                )
            context.on_numbers({"step": len(entropies), "entropy": entropy, "coefficients": means})
        if (step + 1) % every == 0:
            snapshots.append(learner.table().tolist())
            watched(step + 1)
        context.step(step + 1, params.steps, f"adapting, entropy {sum(entropies[-1]):.3f}")
        if step + 1 < params.steps and context.enough():
            break
        steps, told = [], time.monotonic()
    table, made = learner.table(), len(entropies)  # [L, T]
    return LinearMerge(
        dict(zip(vectors.names, table, strict=True)),
        {
            "entropy": entropies,
            "trajectory": trajectory,
            "snapshots": snapshots,
            "snapshot_every": every,
            "adapted_on": {"split": params.split, "images_seen": made * params.batch_size * len(vectors.tasks)},
            **({"ended_after": made} if made < params.steps else {}),
        },
    )


def _watched(learner: "CoefficientLearner", tasks: Sequence[str], context: Context) -> Callable[[int], None]:
    """What tells those who watch how accurate the merged model is by now, on a sample of images; it changes nothing."""
    evaluator, split = learner.evaluator, context.watched_split

    def tell(step: int) -> None:
        if split is None:
            return
        learner.write_merged()
        sample = {task: evaluator.draw(task, split, WATCHED_IMAGES, seed=0) for task in tasks}
        accuracy = {task: evaluator.share_right(task, split, chosen) for task, chosen in sample.items()}
        context.on_numbers({"step": step, "accuracy": accuracy, "coefficients": learner.mean_per_task().tolist()})

    tell(0)
    return tell


class CoefficientLearner:
    """The coefficients, the merged model they make, and Adam on them."""

    def __init__(self, vectors: TaskVectors, params: AdaMergingParams, context: Context, evaluator: Evaluator) -> None:
        self.tasks = vectors.tasks
        self.params = params
        self.evaluator = evaluator
        self.tower = evaluator.tower
        self.merged = self.tower.state_dict(keep_vars=True)
        self.base: dict[str, torch.Tensor] = {}
        self.stacks: dict[str, torch.Tensor] = {}  # [T, N]
        held, dtype = context.device if params.held == "device" else "cpu", getattr(torch, params.task_vectors)
        for name, base, stack in vectors.iterate(context.device):
            self.base[name] = base
            stack = stack.reshape(len(stack), -1).to(held, dtype)
            self.stacks[name] = stack.pin_memory() if context.device.type == "cuda" and held == "cpu" else stack
        rows = len(vectors.names) if params.granularity == "layer" else 1
        self.raw = torch.full((rows, len(vectors.tasks)), params.initial, device=context.device)
        self.raw.grad = torch.zeros_like(self.raw)
        self.optimiser = Adam(self.raw, params.learning_rate)
        images = params.batch_size * len(vectors.tasks)
        self.batch = BatchSize(min(images, CPU_IMAGES) if context.device.type == "cpu" else images)

    def coefficients(self) -> torch.Tensor:
        """c in use, ``[L, T]``, or ``[1, T]`` for one a task."""
        return self.raw.clamp(0, 1) if self.params.clamp else self.raw

    def table(self) -> np.ndarray:
        """c as float64 ``[L, T]``, whatever the granularity."""
        values = self.coefficients().double().cpu().numpy()
        table: np.ndarray = np.broadcast_to(values, (len(self.base), len(self.tasks))).copy()
        return table

    def mean_per_task(self) -> torch.Tensor:
        """Mean coefficient of each task over the layers, ``[T]``."""
        return self.coefficients().detach().mean(dim=0)

    def step(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """One step of Adam; gives the mean entropy of each task before it, in nats, ``[T]`` on the device."""
        losses = self.gradient(batch)
        self.optimiser.step()
        return losses

    @torch.no_grad()
    def gradient(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Set ``raw.grad`` from a batch of images ``[N, 3, H, W]`` per task; gives each task's entropy, ``[T]``."""
        self.write_merged()
        entropies = self.batch.fit(lambda images: self._backward(batch, images))
        used = self.coefficients()
        for index, (name, weight) in enumerate(self._weights()):
            stack = self._stack(name)
            gradient = None if weight.grad is None else weight.grad.reshape(-1).to(stack.dtype)
            self._accumulate(index, stack.new_zeros(len(stack)) if gradient is None else stack @ gradient)
        if self.params.clamp:  # a coefficient that sits outside gets no gradient through clamp
            assert self.raw.grad is not None
            self.raw.grad.masked_fill_(used != self.raw, 0)
        return entropies

    def _backward(self, batch: Mapping[str, torch.Tensor], images: int) -> torch.Tensor:
        """Gradients of the merged weights, with at most so many images in a pass; each task's entropy, ``[T]``."""
        self.tower.zero_grad(set_to_none=True)
        sums = torch.float32 if self.raw.device.type == "mps" else torch.float64  # which Apple's GPUs lack
        entropies = {task: torch.zeros((), dtype=sums, device=self.raw.device) for task in batch}
        for parts in _passes({task: len(inputs) for task, inputs in batch.items()}, images):
            with torch.enable_grad(), full_precision():
                shares = self._entropies(batch, parts)
                torch.stack(shares).sum().backward()  # adds to the gradient of the passes before
            for (task, _), share in zip(parts, shares, strict=True):
                entropies[task] += share.detach()
        return torch.stack([*entropies.values()])

    def _stack(self, name: str) -> torch.Tensor:
        """Task vectors ``[T, N]`` of a tensor for arithmetic: float32, on the device."""
        return self.stacks[name].to(self.raw.device, non_blocking=True).float()

    def _weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The merged tensors in the tower, in the order of the coefficients' rows."""
        return ((name, self.merged[name]) for name in self.base)

    def _accumulate(self, index: int, row: torch.Tensor) -> None:
        assert self.raw.grad is not None
        if len(self.raw) > 1 or len(self.base) == 1:
            self.raw.grad[index] = row
        elif index == 0:
            self.raw.grad[0] = row
        else:
            self.raw.grad[0] += row

    @torch.no_grad()
    def write_merged(self) -> None:
        """Give the tower the merged weights of these coefficients."""
        used = self.coefficients().expand(len(self.base), -1)
        for (name, weight), c in zip(self._weights(), used, strict=True):
            base = self.base[name]
            weight.copy_(torch.addmv(base.reshape(-1), self._stack(name).T, c).view_as(base))

    def _entropies(self, batch: Mapping[str, torch.Tensor], parts: Sequence[Part]) -> list[torch.Tensor]:
        """Of every part its share of its task's mean entropy."""
        images = [batch[task][where] for task, where in parts]
        features = self.evaluator.features(torch.cat(images)).split([len(part) for part in images])
        return [
            mean_entropy(self.evaluator.logits(task, part)) * (len(part) / len(batch[task]))
            for (task, _), part in zip(parts, features, strict=True)
        ]


def _passes(counts: Mapping[str, int], images: int) -> Iterator[list[Part]]:
    """All images of every task, in passes of at most so many; tasks are kept whole where they fit in a pass."""
    parts: list[Part] = []
    room = images
    for task, count in counts.items():
        for start in range(0, count, images):
            size = min(images, count - start)
            if size > room:
                yield parts
                parts, room = [], images
            parts.append((task, slice(start, start + size)))
            room -= size
    yield parts


def mean_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Mean Shannon entropy of softmax(logits ``[N, C]``), in nats."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean()


def _batches(
    evaluator: Evaluator, tasks: tuple[str, ...], params: AdaMergingParams, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Endless batches per task, each task shuffled anew every pass by a generator of its own."""
    streams = {
        task: _indices(evaluator.count(task, params.split), params.batch_size, seed + n)
        for n, task in enumerate(sorted(tasks))
    }
    while True:
        yield {task: evaluator.images(task, params.split, next(streams[task])) for task in tasks}


def _indices(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(count)
        for start in range(0, count - min(size, count) + 1, size):
            yield order[start : start + size]
