"""How often a task's own model is right, set beside chance: what shows classes in a wrong order without being told."""

from dataclasses import dataclass

import numpy as np

from merging.evaluation.evaluator import Evaluator
from merging.weights.files import Checkpoint

MOST_IMAGES, FEWEST_IMAGES = 96, 24
_QUICK = 1e10  # images × weights that take a CPU some seconds
_SEED = 0
_TIMES_CHANCE = 3
_A_CLASS = 4  # images a class from which on it can be told whether the classes stand in another order
_ENOUGH = 40  # images below which that is not tried


@dataclass(frozen=True)
class Sanity:
    """What a task's own model does on some test images of its task.

    Attributes:
        right: share of them that it is right on, 0 … 1.
        images: how many there are.
        classes: how many classes the head has.
        reordered: the share that it would be right on with classes in another order, 0 … 1, see :func:`reordered`.
    """

    right: float
    images: int
    classes: int
    reordered: float | None = None

    @property
    def text(self) -> str:
        """The numbers, as a sentence."""
        return (
            f"the task's own model is right on {100 * self.right:.1f} % of {self.images} test images; "
            f"chance is {100 / self.classes:.3g} %"
        )

    @property
    def warning(self) -> str:
        """What is most likely wrong; empty if nothing seems to be."""
        if self.right >= floor(self.classes):
            return ""
        if self.reordered is not None:
            cause = (
                f"the classes stand in the wrong order: in another one it would be right on "
                f"{100 * self.reordered:.0f} %; compare which folder or label is which class with the head's rows"
            )
        else:
            cause = (
                "likely causes: classes in the wrong order, the wrong activation (QuickGELU or GELU) or number of "
                "heads (see `architecture`), images of 16 bits whose values fill little of them (see `range`), or the "
                "head of another model or data set"
            )
        return (
            f"{100 * self.right:.1f} % is hardly what a fine-tuned model does (expected at least "
            f"{100 * floor(self.classes):.3g} % with {self.classes} classes): {cause}"
        )


def floor(classes: int) -> float:
    """The accuracy below which a fine-tuned model is doubtful, 0 … 1.

    Three times chance; with fewer than five classes, where that is nearly or more than all, half of the way from chance
    to all.

    >>> floor(10), floor(5), floor(2), floor(1)
    (0.3, 0.6, 0.75, 1.0)
    """
    chance = 1 / classes
    return round(min(_TIMES_CHANCE * chance, (1 + chance) / 2), 12)


def sanity(evaluator: Evaluator, checkpoint: Checkpoint, task: str) -> Sanity:
    """Try a task's own model on test images drawn by a fixed seed: 96, fewer where a CPU would take long.

    Raises:
        MergingError: the model, the head or the images can't be used.
    """
    evaluator.load(checkpoint)
    indices = evaluator.draw(task, "test", _images(evaluator), _SEED)
    predicted = evaluator.predictions(task, "test", indices)
    labels = evaluator.image_set(task, "test").labels[indices]
    classes = len(evaluator.head(task))
    return Sanity(float((predicted == labels).mean()), len(labels), classes, reordered(predicted, labels, classes))


def reordered(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float | None:
    """The share of images that would be right if every class predicted stood for the label that it mostly goes with.

    Args:
        predicted: int64 ``[N]``.
        labels: int64 ``[N]``.
        classes: how many there are.

    Returns:
        Measured on every other image, after the others said which label that is. None with too few images, or where
        the most frequent label alone explains it.
    """
    if len(labels) < max(_ENOUGH, _A_CLASS * classes):
        return None
    seen = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(seen, (predicted[::2], labels[::2]), 1)
    meant = np.where(seen.any(axis=1), seen.argmax(axis=1), -1)
    share = float((meant[predicted[1::2]] == labels[1::2]).mean())
    most = np.bincount(labels[1::2]).max() / len(labels[1::2])
    return share if share >= (1 + most) / 2 else None


def _images(evaluator: Evaluator) -> int:
    if evaluator.device.type != "cpu":
        return MOST_IMAGES
    weights = sum(tensor.numel() for tensor in evaluator.tower.state_dict().values())
    return max(FEWEST_IMAGES, min(MOST_IMAGES, int(_QUICK / weights)))
