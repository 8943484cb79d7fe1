"""What lies in a folder of checkpoints: weights, heads and images, told apart by their names and places."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from merging.core.errors import SuiteError
from merging.suites.images.class_folders import natural
from merging.suites.images.folders import is_systems

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_DEPTH = 3  # of folders that are looked into
_SPLITS = {"train", "val", "test"}
# Names that say nothing of the task: the folder around says it.
_GENERIC = re.compile(
    r"(finetuned|fine[-_]tuned|model|checkpoint|weights|(open_clip_)?(pytorch_)?model|images?|data)$", re.IGNORECASE
)
_BASE = re.compile(r"(base|zero[-_]?shot|pre[-_]?trained|openai)([-_. ]|$)", re.IGNORECASE)
_HEAD = re.compile(r"head([-_.](?P<before>.+))?|(?P<after>.+)[-_.]head", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """Files and folders of images, by what they are; all paths are relative to the folder.

    Attributes:
        weights: weight files that are no heads.
        heads: name of the task → its head.
        images: name of the task → an ``.npz`` file, or a folder ``split/class/image`` or of parquet files.
    """

    weights: list[Path] = field(default_factory=list)
    heads: dict[str, Path] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)

    def head(self, task: str) -> Path | None:
        """The head of a task, whatever the spelling of its name."""
        return _by_name(self.heads, task)

    def images_of(self, task: str) -> Path | None:
        """The images of a task, whatever the spelling of its name."""
        return _by_name(self.images, task)


def look(folder: Path) -> Contents:
    """Sort what lies in a folder, down to three folders deep; image folders are not walked through.

    Raises:
        SuiteError: there is no such folder.
    """
    if not folder.is_dir():
        raise SuiteError(f"{folder.name}: no such folder; expected one that holds checkpoints")
    found = Contents()
    for path in _walk(folder, _DEPTH):
        relative = path.relative_to(folder)
        head = _HEAD.fullmatch(relative.stem)
        if path.is_dir() or path.suffix == ".npz":
            found.images.setdefault(label(relative), relative)
        elif head or relative.parent.name == "heads":
            name = (head["before"] or head["after"] or relative.parent.name) if head else relative.stem
            found.heads.setdefault(name, relative)
        else:
            found.weights.append(relative)
    return found


def checkpoint_folders(root: Path) -> list[Path]:
    """Folders up to two levels below ``root``, or itself, that hold checkpoints and no ``suite.yaml`` yet, sorted.

    Checkpoints lie in the folder itself, or in at least two folders in it (a folder a model). Folders within one that
    is found, or that is a suite, are not looked at.
    """
    return list(_checkpoint_folders(root, levels=2, outermost=True)) if root.is_dir() else []


def _checkpoint_folders(folder: Path, levels: int, outermost: bool) -> Iterator[Path]:
    if (folder / "suite.yaml").exists() and not outermost:
        return
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    inside = [path for path in inside if path.name not in _SPLITS and os.access(path, os.R_OK)]
    if not (folder / "suite.yaml").exists() and (
        _holds_weights(folder) or (not outermost and sum(map(_holds_weights, inside)) > 1)
    ):
        yield folder
    elif levels:
        for path in inside:
            yield from _checkpoint_folders(path, levels - 1, outermost=False)


def _holds_weights(folder: Path) -> bool:
    """Whether a weight file lies directly in a folder."""
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(WEIGHT_SUFFIXES) and not entry.name.startswith(".") for entry in entries)


def label(path: Path) -> str:
    """What a file or folder is about: its name without the suffix, or its folder's where the name says nothing.

    >>> label(Path("SUN397/finetuned.pt")), label(Path("digits.safetensors"))
    ('SUN397', 'digits')
    """
    stem = path.name.removesuffix(path.suffix) if path.suffix in (*WEIGHT_SUFFIXES, ".npz") else path.name
    return path.parent.name if _GENERIC.match(stem) and path.parent.name else stem


def base_candidates(weights: list[Path]) -> list[Path]:
    """Weight files that may be the pre-trained model, by their names; of those in nested folders the outermost.

    A file whose name is the beginning of all others' counts too (``clip-vit-base-patch32`` beside
    ``clip-vit-base-patch32_sun397``), as on the Hugging Face hub.
    """
    named = [path for path in weights if _BASE.match(label(path))]
    if not named:
        labels = {path: label(path) for path in weights}
        named = [
            path
            for path in weights
            if len(weights) > 1
            and all(labels[other].startswith(f"{labels[path]}_") for other in weights if other != path)
        ]
    depth = min((len(path.parts) for path in named), default=0)
    return [path for path in named if len(path.parts) == depth]


def is_named_as_base(path: Path) -> bool:
    """Whether a weight file's name says that it is a pre-trained model."""
    return bool(_BASE.match(label(path)))


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders of an image folder ``split/class/image``, sorted; numbers as numbers."""
    for split in ("test", "val", "train"):
        if (folder / split).is_dir():
            inside = (path.name for path in (folder / split).iterdir() if path.is_dir() and not is_systems(path.name))
            names = sorted(inside)
            return sorted(names, key=natural) if all(name.isascii() and name.isdecimal() for name in names) else names
    return []


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Weight files, ``.npz`` files and folders of images or parquet files, sorted."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in entries:
        if path.is_file() and path.suffix in (*WEIGHT_SUFFIXES, ".npz"):
            yield path
    for path in entries:
        if not path.is_dir() or path.name in _SPLITS or not os.access(path, os.R_OK):
            continue
        if any((path / split).is_dir() for split in _SPLITS) or any(path.glob("*.parquet")):
            yield path
        if depth > 1:
            yield from _walk(path, depth - 1)


def _by_name(paths: dict[str, Path], task: str) -> Path | None:
    spelt = {plain(name): path for name, path in paths.items()}
    return spelt.get(plain(task))


def plain(name: str) -> str:
    """A name without what people spell differently: case, spaces, hyphens.

    >>> plain("Stanford-Cars"), plain("stanford_cars")
    ('stanfordcars', 'stanfordcars')
    """
    return re.sub(r"[\W_]", "", name).lower()
