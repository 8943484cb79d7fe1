"""Files of this machine taken in by links: nothing is copied, and nothing is written where they lie."""

import os
from pathlib import Path, PurePosixPath

from merging.core.errors import CheckpointError, SuiteError
from merging.suites.declared import CONFIGURATIONS
from merging.suites.folder import SPLITS
from merging.suites.images.folders import SUFFIXES, is_systems
from merging.suites.incoming.names import AS_TEST, SUITE, is_taken
from merging.weights.files.adapter_bases import CONFIG
from merging.weights.files.adapters import is_adapter
from merging.weights.files.folders import weight_files

_MOST = 10_000  # entries that are looked at; more is no folder of checkpoints
_DEPTH = 4  # of folders
_SEEN = 20  # entries of a folder, by which it is told whether pictures lie in it


def mirror(path: Path, folder: Path, name: str = "") -> list[str]:
    """Make a folder in ``folder`` whose links lead to a weight file with what belongs to it, or to all of a folder.

    Folders of images become one link each.

    Args:
        path: of the file or folder.
        folder: that is there.
        name: what to call the new folder; the folder at ``path``, or the one around the file, if not given.

    Returns:
        Sentences on what was assumed.

    Raises:
        SuiteError: there is no such thing, it holds too much or nothing of use, or links can't be made here.
    """
    try:
        whole, is_folder = Path(os.path.abspath(path)), path.is_dir()
        if not is_folder and not path.is_file():
            raise SuiteError(f"{path.name}: no such file or folder; check the path")
        target = folder / (name or (whole.name if is_folder else whole.parent.name) or "files")
        target.mkdir()
        links = _Links(whole, target)
        made = links.of_folder(whole, _DEPTH) if is_folder else _of_file(whole, target)
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path.name}: can't be linked to ({getattr(error, 'strerror', None) or error})") from None
    if not made:
        raise SuiteError(f"{path.name}: holds no weights, no images and nothing that says something of them")
    return links.remarks


def _of_file(path: Path, target: Path) -> int:
    """A weight file, its shards or its adapter's settings, and what lies beside it and says something of it."""
    if not is_taken(PurePosixPath(path.name)):
        return 0
    beside = [path.parent / name for name in ((CONFIG,) if is_adapter(path) else CONFIGURATIONS)]
    try:
        files = [*weight_files(path), *(file for file in beside if file.is_file())]
    except CheckpointError as error:
        raise SuiteError(str(error)) from None
    for file in files:
        os.symlink(file, target / file.name)
    return len(files)


class _Links:
    """Links to what is of use below a folder."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self._target = source, target
        self._seen = 0
        self._whole = (source / SUITE).is_file()
        self.remarks: list[str] = []

    def of_folder(self, folder: Path, depth: int) -> int:
        """Make those of one folder and of those in it; how many were made."""
        entries = self._entries(folder)
        folders = [entry for entry in entries if entry.is_dir()]
        below = folder.relative_to(self._source)
        target = self._target / below
        if not any(entry.name in SPLITS for entry in folders) and self._is_of_classes(entries):
            target.mkdir(exist_ok=True)
            os.symlink(folder, target / "test")
            self.remarks.append(AS_TEST.format(target.name))
            return 1
        target.mkdir(exist_ok=True)
        made = 0
        for entry in entries:
            path = PurePosixPath((below / entry.name).as_posix())
            if entry.is_dir() and (entry.name in SPLITS or self._whole):
                os.symlink(entry, target / entry.name)
                made += 1
            elif entry.is_dir() and depth > 1:
                made += self.of_folder(entry, depth - 1)
            elif entry.is_file() and is_taken(path, self._whole):
                os.symlink(entry, target / entry.name)
                made += 1
        return made

    def _entries(self, folder: Path) -> list[Path]:
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._seen += 1
                if self._seen > _MOST:
                    raise SuiteError(
                        f"{self._source.name}: more than {_MOST} files and folders; expected a folder of checkpoints, "
                        "with images in folders test, val or train"
                    )
                if not is_systems(entry.name):
                    found.append(Path(entry.path))
        return sorted(found)

    @staticmethod
    def _is_of_classes(entries: list[Path]) -> bool:
        """Whether a folder holds at least two folders with pictures, and no file."""
        if len(entries) < 2 or not all(entry.is_dir() for entry in entries):
            return False
        for entry in entries[:_SEEN]:
            with os.scandir(entry) as inside:
                names = [each.name for each, _ in zip(inside, range(_SEEN), strict=False)]
            if not any(Path(name).suffix.lower() in SUFFIXES for name in names):
                return False
        return True
