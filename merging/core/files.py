"""Writing files whole or not at all, and finding out before long work whether they can be written."""

import os
import platform
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from merging.core.errors import CheckpointError, RunError
from merging.core.gate import special_kind

_ANOTHER_HOME = "name another folder with --home, or in MERGING_HOME"

# What a folder, or a repository, of one model calls its weights, the safe kind first.
MODEL_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
# The same of an adapter that PEFT, or FusionBench for linearised ones, wrote.
ADAPTER_FILES = ("adapter_model.safetensors", "linearized_adapter_model.safetensors", "adapter_model.bin")

_UNFINISHED = re.compile(r"\..+[.-](\d+)\.tmp")  # earlier versions named no machine
_A_DAY = 86_400.0


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well and is removed otherwise.

    Those that killed processes left of the same file are removed.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    temporary = path.with_name(f".{path.name}.{_writer()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent.glob(f".{escape(path.name)}.*.tmp"))
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(
            f"{path.name}: can't be written ({error.strerror}); nothing was changed; make room or choose another folder"
        ) from None
    finally:
        with suppress(OSError):  # there may be no such folder
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A new folder in ``place`` that is gone at the end; :func:`remove_leftovers` removes those of killed processes.

    Raises:
        OSError: it can't be made.
    """
    folder = place / f".{secrets.token_hex(4)}.{_writer()}.tmp"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone have half written below a folder: temporary files, scratch folders.

    Whether one is gone can be seen for this machine; what others write counts as left when it is a day old.
    """
    for place, folders, names in os.walk(folder):
        unfinished = [name for name in (*folders, *names) if _UNFINISHED.fullmatch(name)]
        _remove_abandoned(Path(place) / name for name in unfinished)
        folders[:] = [name for name in folders if name not in unfinished]


def _remove_abandoned(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):  # it went in the meantime
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether nobody writes a temporary file or folder any more, as far as can be seen from here."""
    import psutil

    found, changed = _UNFINISHED.fullmatch(path.name), path.lstat().st_mtime
    if found is None:
        return False
    if not path.name.endswith((f".{platform.node()[:32]}-{found[1]}.tmp", f".{found[1]}.tmp")):
        return time.time() - changed > _A_DAY
    try:  # in a container the one that came after it may have its number
        return bool(psutil.Process(int(found[1])).create_time() > changed + 1)
    except psutil.NoSuchProcess:
        return True


def _writer() -> str:
    """This process in names of files; with its machine, as on a network folder two may have processes of one number."""
    return f"{platform.node()[:32]}-{os.getpid()}"


def require_folder(path: Path) -> None:
    """Make a folder for runs and caches, or find out why that can't be.

    Raises:
        RunError: it can't be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = _in_the_way(path) or error.strerror
        raise RunError(f"the folder for runs, {path.name!r}, can't be created ({why}); {_ANOTHER_HOME}") from None
    if not os.access(path, os.W_OK):
        raise RunError(f"the folder for runs, {path.name!r}, can't be written to; {_ANOTHER_HOME}")


def _in_the_way(path: Path) -> str:
    """What keeps a folder from being made as it is no folder itself; empty if nothing does."""
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            return f"{'it' if place == path else repr(place.name)} is a link that leads nowhere"
        with suppress(OSError):
            mode = place.stat().st_mode
            kind = "a file" if stat.S_ISREG(mode) else special_kind(mode)
            return "" if stat.S_ISDIR(mode) else f"{'it' if place == path else repr(place.name)} is {kind}"
    return ""


def require_place(path: Path) -> None:
    """Find out before long work whether its result can be written to ``path``.

    Raises:
        CheckpointError: there is no such folder, which is a slip of the pen more often than a wish, or it can't be
            written to.
    """
    require_parent(path)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise CheckpointError(f"{path.name}: can't be written there; choose another name or folder")


def require_parent(path: Path) -> None:
    """Insist on the folder that a file, or another folder, is to be made in.

    Raises:
        CheckpointError: there is none.
    """
    if not path.parent.is_dir():
        what = "is no folder" if path.parent.exists() else "does not exist"
        raise CheckpointError(
            f"{path.name}: can't be written: {path.parent.name!r}, where it is to be, {what}; nothing was done; "
            "create that folder or check the path"
        )


def folder_bytes(folder: Path) -> int:
    """What the files below a folder take on disk; 0 if there is none."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it went in the meantime
                status = os.lstat(os.path.join(path, name))
                total += getattr(status, "st_blocks", 0) * 512 or status.st_size
    return total
