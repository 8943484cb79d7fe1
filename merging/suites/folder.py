"""What lies in a folder of checkpoints: weights, heads and images, told apart by their names and places."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merging.core.errors import CheckpointError, SuiteError
from merging.core.files import MODEL_FILES
from merging.core.text import natural
from merging.suites.images.folders import is_systems
from merging.weights.files.adapter_config import LINEARISED
from merging.weights.files.adapters import adapter_in, is_adapter
from merging.weights.files.folders import INDEX, in_shards, is_index, is_training_state, named_shards, weight_suffix

_DEPTH = 5  # of folders that are looked into, as of cars/lightning_logs/version_0/checkpoints/last.ckpt
SPLITS = {"train", "val", "test"}
# Names that say nothing of the task: the folder around says it.
_GENERIC = re.compile(
    r"(finetuned|fine[-_]tuned|model|checkpoints?|weights|(open_clip_)?(pytorch_)?model|((linearized_)?adapter_)?model"
    r"|images?|data|lightning_logs|version[-_]?\d+"
    r"|((best|last|latest|final)([-_](model|checkpoint))?)|(model|checkpoint|epoch)[-_](best|last|latest|final)|(checkpoint|epoch|step|iter)[-_=]?\d+([-_]step[-_=]?\d+)?)$",
    re.IGNORECASE,
)
# What stands around a task's name in that of a file: the model, how far its training is
_AROUND = (
    r"(openai[-_])?(clip[-_]?)?vit[-_]?(bigg|base|large|huge|giant|[blhg])[-_]?(patch)?\d{2}([-_@]\d{3})?(px)?([-_]quickgelu)?"
    r"|laion[-_]?(400m|2b|5b)([-_]s\d+b)?([-_]b\d+k)?"
    r"|(full[-_])?(fine[-_]?tuned?|ft)([-_]on)?|clip|best|last|latest|final|model|checkpoint|ckpt|weights|ema"
    r"|(epoch|step)[-_=]?\d+|((val|train|test)_)?[^\W_]+=\d+(\.\d+)?"
)
_BEFORE = re.compile(rf"^({_AROUND})[-_.]+(?=[^\W_])", re.IGNORECASE)
_AFTER = re.compile(rf"(?<=[^\W_])[-_.]+({_AROUND})$", re.IGNORECASE)
_BASE = re.compile(r"(base|zero[-_]?shot|pre[-_]?trained|openai)([-_. ]|$)", re.IGNORECASE)
_HEAD = re.compile(r"head([-_.](?P<before>.+))?|(?P<after>.+)[-_.]head", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """Files and folders of images, by what they are; all paths are relative to the folder.

    Attributes:
        weights: weight files that are no heads; of a model in shards the index.
        heads: name of the task → its head.
        images: name of the task → an ``.npz`` file, or a folder ``split/class/image`` or of parquet files.
        passed_over: weight files that say the same as one of ``weights``, and what is no model → why.
    """

    weights: list[Path] = field(default_factory=list)
    heads: dict[str, Path] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)

    def head(self, task: str) -> Path | None:
        """The head of a task, whatever the spelling of its name."""
        return _by_name(self.heads, task)

    def images_of(self, task: str) -> Path | None:
        """The images of a task, whatever the spelling of its name."""
        return _by_name(self.images, task)


def look(folder: Path) -> Contents:
    """Sort what lies in a folder, down to five folders deep; image folders are not walked through.

    Raises:
        SuiteError: there is no such folder.
    """
    if not folder.is_dir():
        raise SuiteError(f"{folder.name}: no such folder; expected one that holds checkpoints")
    found = Contents()
    states: Counter[str] = Counter()
    inside = list(_walk(folder, _DEPTH))
    parts = {path.parent / name for path in inside if is_index(path) for name in _shards(path)}
    for path in inside:
        if is_training_state(path):
            states[path.name] += 1
            continue
        if path in parts:
            continue  # the index stands for it
        beside = _instead(path)
        if beside is not None:
            found.passed_over[path.relative_to(folder).as_posix()] = f"{beside} beside it is taken"
            continue
        relative = path.relative_to(folder)
        head = _HEAD.fullmatch(relative.stem)
        if path.is_dir() or path.suffix == ".npz":
            found.images.setdefault(label(relative), relative)
        elif is_head(relative):
            name = (head["before"] or head["after"] or relative.parent.name) if head else relative.stem
            found.heads.setdefault(name, relative)
        else:
            found.weights.append(relative)
    for name, count in sorted(states.items()):
        found.passed_over[name if count == 1 else f"{count} × {name}"] = "what a training keeps besides; never opened"
    return found


def is_head(path: Path) -> bool:
    """Whether a file is named, or lies, as the head of a task.

    >>> is_head(Path("head_SUN397.pt")), is_head(Path("heads/digits.pt")), is_head(Path("headlights.pt"))
    (True, True, False)
    """
    return bool(_HEAD.fullmatch(path.stem)) or path.parent.name == "heads"


def _shards(index: Path) -> Mapping[str, frozenset[str]]:
    """What an index names; nothing if it is broken, which is said where it is opened."""
    try:
        return named_shards(index)
    except CheckpointError:
        return {}


def _instead(path: Path) -> str | None:
    """Which other file of its folder says what this weight file says: a shard's index, or a safer format."""
    if is_adapter(path) and path.name != LINEARISED:
        taken = adapter_in(path.parent)
        return taken.name if taken not in (None, path) else None
    if path.name in MODEL_FILES:
        safer = MODEL_FILES[: MODEL_FILES.index(path.name)]
        return next((name for name in safer if (path.parent / name).is_file()), None)
    return next((index.name for index in sorted(path.parent.glob(f"*{INDEX}"))), None) if in_shards(path) else None


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
    inside = [path for path in inside if path.name not in SPLITS and os.access(path, os.R_OK)]
    if not (folder / "suite.yaml").exists() and (
        _holds_weights(folder) or (not outermost and sum(map(_holds_a_training, inside)) > 1)
    ):
        yield folder
    elif levels:
        for path in inside:
            yield from _checkpoint_folders(path, levels - 1, outermost=False)


