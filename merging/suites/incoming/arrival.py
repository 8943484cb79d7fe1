"""What becomes of files that come in at once: each goes into its place whole, or is refused with the reason."""

import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from merging.core.archive import open_archive
from merging.core.errors import MergingError, SuiteError, UnsafeCheckpoint
from merging.core.limits import MAX_SUITE_BYTES
from merging.core.yaml_text import read_yaml
from merging.suites.incoming.names import AS_TEST, SUITE, unwrapped, without_splits
from merging.weights.files import open_checkpoint
from merging.weights.files.folders import in_shards, is_index, weight_suffix

_SPARE = 2**28  # bytes that stay free for runs and caches
_CHUNK = 2**20


class Upload(Protocol):
    """A file as it comes in: its name, or its path in the folder that was dropped, and its bytes."""

    name: str

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, none at the end."""


@dataclass
class Received:
    """What became of files that were handed in.

    Attributes:
        files: how many were taken.
        refused: file → why it was not.
        left_out: files of kinds that no suite is made of.
        remarks: sentences on what was assumed.
        places: name of what was handed in → where it lies now, of an archive all that was in it.
    """

    files: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, archive: str, inside: "Received") -> None:
        """Take over what became of the files in an archive."""
        self.files += inside.files
        self.refused |= inside.refused
        self.left_out += inside.left_out
        self.remarks += inside.remarks
        self.places[archive] = [place for places in inside.places.values() for place in places]


def settle(batch: Path, files: Path, found: Received) -> str:
    """Move what came in into its place, but for what no gate lets through and what is there already.

    Args:
        batch: the folder that it came into.
        files: where it belongs.
        found: is told what became of it.

    Returns:
        What the folder around all of it was called; empty if there was none.
    """
    for path in list(files_below(batch)):
        reason = _refusal(batch, path)
        if reason:
            found.refused[path.as_posix()] = reason
            (batch / path).unlink()
    paths = list(files_below(batch))
    levels, name = unwrapped(paths)
    inner = {path: PurePosixPath(*path.parts[levels:]) for path in paths}
    tests = without_splits(inner.values())
    for root in sorted(tests):
        found.remarks.append(AS_TEST.format(root))
    for path, target in inner.items():
        for root in tests & {*target.parents}:
            target = root / "test" / target.relative_to(root)
        if _put(batch / path, files, target, found):
            found.files += 1
            found.places[path.as_posix()] = [target.as_posix()]
    return name


def _put(source: Path, files: Path, path: PurePosixPath, found: Received) -> bool:
    target = files / path
    if target.exists() and not target.is_dir() and filecmp.cmp(source, target, shallow=False):
        found.remarks.append(f"{path}: was here already, the same")
        return False
    if target.exists():
        found.refused[path.as_posix()] = (
            "another file of this name is here already; rename one, or drop each in a folder of its own"
        )
        return False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
    except OSError as error:
        found.refused[path.as_posix()] = f"can't be put in its place ({error.strerror})"
        return False
    return True


def _refusal(folder: Path, path: PurePosixPath) -> str:
    """Why a file can't be of use, by itself; empty if it may be."""
    file = folder / path
    try:
        if path.suffix == ".npz":
            with open_archive(file, SuiteError, "a readable .npz file"):
                return ""
        if path.name == SUITE:
            read_yaml(file, SuiteError, MAX_SUITE_BYTES)
        if weight_suffix(path.name) and not in_shards(Path(path)) and not is_index(Path(path)):
            open_checkpoint(file, part="all")
    except UnsafeCheckpoint:
        return ""  # it can be converted
    except MergingError as error:
        return str(error)
    return ""


def files_below(folder: Path) -> Iterator[PurePosixPath]:
    """Files and linked folders below a folder, in order; links are not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        below = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (PurePosixPath((below / name).as_posix()) for name in sorted([*names, *links]))


def room(place: Path) -> int:
    """Bytes that may be written beside a place."""
    return shutil.disk_usage(place).free - _SPARE


def copy(stream: Upload | IO[bytes], target: Path, most: int) -> None:
    """Write a stream into a file in pieces.

    Raises:
        SuiteError: it has more bytes than it may have.
    """
    written = 0
    try:
        with target.open("xb") as file:
            while piece := stream.read(_CHUNK):
                written += len(piece)
                if written > most:
                    raise SuiteError(
                        f"{target.name}: more than the {max(most, 0) / 1e9:.2f} GB that there is room for where runs "
                        "and caches lie; make room, or start the dashboard with another --home"
                    )
                file.write(piece)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
