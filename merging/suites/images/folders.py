"""Images in folders ``split/class/image``."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from merging.core.errors import SuiteError
from merging.core.gate import special_kind
from merging.core.text import counted, natural, shortened
from merging.suites.images.class_folders import NUMERIC_ORDER, FolderClasses, Matching, listed, match_folders
from merging.suites.images.decoding import AS_USUAL, Picture, Treatment, open_image
from merging.suites.images.source import ClassOrigins, Source

_READ = "png apng jpg jpeg jpe jfif bmp dib webp ppm pgm pbm pnm tif tiff gif avif jp2 j2k"
SUFFIXES = frozenset(f".{ending}" for ending in _READ.split())
# Images that are not read here; any other file in a class folder is hardly one.
_OTHERS = "heic heif jxl svg tga exr hdr pfm dcm nii fits ico psd pcx raw dng nef cr2 arw npy npz"
_NOT_READ = frozenset(f".{ending}" for ending in _OTHERS.split())
_SYSTEM = ("__MACOSX", "@eaDir")  # what archivers and file servers leave behind
_DEPTH = 3  # split/class/image; deeper files are no images of the suite, and links can't lead in circles
_SHOWN = 5
_MEASURED_ON = ("val", "test")


@dataclass(frozen=True)
class Split:
    """The folders of one split, and which class each of them is.

    Attributes:
        folder: of the split.
        name: what to call it.
        matching: class folder → class.
        hidden: folders that belong to the system, which are left out.
    """

    folder: Path
    name: str
    matching: Matching
    hidden: list[Path]

    @property
    def class_folders(self) -> list[tuple[Path, int]]:
        """Class folders and the indices of their classes, in the order of the classes."""
        found = sorted(self.matching.labels.items(), key=lambda item: (item[1], item[0]))
        return [(self.folder / name, label) for name, label in found]


@dataclass
class _LeftOut:
    """Files that are no images of the suite, and where images are missing."""

    others: Counter[str] = field(default_factory=Counter)  # by ending
    dotted: int = 0
    lost: list[str] = field(default_factory=list)  # links to nowhere
    nested: Counter[str] = field(default_factory=Counter)  # images, by the folder that they are in
    empty: list[str] = field(default_factory=list)

    @property
    def endings(self) -> str:
        """Endings of files that are no images, with how many of each there are."""
        return shortened([f"{ending} × {count}" for ending, count in self.others.most_common()], _SHOWN)


def split_folders(root: Path, split: str, task: str, classes: Sequence[str], given: FolderClasses) -> Split | None:
    """The folders of one split; None if there is no folder ``root/split``.

    Raises:
        SuiteError: it can't be told which folder is which class.
    """
    folder = root / split
    name = f"{root.absolute().name}/{split}"  # the folder of a suite may be called "."
    if not folder.is_dir():
        return None
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    hidden = [path for path in inside if is_systems(path.name)]
    present = [path.name for path in inside if not is_systems(path.name)]
    loose = 0 if present else sum(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
    if loose:
        raise SuiteError(
            f"task {task!r}: {counted(loose, 'image')} in {name} and no folders; expected {name}/class/image: put "
            "those of each class into a folder of its name"
        )
    matching = match_folders(present, classes, given, task, name)
    if matching.how == NUMERIC_ORDER:
        _require_same_numbers(root, present, task)
    return Split(folder, name, matching, hidden)


def _require_same_numbers(root: Path, present: Sequence[str], task: str) -> None:
    """Insist that numbers which stand for classes by their order alone are the same in both splits."""
    for other in _MEASURED_ON:
        folder = root / other
        theirs = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        numbers = {int(name) for name in theirs if name.isdecimal()}
        if numbers and numbers != set(map(int, present)):
            raise SuiteError(
                f"task {task!r}: class folders are numbers, {min(numbers)} … {max(numbers)} in {root.name}/{other} and "
                f"{min(map(int, present))} … {max(map(int, present))} in another split, so that a number may be two "
                "classes; write for the task in suite.yaml folders: {folder: class}, or make an empty folder for a "
                "class without images"
            )


def folder_source(
    root: Path,
    split: str,
    task: str,
    classes: Sequence[str],
    given: FolderClasses | None = None,
    treatment: Treatment = AS_USUAL,
    borrowed: bool = False,
) -> Source | None:
    """Images of one split; which folder is which class: see :mod:`merging.suites.images.class_folders`.

    Args:
        root: holds a folder a split.
        split: ``train``, ``val`` or ``test``.
        task: whose images they are, for errors.
        classes: names in the order of the labels.
        given: folder → class, where ``suite.yaml`` says it.
        treatment: how the image files are read.
        borrowed: whether ``given`` is that of a known data set, written down for other copies of its images too.

    Returns:
        None if there is no folder ``root/split``.

    Raises:
        SuiteError: it holds no images, or it can't be told which folder is which class.
    """
    found = split_folders(root, split, task, classes, given or {})
    if found is None:
        return None
    files: list[Path] = []
    counts: list[int] = []
    left_out = _LeftOut()
    for folder, _ in found.class_folders:
        images = _look(folder, left_out)
        files += images
        counts.append(len(images))
    if not files:
        elsewhere = sum(left_out.nested.values())
        why = f"; {elsewhere} are in folders below the class folders: move them up" if elsewhere else ""
        if left_out.lost:
            why += f"; {counted(len(left_out.lost), 'link')} to files that are not there"
        if left_out.others:
            why += (
                f"; other files: {left_out.endings}; convert them to PNG or JPEG (read are {_READ.replace(' ', ', ')})"
            )
        raise SuiteError(f"task {task!r}: no images under {found.name}{why}")

    def read(rows: Sequence[int], size: int) -> Iterator[Picture]:
        return (open_image(files[row], f"{files[row].parent.name}/{files[row].name}", size, treatment) for row in rows)

    labels = [label for _, label in found.class_folders]
    said, odd = _said(found, left_out, borrowed)
    gaps = _gaps(found.matching.labels, classes) if found.matching.how == NUMERIC_ORDER else []
    by_number = f"class folders are {NUMERIC_ORDER}" if found.matching.how == NUMERIC_ORDER and not gaps else ""
    order = [folder.name for folder, _ in found.class_folders]  # else classes of equal size could change places
    return Source(
        found.name,
        np.repeat(np.array(labels, dtype=np.int64), counts),
        f"{folder_fingerprint(root, files)} {order}",
        read,
        origin=ClassOrigins(
            tuple((folder.name, label) for folder, label in found.class_folders),
            found.matching.how,
            said,
            (*odd, *gaps),
            by_number,
        ),
        folder_of=np.repeat(np.arange(len(counts)), counts),
    )


def folders_instead(root: Path, split: str) -> str:
    """What there is instead of a split, as the end of a sentence that says that it is not there."""
    if not root.is_dir():
        return f"; {root.name} is {'no folder' if root.exists() else 'not there'}"
    there = sorted((path.name for path in root.iterdir() if path.is_dir() and not is_systems(path.name)), key=natural)
    near = [name for name in there if name.casefold().startswith(split)]
    advice = f"; rename {near[0]} to {split}" if near else f"; put class folders into {split}" if there else ""
    return f"; {root.absolute().name} holds the folders {listed(there)}{advice}" if there else "; it is empty"


def is_systems(name: str) -> bool:
    """Whether a folder or file is no one's data: hidden, or left behind by an archiver or a file server."""
    return name.startswith(".") or name in _SYSTEM


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, sorted."""
    return _look(folder, _LeftOut())


def _look(folder: Path, left_out: _LeftOut) -> list[Path]:
    """Image files of a class folder, sorted; what else is in it goes to ``left_out``."""
    images = []
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = Path(entry.name).suffix.lower()
            try:
                is_folder, is_file = entry.is_dir(), entry.is_file()
            except OSError:  # a link to itself
                is_folder = is_file = False
            if is_folder:
                below = _images_below(Path(entry.path))
                if below:
                    left_out.nested[f"{folder.name}/{entry.name}"] += below
            elif not is_file:
                _note_special(entry, f"{folder.name}/{entry.name}", left_out)
            elif entry.name.startswith("."):
                left_out.dotted += ending in SUFFIXES
            elif ending in SUFFIXES:
                images.append(Path(entry.path))
            else:
                left_out.others[ending or "without ending"] += 1
    if not images:
        left_out.empty.append(folder.name)
    return sorted(images)


def _note_special(entry: os.DirEntry[str], name: str, left_out: _LeftOut) -> None:
    """What is neither a file nor a folder: a link to nowhere, or a pipe and such, which is not opened."""
    try:
        left_out.others[special_kind(entry.stat().st_mode)] += 1
    except OSError:
        left_out.lost.append(name)


def _images_below(folder: Path) -> int:
    """How many image files there are in a folder and below it; links are not followed."""
    return sum(Path(name).suffix.lower() in SUFFIXES for _, _, names in os.walk(folder) for name in names)


def _said(found: Split, left_out: _LeftOut, borrowed: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is left out, as sentences: what nobody would miss, and what is hardly meant."""
    said: list[str] = []
    odd: list[str] = []
    if found.hidden:
        each = _with_images(found.folder, [path.name for path in found.hidden])
        said.append(f"left out: {each}, which no one made for a class")
    if left_out.dotted:
        said.append(f"left out: {counted(left_out.dotted, 'image')} whose names begin with a dot")
    if left_out.others:
        unread = sum(count for ending, count in left_out.others.items() if ending in _NOT_READ)
        count = sum(left_out.others.values())
        what = f"left out: {counted(count, 'other file')} ({left_out.endings})"
        (odd if unread else said).append(f"{what}; convert them to PNG or JPEG to count them" if unread else what)
    if left_out.lost:
        links = shortened(sorted(left_out.lost, key=natural), _SHOWN)
        odd.append(f"left out: {counted(len(left_out.lost), 'link')} to files that are not there ({links})")
    if left_out.nested:
        by_name = sorted(left_out.nested.items(), key=lambda item: natural(item[0]))
        where = shortened([f"{name} {count}" for name, count in by_name], _SHOWN)
        images = counted(sum(left_out.nested.values()), "image")
        odd.append(f"left out: {images} in folders below the class folders ({where}); move them up to count them")
    if found.matching.dropped:
        said.append(f"left out, as suite.yaml says: {_with_images(found.folder, found.matching.dropped)}")
    if found.matching.absent and not borrowed:
        odd.append(
            f"folders in suite.yaml names {listed(found.matching.absent)}, which {found.name} lacks; it has "
            f"{listed(sorted(found.matching.labels, key=natural))}, taken {found.matching.how}; write them as the "
            "folders are called, or take them out"
        )
    if found.matching.strangers:
        strangers = _with_images(found.folder, found.matching.strangers)
        odd.append(f"left out: folders that are no class of suite.yaml, with their images: {strangers}")
    loose = sum(path.suffix.lower() in SUFFIXES and path.is_file() for path in found.folder.iterdir())
    if loose:
        odd.append(f"left out: {counted(loose, 'image')} in no class folder")
    if left_out.empty:
        count = len(left_out.empty)
        whose = "class, whose folder is" if count == 1 else "classes, whose folders are"
        odd.append(f"no image of {count} {whose} {shortened(left_out.empty, _SHOWN)}")
    if found.matching.assumed:
        odd.append("which folder is which class is assumed; list `classes` in the order of the head's rows")
    return tuple(said), tuple(odd)


