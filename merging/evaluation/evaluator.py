"""Accuracy of a visual tower with frozen heads, and the images that methods adapt on."""

import copy
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from merging.core.devices import free_memory, full_precision
from merging.core.errors import MergingError, MismatchedCheckpoint, MissingPart, NonFiniteWeights, SuiteError
from merging.core.memory import BatchSize
from merging.core.progress import Work
from merging.core.streaming import ordered
from merging.core.text import counted, in_a_row, shortened
from merging.core.wording import differences
from merging.evaluation import clip
from merging.evaluation.assumptions import require_agreement
from merging.evaluation.text_heads import text_head
from merging.suites.declared import Declared
from merging.suites.images.cache import DEFAULT_LIMIT
from merging.suites.images.image_sets import ImageSet, load_images
from merging.suites.images.shifts import CLEAN, AnyShift, Shift, shift_text, shifted_images
from merging.suites.suite import Split, Suite
from merging.weights.convert import of_one_norm
from merging.weights.files import Checkpoint

CPU_IMAGES = 25  # in one pass, a thread each
GPU_IMAGES = 512
_ALIKE = 3  # groups of equal rows of a head that are named
_SHARE = 0.25  # of a GPU's free memory that the images of a task may take
SAME_ACCURACY = 1e-9  # means of shares, 0 … 1, that differ by less are the same: an image counts more, rounding less


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy, 0 … 1.

    Attributes:
        per_task: task → accuracy.
        counts: task → number of images.
        split: which images.
        skipped: task → number of images that can't be read and are left out, where there are some.
    """

    per_task: dict[str, float]
    counts: dict[str, int]
    split: str
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def average(self) -> float:
        """Mean over tasks, each counting the same."""
        return self.mean(tuple(self.per_task))

    def mean(self, tasks: Sequence[str]) -> float:
        """Mean over some of the tasks, at least one."""
        return sum(self.per_task[task] for task in tasks) / len(tasks)

    @property
    def images(self) -> int:
        """Number of images over all tasks."""
        return sum(self.counts.values())


def keeps_images(device: torch.device) -> bool:
    """Whether a device has memory of its own, in which images are better off."""
    return device.type != "cpu"


def joined(parts: Sequence[Accuracy]) -> Accuracy:
    """Accuracies on different tasks and the same split as one."""
    per_task = {task: value for part in parts for task, value in part.per_task.items()}
    counts = {task: value for part in parts for task, value in part.counts.items()}
    skipped = {task: value for part in parts for task, value in part.skipped.items()}
    return Accuracy(per_task, counts, parts[0].split, skipped)


def skipped_in_words(skipped: Mapping[str, Mapping[str, int]]) -> str:
    """Images that are left out of results as they can't be read: split → task → number, as a sentence.

    >>> skipped_in_words({"test": {"roads": 2, "digits": 1}}), skipped_in_words({})
    ("Left out, as they can't be read: 2 test images of roads, 1 test image of digits.", '')
    """
    each = [
        f"{counted(number, f'{split} image')} of {task}"
        for split, tasks in skipped.items()
        for task, number in tasks.items()
    ]
    return f"Left out, as they can't be read: {', '.join(each)}." if each else ""


def about_images(skipped: Mapping[str, Mapping[str, int]], warnings: Iterable[str]) -> str:
    """What a reader of numbers has to know of the images behind them, in sentences; empty if nothing.

    >>> about_images({"test": {"roads": 2}}, ["val images of roads: nearly black"])
    "Left out, as they can't be read: 2 test images of roads. Val images of roads: nearly black."
    """
    return " ".join(filter(None, [skipped_in_words(skipped), *(f"{one[:1].upper()}{one[1:]}." for one in warnings)]))


def _whose(places: Mapping[str, Iterable[str]]) -> str:
    """Split → tasks, in words.

    >>> _whose({"test": ["roads"], "val": ["roads"]}), _whose({"test": ["roads", "digits"], "val": ["roads"]})
    ('test and val images of roads', 'test images of roads and digits and val images of roads')
    """
    splits: dict[tuple[str, ...], list[str]] = {}
    for split, tasks in places.items():
        splits.setdefault(tuple(tasks), []).append(split)
    return in_a_row(f"{in_a_row(those)} images of {in_a_row(tasks)}" for tasks, those in splits.items())


def normalised_accuracy(accuracy: Mapping[str, float], individual: Mapping[str, float]) -> float | None:
    """Normalised accuracy: the mean over tasks of accuracy divided by that of the task's own model.

    As in the papers of TALL masks (arXiv 2405.07813) and TSV-M (arXiv 2412.00081): the mean of the ratios, not the
    ratio of the means, so that every task counts the same, however hard it is.

    Args:
        accuracy: task → accuracy of the merged model, 0 … 1.
        individual: task → accuracy of the model fine-tuned on it, 0 … 1, for at least the same tasks.

    Returns:
        1 for what one model a task reaches; None if a task's own accuracy is not known, or 0.
    """
    if not accuracy or not all(individual.get(task) for task in accuracy):
        return None
    return sum(value / individual[task] for task, value in accuracy.items()) / len(accuracy)


def best_first(values: Sequence[float]) -> list[int]:
    """Places of accuracies, the largest first; those that rounding alone sets apart stay in their order.

    The mean of 0.7 and 0.9 is not quite that of 0.8 and 0.8 in floating point, and which is larger is no finding.

    >>> best_first([0.5, 0.9 - 1e-16, 0.9])
    [1, 2, 0]
    """
    falling = sorted(range(len(values)), key=lambda index: -values[index])
    groups: list[list[int]] = []
    for index in falling:
        if groups and values[groups[-1][0]] - values[index] <= SAME_ACCURACY:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [index for group in groups for index in sorted(group)]


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
        said = [f"{_whose(places)}: {sentence}" for sentence, places in found.items()]
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
    ) -> Accuracy:
        """Top-1 accuracy of one set of weights on every task.

        Args:
            state: weights of the whole tower; integer buffers may be left out.
            tasks: which tasks.
            split: which images.
            context: progress and cancellation.

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
            per_task[task] = self.share_right(task, split)
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
        found: np.ndarray = self._outputs(task, split, indices, lambda logits, labels: logits.argmax(dim=1)).numpy()
        return found

    def share_right(self, task: str, split: Split, indices: np.ndarray | None = None) -> float:
        """Top-1 accuracy of the tower, as it is loaded, on a task's images or on some of them, 0 … 1.

        Raises:
            NonFiniteWeights: as :meth:`predictions`.
        """
        return float((self.predictions(task, split, indices) == self._labels(task, split, indices)).mean())

    def loss_and_accuracy(self, task: str, split: Split, indices: np.ndarray | None = None) -> tuple[float, float]:
        """Mean cross-entropy in nats and top-1 accuracy (0 … 1) of the tower as it is loaded.

        Raises:
            NonFiniteWeights: as :meth:`predictions`.
        """

        def both(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            return torch.stack([losses, (logits.argmax(dim=1) == labels).float()], dim=1)

        loss, accuracy = self._outputs(task, split, indices, both).double().mean(dim=0).tolist()
        return loss, accuracy

    def _labels(self, task: str, split: Split, indices: np.ndarray | None) -> np.ndarray:
        labels = self.image_set(task, split).labels
        return labels if indices is None else labels[indices]

    def _outputs(
        self,
        task: str,
        split: Split,
        indices: np.ndarray | None,
        reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """What ``reduce`` makes of logits ``[n, classes]`` and labels ``[n]``, for all images, on the CPU."""
        self.head(task)  # loaded before several threads ask for it, as are
        self._kept_pixels(task, split)
        labels = torch.as_tensor(self._labels(task, split, indices), dtype=torch.int64, device=self.device)

        def run(images: int) -> torch.Tensor:
            """The same with so many images in a pass."""

            @torch.inference_mode()
            def batch(start: int) -> tuple[torch.Tensor, torch.Tensor]:
                part = slice(start, start + images)
                chosen = part if indices is None else indices[part]
                logits = self.logits(task, self.features(self.images(task, split, chosen)))
                return reduce(logits, labels[part]), torch.isfinite(logits).all()

            found, finite = zip(*ordered(batch, range(0, len(labels), images), self.device), strict=True)
            if not bool(torch.stack(finite).all()):  # asked once: a GPU works on while nobody waits for it
                raise NonFiniteWeights(
                    f"task {task!r}: the model's output is NaN or infinite; its weights are, "
                    f"or they overflow {self.dtype}"
                )
            return torch.cat(found).cpu()

        return self.batch.fit(run)


def load_head(
    suite: Suite, task_name: str, cache: Path | None = None, device: torch.device | None = None
) -> torch.Tensor:
    """Head of a task, float32 ``[classes, embed_dim]`` on the CPU: from its file, else from the text tower.

    Args:
        suite: the suite.
        task_name: one of its tasks.
        cache: folder where heads built from text are kept.
        device: where the text tower runs; the CPU by default.

    Raises:
        SuiteError: the file holds no matrix ``weight`` with a row per class and a column per feature, or a bias.
    """
    if suite.task(task_name).head is None:
        return text_head(suite, task_name, cache, device)
    return torch.nn.functional.normalize(_stored_head(suite, task_name), dim=1)


def odd_rows(head: torch.Tensor, classes: Sequence[str]) -> Iterator[str]:
    """What to say of classes that no image can be recognised as, given a head ``[classes, embed_dim]``."""
    zero = int((head == 0).all(dim=1).sum())
    if zero:
        yield f"{zero} of {len(head)} rows are zero: no image is recognised by them"
    rows: dict[bytes, list[int]] = {}
    for label, row in enumerate(head.float().cpu().numpy()):
        if row.any():
            rows.setdefault(row.tobytes(), []).append(label)
    alike = [labels for labels in rows.values() if len(labels) > 1]
    for first, *others in alike[:_ALIKE]:
        called = f" ({in_a_row(repr(classes[label][:60]) for label in (first, *others))})" if classes else ""
        yield (
            f"classes {in_a_row(map(str, (first, *others)))}{called}, counted from 0, have the same row, so that no "
            f"image is ever taken for {in_a_row(map(str, others))}"
        )
    if len(alike) > _ALIKE:
        yield f"{len(alike) - _ALIKE} more rows are there several times"


def head_norm(suite: Suite, task_name: str) -> float | None:
    """The norm of the rows of a task's head in its file; None of one that is built from text.

    Raises:
        SuiteError: as :func:`load_head`.
    """
    if suite.task(task_name).head is None:
        return None
    norms = _stored_head(suite, task_name).norm(dim=1)
    return float(norms[norms > 0].mean()) if bool(norms.any()) else None


def _stored_head(suite: Suite, task_name: str) -> torch.Tensor:
    """The matrix in a task's file of a head, float32, with rows of one norm; raises as :func:`load_head`."""
    task = suite.task(task_name)
    assert task.head is not None
    stored = suite.open(task.head, "all")
    if "weight" not in stored or stored["weight"].ndim != 2:
        held = shortened([*map(repr, stored)], 4)
        raise SuiteError(f"{task.head}: expected a tensor 'weight' [classes, embed_dim]; it holds {held}")
    weight = stored["weight"].float()
    if task.classes and len(weight) != len(task.classes):
        turned = "; it looks transposed" if weight.shape[1] == len(task.classes) else ""
        raise SuiteError(
            f"{task.head}: {len(weight)} rows for {len(task.classes)} classes of task {task_name!r}; 'weight' is "
            f"{list(weight.shape)}, expected [classes, embed_dim]{turned}"
        )
    columns = clip.config(suite)["embed_dim"]
    if weight.shape[1] != columns:
        raise SuiteError(
            f"{task.head}: 'weight' is {list(weight.shape)}; expected {columns} numbers a class"
            f"{_wrong_architecture(suite, weight.shape[1])}"
        )
    if not bool(torch.isfinite(weight).all()):
        raise SuiteError(f"{task.head}: 'weight' holds NaN or infinity; build the head again")
    if "bias" in stored and bool(stored["bias"].any()):
        raise SuiteError(
            f"{task.head}: holds a 'bias' that is not zero, as a linear probe has; heads of a suite have none, and "
            "without it other accuracies come out; train the head without a bias, or build it from the class names"
        )
    norms = weight.norm(dim=1)
    some = norms[norms > 0]
    if len(some) and not of_one_norm(some):
        raise SuiteError(
            f"{task.head}: rows of 'weight' have norms from {float(some.min()):.3g} to {float(some.max()):.3g}; in a "
            "suite all have one norm, as those built from text have, and other accuracies come out where they are made "
            "so; train the head with rows of one norm, or build it from the class names"
        )
    return weight


def _whole(tensor: torch.Tensor) -> bool:
    return not tensor.is_floating_point()


def _wrong_architecture(suite: Suite, columns: int) -> str:
    """What to say of a head that fits the base model and not the suite's architecture; empty for other heads."""
    try:
        own = suite.base_checkpoint.infos.get("proj")
    except MergingError:
        return ""
    if own is None or own.shape[-1] != columns:
        return ""
    return (
        f" by {suite.architecture_label}, while the base {suite.base} has {columns} outputs too; "
        "check `architecture` in suite.yaml"
    )


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
