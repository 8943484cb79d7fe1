"""Accuracy of a visual tower with frozen heads, and the images that methods adapt on."""

import copy
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from merging.core.devices import free_memory, full_precision
from merging.core.errors import MismatchedCheckpoint, MissingPart, NonFiniteWeights, SuiteError
from merging.core.memory import BatchSize
from merging.core.progress import Work
from merging.core.streaming import ordered
from merging.core.wording import differences
from merging.evaluation import clip
from merging.evaluation.accuracy import Accuracy, whose
from merging.evaluation.assumptions import require_agreement
from merging.evaluation.heads import load_head, odd_rows
from merging.suites.declared import Declared
from merging.suites.images.cache import DEFAULT_LIMIT
from merging.suites.images.shifts import CLEAN, AnyShift, Shift, shift_text, shifted_images
from merging.suites.images.suite_images import ImageSet, load_images
from merging.suites.suite import Split, Suite
from merging.weights.files import Checkpoint

CPU_IMAGES = 25  # in one pass, a thread each
GPU_IMAGES = 512
_SHARE = 0.25  # of a GPU's free memory that the images of a task may take


def keeps_images(device: torch.device) -> bool:
    """Whether a device has memory of its own, in which images are better off."""
    return device.type != "cpu"


@dataclass
class Evaluator:
    """One visual tower on one device, with the images and heads of a suite; everything is loaded once.

    Attributes:
        suite: where heads and images come from.
        device: where the forward passes run.
        dtype: their precision.
        cache: folder for prepared images and for heads built from text.
        image_limit: bytes that the images may take there.
        shift: what is done to all test images; validation images, by which parameters are chosen, stay clean.
        batch: images in one forward pass; fewer once memory has run out.
    """

    suite: Suite
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    cache: Path | None = None
    image_limit: int = DEFAULT_LIMIT
    shift: AnyShift = CLEAN
    batch: BatchSize = field(init=False)
    _sets: dict[tuple[str, Split, str], ImageSet] = field(default_factory=dict, repr=False)
    _bare: dict[tuple[str, Split], ImageSet] = field(default_factory=dict, repr=False)  # not compared with the head
    _heads: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    _pixels: dict[tuple[str, Split], tuple[str, torch.Tensor | None]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.batch = BatchSize(CPU_IMAGES if self.device.type == "cpu" else GPU_IMAGES)

    @cached_property
    def agreement(self) -> list[Declared]:
        """What files beside the weights say of the tower, which is what suite.yaml says.

        Raises:
            SuiteError: they contradict each other.
        """
        return require_agreement(self.suite)

    @cached_property
    def tower(self) -> torch.nn.Module:
        """The visual tower; it holds the base model's weights until :meth:`load` writes others."""
        _ = self.agreement
        return clip.build_tower(self.suite, self.device, self.dtype)

    @cached_property
    def input(self) -> clip.Input:
        """Size and normalisation of the tower's input."""
        return clip.input_of(self.suite)

    def under(self, shift: AnyShift) -> "Evaluator":
        """The same tower, with the same weights in it, and the same heads, on test images with another shift."""
        _ = self.tower  # built once for all
        other = copy.copy(self)
        other.shift = shift
        return other

    def require(self, tasks: Sequence[str], split: Split) -> None:
        """Insist on images and heads for all of the tasks.

        Raises:
            MissingPart: a task has none.
            SuiteError: suite.yaml and files beside the weights contradict each other.
        """
        _ = self.agreement
        for task in tasks:
            if not self.suite.measurable(task):
                raise MissingPart(
                    f"suite {self.suite.name!r}: task {task!r} lacks images or a head, so its accuracy can't be "
                    "computed; add `data` and `head` (or `classes` and a `text_tower`) in suite.yaml"
                )
            self.image_set(task, split)

    def prepare(self, tasks: Sequence[str], split: Split) -> None:
        """Load images and heads and build the tower, so that whatever is wrong with them is found before long work.

        Raises:
            MergingError: as :meth:`require` and :func:`merging.evaluation.clip.build_tower`.
        """
        self.require(tasks, split)
        _ = self.tower

    def image_set(self, task: str, split: Split) -> ImageSet:
        """Images and labels of a task and split, those of test corrupted if there is a shift."""
        key = self._set_of(task, split)
        if key not in self._sets:
            shift = self.shift if isinstance(self.shift, Shift) and split == "test" else None
            ready = shift is not None and shift.ready
            found = self._ready_images(task) if ready else self.bare_images(task, split)
            classes = len(self.head(task)) if self.suite.measurable(task) else None
            if classes is not None and found.labels.max() >= classes:
                raise SuiteError(
                    f"task {task!r}, {split} split: labels run to {found.labels.max()}, "
                    f"the head has {classes} classes, so expected 0 to {classes - 1}"
                )
            if shift is not None and not ready:
                found = shifted_images(found, shift, self.cache, self.image_limit)
            self._sets[key] = found
        return self._sets[key]

    def _set_of(self, task: str, split: Split) -> tuple[str, Split, str]:
        """By what a set of images is known here: task, split, and what is done to them."""
        return task, split, shift_text(self.shift if split == "test" else CLEAN)

    def bare_images(self, task: str, split: Split) -> ImageSet:
        """As :meth:`image_set`, always clean, and without a look at the head."""
        if (task, split) not in self._bare:
            self._bare[task, split] = load_images(
                self.suite, task, split, self.input.size, self.cache, self.image_limit
            )
        return self._bare[task, split]

    def _ready_images(self, task: str) -> ImageSet:
        """Test images as the data set carries them corrupted.

        Raises:
            SuiteError: they are others than its own, so that what the corruption does could not be told from these.
        """
        assert isinstance(self.shift, Shift)
        found = load_images(
            self.suite, task, "test", self.input.size, self.cache, self.image_limit, self.shift.corruption
        )
        clean = self.bare_images(task, "test")
        if not np.array_equal(found.labels, clean.labels):
            raise SuiteError(
                f"task {task!r}: the data set's split {self.shift.corruption} has {len(found)} images whose labels are "
                f"not those of its {len(clean)} test images, one by one; expected the same images, corrupted"
            )
        return found

    def count(self, task: str, split: Split) -> int:
        """Number of images of a task and split."""
        return len(self.image_set(task, split))

    @property
    def skipped(self) -> dict[str, dict[str, int]]:
        """Split → task → number of images that can't be read and are left out, of those that were asked for."""
        found: dict[str, dict[str, int]] = {}
        for (task, split, _), images in self._sets.items():
            if images.skipped:
                found.setdefault(split, {})[task] = images.skipped
        return found

    def data_warnings(self, tasks: Collection[str] | None = None, split: Split | None = None) -> list[str]:
        """What is odd or assumed about the images and heads that were asked for, in sentences that say whose they are.

        Args:
            tasks: only those of these tasks.
            split: only those of this split.
        """
        found: dict[str, dict[str, dict[str, None]]] = {}  # sentence → split → tasks
        for (task, of, _), images in self._sets.items():
            if (tasks is None or task in tasks) and split in (None, of):
                for sentence in images.origin.warnings:
                    found.setdefault(sentence, {}).setdefault(of, {})[task] = None
        said = [f"{whose(places)}: {sentence}" for sentence, places in found.items()]
        for task, head in self._heads.items():
            if tasks is None or task in tasks:
                said += [f"head of {task}: {odd}" for odd in odd_rows(head, self.suite.task(task).classes)]
        return said

    def draw(self, task: str, split: Split, images: int, seed: int) -> np.ndarray:
        """Sorted indices of at most so many images, drawn without replacement by the seed and the task's name alone."""
        random = np.random.default_rng([seed, *task.encode()])
        return np.sort(random.permutation(self.count(task, split))[:images])

    def skipped_of(self, tasks: Sequence[str], split: Split) -> dict[str, int]:
        """Task → number of images of a split that are left out, where there are some."""
        return {task: number for task, number in self.skipped.get(split, {}).items() if task in tasks}

    def head(self, task: str) -> torch.Tensor:
        """The frozen classifier of a task on the device: ``[classes, embed_dim]``, rows of norm 1.

        Raises:
            SuiteError: the file holds no such matrix.
        """
        if task not in self._heads:
            self._heads[task] = load_head(self.suite, task, self.cache, self.device).to(self.device, self.dtype)
        return self._heads[task]

    def images(self, task: str, split: Split, indices: np.ndarray | slice) -> torch.Tensor:
        """Normalised images on the device, ``[N, 3, size, size]``."""
        kept = self._kept_pixels(task, split)
        if kept is None:
            pixels = torch.from_numpy(np.array(self.image_set(task, split).pixels[indices])).to(self.device)
        else:
            pixels = kept[indices if isinstance(indices, slice) else torch.from_numpy(indices).to(self.device)]
        mean, std = self._normalisation
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).to(self.dtype)

    @cached_property
    def _normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation ``[3]`` on the device."""
        return torch.tensor(self.input.mean, device=self.device), torch.tensor(self.input.std, device=self.device)

    def _kept_pixels(self, task: str, split: Split) -> torch.Tensor | None:
        """All images of a task on a GPU, uint8 ``[N, size, size, 3]``; None on the CPU, or where they do not fit.

        Of several shifts of them only the last one stays there.
        """
        wanted = self._set_of(task, split)[-1]
        if self._pixels.get((task, split), ("", None))[0] != wanted:
            self._pixels.pop((task, split), None)
            pixels = self.image_set(task, split).pixels
            fits = keeps_images(self.device) and pixels.nbytes <= _SHARE * free_memory(self.device)
            self._pixels[task, split] = wanted, torch.from_numpy(np.array(pixels)).to(self.device) if fits else None
        return self._pixels[task, split][1]

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Write weights into the tower: all floating-point tensors, so that none of an earlier model is left.

        Raises:
            MismatchedCheckpoint: other names or shapes than the tower's, or whole numbers.
        """
        own = self.tower.state_dict()
        lacking = {name for name, tensor in own.items() if tensor.is_floating_point()} - state.keys()
        reshaped = {name for name in own.keys() & state.keys() if state[name].shape != own[name].shape}
        whole = {name for name in own.keys() & state.keys() if _whole(state[name]) and not _whole(own[name])}
        wrong = differences(
            {
                "missing": lacking,
                "unexpected": state.keys() - own.keys(),
                "of another shape": reshaped,
                "of whole numbers": whole,
            }
        )
        if wrong:
            first = min(reshaped, default="")
            file = f"{state.path.name}: " if isinstance(state, Checkpoint) else ""
            sizes = f"; {first!r} is {list(state[first].shape)}, expected {list(own[first].shape)}" if first else ""
            raise MismatchedCheckpoint(f"{file}not the weights of {self.suite.architecture_label}: {wrong}{sizes}")
        for name, tensor in state.items():
            own[name].copy_(tensor)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised embeddings ``[N, embed_dim]``."""
        with full_precision():
            return torch.nn.functional.normalize(self.tower(images), dim=-1)

    def logits(self, task: str, features: torch.Tensor) -> torch.Tensor:
        """``logit_scale · features · headᵀ``, float32 ``[N, classes]``."""
        return self.suite.logit_scale * (features @ self.head(task).T).float()

    def accuracy(
        self,
        state: Mapping[str, torch.Tensor],
        tasks: Sequence[str],
        split: Split = "test",
        context: Work | None = None,
        on_predicted: Callable[[str, np.ndarray], None] = lambda task, classes: None,
    ) -> Accuracy:
        """Top-1 accuracy of one set of weights on every task.

        Args:
            state: weights of the whole tower; integer buffers may be left out.
            tasks: which tasks.
            split: which images.
            context: progress and cancellation.
            on_predicted: given each task and what is predicted for its images, as :meth:`predictions` gives it.

        Raises:
            MissingPart: a task has no images or head.
            MismatchedCheckpoint: the weights are not those of this tower.
            NonFiniteWeights: they give NaN.
        """
        self.require(tasks, split)
        self.load(state)
        per_task = {}
        for done, task in enumerate(tasks):
            if context is not None:
                context.step(done, len(tasks), f"evaluating on {task}")
            predicted = self.predictions(task, split)
            per_task[task] = self._share(predicted, task, split)
            on_predicted(task, predicted)
        counts = {task: self.count(task, split) for task in tasks}
        return Accuracy(per_task, counts, split, self.skipped_of(tasks, split))

    def predictions(self, task: str, split: Split, indices: np.ndarray | None = None) -> np.ndarray:
        """Class indices that the tower, as it is loaded, predicts: int64 ``[N]``.

        Args:
            task: which task.
            split: which images.
            indices: which of them, such as :meth:`draw` gives; all by default.

        Raises:
            NonFiniteWeights: the tower's weights give NaN.
        """
        return self._predictions({task: indices}, split)[task]

    def _predictions(self, asked: Mapping[str, np.ndarray | None], split: Split) -> dict[str, np.ndarray]:
        found = self._outputs(asked, split, lambda logits, labels: logits.argmax(dim=1))
        return {task: classes.numpy() for task, classes in found.items()}

    def share_right(self, task: str, split: Split, indices: np.ndarray | None = None) -> float:
        """Top-1 accuracy of the tower, as it is loaded, on a task's images or on some of them, 0 … 1.

        Raises:
            NonFiniteWeights: as :meth:`predictions`.
        """
        return self.shares_right({task: indices}, split)[task]

    def shares_right(self, asked: Mapping[str, np.ndarray | None], split: Split) -> dict[str, float]:
        """The same of several tasks at once, which keeps all threads at work where each has few images.

        Args:
            asked: task → which of its images; all where that is None.
            split: which images.
        """
        found = self._predictions(asked, split)
        return {task: self._share(found[task], task, split, indices) for task, indices in asked.items()}

    def _share(self, predicted: np.ndarray, task: str, split: Split, indices: np.ndarray | None = None) -> float:
        return float((predicted == self._labels(task, split, indices)).mean())

    def loss_and_accuracy(self, task: str, split: Split, indices: np.ndarray | None = None) -> tuple[float, float]:
        """Mean cross-entropy in nats and top-1 accuracy (0 … 1) of the tower as it is loaded.

        Raises:
            NonFiniteWeights: as :meth:`predictions`.
        """

        def both(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            return torch.stack([losses, (logits.argmax(dim=1) == labels).float()], dim=1)

        loss, accuracy = self._outputs({task: indices}, split, both)[task].double().mean(dim=0).tolist()
        return loss, accuracy

    def _labels(self, task: str, split: Split, indices: np.ndarray | None) -> np.ndarray:
        labels = self.image_set(task, split).labels
        return labels if indices is None else labels[indices]

    def _outputs(
        self,
        asked: Mapping[str, np.ndarray | None],
        split: Split,
        reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Task → what ``reduce`` makes of logits ``[n, classes]`` and labels ``[n]``, for all images, on the CPU."""
        labels = {}
        for task, indices in asked.items():
            self.head(task)  # loaded before several threads ask for it, as are
            self._kept_pixels(task, split)
            labels[task] = torch.as_tensor(self._labels(task, split, indices), dtype=torch.int64, device=self.device)

        def run(images: int) -> dict[str, torch.Tensor]:
            """The same with so many images in a pass."""

            @torch.inference_mode()
            def batch(piece: tuple[str, slice]) -> tuple[torch.Tensor, torch.Tensor]:
                task, part = piece
                indices = asked[task]
                chosen = part if indices is None else indices[part]
                logits = self.logits(task, self.features(self.images(task, split, chosen)))
                return reduce(logits, labels[task][part]), torch.isfinite(logits).all()

            pieces = [(task, slice(at, at + images)) for task in asked for at in range(0, len(labels[task]), images)]
            found: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {task: [] for task in asked}
            for (task, _), result in zip(pieces, ordered(batch, pieces, self.device), strict=True):
                found[task].append(result)
            for task, results in found.items():
                if not bool(torch.stack([finite for _, finite in results]).all()):  # asked once: a GPU works on
                    raise NonFiniteWeights(
                        f"task {task!r}: the model's output is NaN or infinite; its weights are, "
                        f"or they overflow {self.dtype}"
                    )
            return {task: torch.cat([output for output, _ in results]).cpu() for task, results in found.items()}

        return self.batch.fit(run)


def _whole(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point()


def evaluation_key(model: Sequence[str], evaluator: Evaluator, task: str, split: Split, device: str = "") -> str:
    """Names what a model does on a task's images, by the content of everything it depends on; 64 hex digits.

    Args:
        model: what identifies the model.
        evaluator: its images, head, device and precision.
        task: which task.
        split: which of its images.
        device: the kind of device that the model was on, where that is not the evaluator's.
    """
    head = evaluator.head(task).float().cpu().numpy().tobytes()
    parts = [
        *model,
        evaluator.image_set(task, split).fingerprint,
        hashlib.sha256(head).hexdigest(),
        str(evaluator.input),
        str(evaluator.suite.architecture),
        str(evaluator.dtype),
        device or evaluator.device.type,
        *map(str, evaluator.suite.beside_architecture.items()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