def _gaps(labels: Mapping[str, int], classes: Sequence[str]) -> list[str]:
    """What to say of numbers that stand for classes by their order and leave some out."""
    numbers = {int(folder): label for folder, label in labels.items()}
    first, last = min(numbers), max(numbers)
    lacking = last - first + 1 - len(numbers)
    if not lacking:
        return []
    missing = islice((number for number in range(first, last) if number not in numbers), _SHOWN)
    listed = ", ".join(map(str, missing)) + (f" and {lacking - _SHOWN} more" if lacking > _SHOWN else "")
    return [
        f"class folders are numbers from {first} to {last} without {listed}, and are taken in numeric order, so that "
        f"{last} is class {numbers[last]}, {classes[numbers[last]][:60]!r}; if it is not, write for the task in "
        "suite.yaml folders: {folder: class}"
    ]


def _with_images(folder: Path, names: Sequence[str]) -> str:
    return shortened(
        [f"{name} ({counted(_images_below(folder / name), 'image')})" for name in sorted(names, key=natural)], _SHOWN
    )


def folder_fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 over names, sizes and times of files below ``root``: theirs, not their content's."""
    listing = []
    for path in sorted(paths):
        with suppress(OSError):  # a link to nowhere is no image
            status = path.stat()
            listing.append(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256(os.fsencode("\n".join(listing))).hexdigest()


def folder_state(folder: Path) -> tuple[int, int]:
    """Number of files in a folder of images and a hash of their names, sizes and times, by asking every one of them.

    Replacing an image in place changes no folder's time. The hash means something in this process only.
    """
    files = frozenset(_files(folder, _DEPTH))
    return len(files), hash(files)


def _files(folder: Path | str, depth: int) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of every file; what vanishes meanwhile or can't be read is left out."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir():
                    status = entry.stat()
                    yield entry.path, status.st_size, status.st_mtime_ns
                elif depth > 1:
                    yield from _files(entry.path, depth - 1)
