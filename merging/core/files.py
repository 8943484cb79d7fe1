"""Writing files whole or not at all, and finding out before long work whether they can be written."""

import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well and is removed otherwise.

    Raises:
        CheckpointError: the folder can't be written to.
    """
    # Of the machine, too: on a network folder two may have processes of one number.
    temporary = path.with_name(f".{path.name}.{platform.node()[:32]}-{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise CheckpointError(
            f"{path.name}: can't be written ({error.strerror}); nothing was changed; make room or choose another folder"
        ) from None
    finally:
        with suppress(OSError):  # there may be no such folder
            temporary.unlink(missing_ok=True)


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