def _holds_weights(folder: Path) -> bool:
    """Whether a weight file lies directly in a folder."""
    with os.scandir(folder) as entries:
        return any(weight_suffix(entry.name) and not entry.name.startswith(".") for entry in entries)


def _holds_a_training(folder: Path) -> bool:
    """Whether weights lie in a folder, or in one of the checkpoints in it that transformers' Trainer wrote."""
    return _holds_weights(folder) or any(_holds_weights(each) for each in folder.glob("checkpoint-*") if each.is_dir())


def label(path: Path) -> str:
    """What a file or folder is about: its name without the suffix, or the nearest folder's whose name says something.

    >>> label(Path("SUN397/finetuned.pt")), label(Path("digits.safetensors"))
    ('SUN397', 'digits')
    >>> label(Path("runs/cars/checkpoint-500/model.safetensors.index.json"))
    'cars'
    """
    name = path.name.removesuffix(INDEX)
    name = name.removesuffix(weight_suffix(name) or ".npz")
    for folder in path.parents:
        if not folder.name or not _GENERIC.match(name):
            break
        name = folder.name
    return name


def is_generic(path: Path) -> bool:
    """Whether neither a file's name nor its folders' say what it is about."""
    return bool(_GENERIC.match(label(path)))


def task_name(label: str, base: str = "") -> str:
    """What people would call a task whose model is called so: without the model's name and how it was trained.

    Args:
        label: what the file or folder is called.
        base: what the base is called.

    >>> task_name("clip-vit-base-patch32_sun397"), task_name("eurosat_finetuned"), task_name("best_ViT-L-14-336_dtd")
    ('sun397', 'eurosat', 'dtd')
    """
    told = base and label.startswith(base) and label[len(base) : len(base) + 1] in ("_", "-", ".")
    name, before = label[len(base) + 1 :] if told else label, ""
    while name != before:
        before = name
        name = _AFTER.sub("", _BEFORE.sub("", name))
    return name


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
        if path.is_file() and (weight_suffix(path.name) or path.suffix == ".npz" or is_index(path)):
            yield path
    for path in entries:
        if not path.is_dir() or path.name in SPLITS or not os.access(path, os.R_OK):
            continue
        if any((path / split).is_dir() for split in SPLITS) or any(path.glob("*.parquet")):
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
