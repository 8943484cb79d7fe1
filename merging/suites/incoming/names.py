"""Which of the files that somebody hands in are taken, and where they go; paths are safe or refused."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from merging.core.errors import SuiteError
from merging.core.text import visible
from merging.core.yaml_text import CONTROL
from merging.suites.declared import CONFIGURATIONS
from merging.suites.folder import SPLITS, is_head, label
from merging.suites.images.folders import SUFFIXES, is_systems
from merging.weights.files.adapter_bases import CONFIG
from merging.weights.files.folders import in_shards, is_index, is_training_state, weight_suffix

SUITE = "suite.yaml"
AS_TEST = "{}: its class folders lie in no folder test or val; taken as test images"
_JSON = {*CONFIGURATIONS, CONFIG, "trainer_state.json"}
_DEEPEST = 10  # folders
_LONGEST = 255  # bytes of a name, in all file systems


def safe_path(name: str) -> PurePosixPath:
    r"""A path as a browser or an archive gives it, below the folder that it is put into.

    Raises:
        SuiteError: it leads out of that folder, or can't be the name of a file.

    >>> safe_path("models/./digits.safetensors").as_posix(), safe_path(r"models\digits.pt").as_posix()
    ('models/digits.safetensors', 'models/digits.pt')
    """
    shown = visible(name)[:120].replace("\n", " ")
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise SuiteError(f"{shown}: its path leads out of the folder that it is put into; pack it again without")
    if not parts or len(parts) > _DEEPEST or CONTROL.search(name) or "\n" in name or "\t" in name:
        raise SuiteError(
            f"{shown or 'a file without a name'}: expected a name without control characters, at most {_DEEPEST} "
            "folders deep; rename it"
        )
    try:
        longest = max(len(os.fsencode(part)) for part in parts)
    except UnicodeEncodeError:
        raise SuiteError(f"{shown}: its name can't be written as text; rename it") from None
    if longest > _LONGEST:
        raise SuiteError(f"{shown}…: a name of {longest} bytes; at most {_LONGEST} can be written; rename it")
    return PurePosixPath(*parts)


def is_taken(path: PurePosixPath, whole_suite: bool = False) -> bool:
    """Whether a file is of a kind that suites are made of: weights, what says something of them, images.

    Args:
        path: below what was handed in.
        whole_suite: whether a ``suite.yaml`` came with it, which may name files of any kind.

    >>> [is_taken(PurePosixPath(name)) for name in ("a.pt", "optimizer.pt", "vocab.json", "__MACOSX/a.pt")]
    [True, False, False, False]
    """
    if any(is_systems(part) for part in path.parts) or is_training_state(Path(path)):
        return False
    is_ours = path.name in _JSON or path.name == SUITE or is_index(Path(path)) or bool(weight_suffix(path.name))
    return whole_suite or is_ours or path.suffix.lower() in (*SUFFIXES, ".npz", ".parquet")


def is_weights(path: PurePosixPath) -> bool:
    """Whether a file is called like a model: a weight file that is neither one of several shards nor a head."""
    is_model = bool(weight_suffix(path.name)) or is_index(Path(path))
    return is_model and not in_shards(Path(path)) and not is_head(Path(path))


def image_root(path: PurePosixPath) -> PurePosixPath | None:
    """The folder of a set of images that a picture in ``split/class/`` or in ``class/`` belongs to; None for others."""
    if path.suffix.lower() not in SUFFIXES or len(path.parts) < 3:
        return None
    has_split = len(path.parts) > 3 and path.parts[-3] in SPLITS
    return path.parents[2 if has_split else 1]


def unwrapped(paths: Collection[PurePosixPath]) -> tuple[int, str]:
    """How many folders around all files are nothing but a wrapping, and what the innermost is called.

    A folder with several models or sets of images is the suite's own; one with a single model is that model's, whose
    name says what its task is.

    >>> models = [PurePosixPath(f"mine/{task}/model.safetensors") for task in ("cars", "dtd")]
    >>> unwrapped(models), unwrapped(models[:1])
    ((1, 'mine'), (0, ''))
    """
    described = min((len(path.parts) - 1 for path in paths if path.name == SUITE), default=None)
    if described is not None:  # whose paths are relative to it
        around = {path.parts[:described] for path in paths}
        return (described, next(iter(around))[-1]) if described and len(around) == 1 else (0, "")
    levels, name = 0, ""
    while paths and len(_subjects(paths)) > 1:
        tops = {path.parts[0] if len(path.parts) > 1 else "" for path in paths}
        (top,) = tops if len(tops) == 1 else ("",)
        if not top or top in SPLITS:
            break
        levels, name = levels + 1, top
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return levels, name


def _subjects(paths: Iterable[PurePosixPath]) -> set[str]:
    """What files are about: models and sets of images, by their labels."""
    found = set()
    for path in paths:
        root = image_root(path)
        if is_weights(path) or path.suffix == ".npz":
            found.add(label(Path(path)))
        elif root is not None or path.suffix == ".parquet":
            found.add(label(Path(root or path.parent)))
    return found


def without_splits(paths: Collection[PurePosixPath]) -> set[PurePosixPath]:
    """Folders of class folders without a split: images and nothing else, in at least two folders, none a split's."""
    classes: dict[PurePosixPath, set[str]] = {}
    mixed: set[PurePosixPath] = set()
    for path in paths:
        root = image_root(path)
        if root is not None and len(path.parts) == len(root.parts) + 2 and path.parts[-2] not in SPLITS:
            classes.setdefault(root, set()).add(path.parts[-2])
        else:
            mixed |= {*path.parents}
            mixed |= {root} if root is not None else set()
    return {root for root, names in classes.items() if len(names) > 1 and root.parts and root not in mixed}
