"""Unpacking a zip archive of others: through the gate, within bounds, each member where it belongs or not at all."""

import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from merging.core.archive import open_archive
from merging.core.errors import SuiteError
from merging.core.gate import reading
from merging.core.limits import MAX_GROWTH, MAX_SMALL_BYTES
from merging.core.text import visible
from merging.suites.folder import SPLITS
from merging.suites.incoming.names import SUITE, is_taken, safe_path

_WHAT = "a readable zip archive"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


def unpack(
    archive: Path, name: str, folder: Path, room: int, write: Callable[[IO[bytes], Path, int], None]
) -> list[str]:
    """Unpack what suites are made of; members of other kinds are left out.

    Where all members lie in one folder that folder's name stays; else they lie in one that is called like the archive.

    Args:
        archive: the file.
        name: what it is called.
        folder: where the members go.
        room: bytes that they may take in all.
        write: copies a stream into a file, at most so many bytes.

    Returns:
        Members that were left out, as they are called.

    Raises:
        SuiteError: it is damaged, ambiguous or encrypted, holds links or paths that lead out of it, or unpacks to more
            than there is room for, or to far more than it holds. What was unpacked until then is for the caller to
            remove.
    """
    with open_archive(archive, SuiteError, _WHAT) as opened, reading(name, _WHAT, SuiteError):
        members = [member for member in opened.infolist() if not member.is_dir()]
        paths = [_path(name, member) for member in members]
        whole = any(path.name == SUITE for path in paths)
        wanted = [(m, path) for m, path in zip(members, paths, strict=True) if is_taken(path, whole)]
        _require_bounded(name, [member for member, _ in wanted], room)
        tops = {path.parts[0] if len(path.parts) > 1 else "" for _, path in wanted}
        around = "" if len(tops) == 1 and not tops & {"", *SPLITS} else Path(name).stem
        for member, path in wanted:
            target = folder / around / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as stream:
                write(stream, target, member.file_size)
    return [path.as_posix() for path in paths if not is_taken(path, whole)]


def _path(archive: str, member: zipfile.ZipInfo) -> PurePosixPath:
    shown = f"{archive}: {visible(member.filename)[:120]!r}"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise SuiteError(f"{shown} is a link or a device, no file; pack the files themselves")
    if member.flag_bits & _ENCRYPTED:
        raise SuiteError(f"{shown} is encrypted; pack it again without a password")
    if member.compress_type not in _METHODS:
        raise SuiteError(f"{shown} is compressed in an unusual way; pack it again as zip programs do by default")
    try:
        return safe_path(member.filename)
    except SuiteError as error:
        raise SuiteError(f"{archive}: {error}") from None


def _require_bounded(name: str, members: Sequence[zipfile.ZipInfo], room: int) -> None:
    unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if not members:
        raise SuiteError(f"{name}: holds no weights, no images and nothing that says something of them")
    if unpacked > max(MAX_SMALL_BYTES, MAX_GROWTH * packed):
        raise SuiteError(
            f"{name}: unpacks to {unpacked} bytes from {packed}, more than {MAX_GROWTH} times as many; no models or "
            "images do that"
        )
    if unpacked > room:
        raise SuiteError(
            f"{name}: unpacks to {unpacked / 1e9:.1f} GB; there is room for {max(room, 0) / 1e9:.1f} GB where runs and "
            "caches lie; make room, or start the dashboard with another --home"
        )
