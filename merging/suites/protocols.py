"""What others published beyond clean images of the merged tasks: unseen tasks, corrupted images.

For the FusionBench checkpoints of ViT-B-32 alone, with zero-shot heads: other weights, images or corruptions give other
numbers, so that these stand beside one's own and never among them. Sources: the repository of FusionBench
(https://github.com/tanganke/fusion_bench) and RegMean++ (https://arxiv.org/abs/2508.03121); the protocols are those of
AdaMerging (https://arxiv.org/abs/2310.02575). The zero-shot row of the second split is left out: its printed mean is
not that of its tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from merging.suites.reported import published_architecture
from merging.suites.suite import Suite

SOURCE = "FusionBench (github.com/tanganke/fusion_bench) and RegMean++ (arxiv.org/abs/2508.03121)"
_PUBLISHED = "fusion_bench", "ViT-B-32"


@dataclass(frozen=True)
class PublishedSplit:
    """One way of leaving tasks out that papers share.

    Attributes:
        seen: the tasks that are merged.
        unseen: those that are not.
        rows: method → mean over seen tasks, accuracy on each unseen task, their mean; in percent, as printed.
    """

    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]


SPLITS = {
    "exp1": PublishedSplit(
        ("SUN397", "Cars", "RESISC45", "DTD", "SVHN", "GTSRB"),
        ("MNIST", "EuroSAT"),
        {
            "Zero-shot": (46.9, 47.6, 45.6, 46.6),
            "Fisher merging": (71.4, 71.8, 49.4, 60.6),
            "RegMean": (80.1, 82.9, 44.6, 63.8),
            "RegMean++": (81.6, 81.3, 44.1, 62.7),
            "Task Arithmetic": (69.9, 75.5, 42.6, 59.1),
            "TIES": (68.9, 73.1, 47.3, 60.2),
            "AdaMerging": (80.5, 77.7, 47.3, 62.5),
        },
    ),
    "exp2": PublishedSplit(
        ("SUN397", "Cars", "GTSRB", "EuroSAT", "DTD", "MNIST"),
        ("RESISC45", "SVHN"),
        {
            "Fisher merging": (71.5, 60.2, 42.5, 51.3),
            "RegMean": (83.0, 49.4, 49.0, 49.2),
            "RegMean++": (83.8, 50.8, 54.8, 52.8),
            "Task Arithmetic": (73.8, 52.4, 45.2, 48.8),
            "TIES": (71.7, 60.3, 47.3, 53.8),
            "AdaMerging": (83.6, 48.7, 60.7, 54.7),
        },
    ),
}

CORRUPTED_TASKS = ("Cars", "EuroSAT", "RESISC45", "GTSRB")
CORRUPTED_COLUMNS = (
    *("clean", "motion_blur", "impulse_noise", "gaussian_noise"),
    *("pixelate", "spatter", "contrast", "jpeg_compression"),
)
CORRUPTED = {  # means over these four tasks in percent, as printed; what adapts did so on the corrupted images
    "Fisher merging": (80.3, 69.6, 59.7, 59.3, 29.1, 61.9, 67.0, 68.8),
    "RegMean": (89.1, 79.7, 69.1, 67.3, 37.1, 75.2, 78.0, 80.9),
    "RegMean++": (89.7, 81.8, 70.0, 68.4, 37.9, 75.9, 79.6, 82.8),
    "Task Arithmetic": (77.9, 65.9, 57.6, 59.8, 30.0, 63.3, 66.0, 67.8),
    "TIES": (73.5, 62.9, 53.5, 56.1, 27.9, 58.2, 63.7, 63.9),
    "AdaMerging": (88.5, 81.2, 68.0, 71.4, 41.5, 73.7, 79.9, 80.1),
}


def has_published_protocols(suite: Suite) -> bool:
    """Whether these numbers are about a suite's checkpoints."""
    return (suite.checkpoints, published_architecture(suite.architecture)) == _PUBLISHED


def published_split(suite: Suite, name: str) -> PublishedSplit | None:
    """A split of the literature by name; None if there is none of that name for a suite's checkpoints and tasks."""
    split = SPLITS.get(name)
    known = split is not None and {*split.seen, *split.unseen} <= set(suite.task_names)
    return split if known and has_published_protocols(suite) else None
