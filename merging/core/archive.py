"""Zip archives that read the same whoever reads them: weight files of torch and numpy's ``.npz``.

An archive says twice what is in it: in front of every member, and in a directory at its end, which readers look for in
ways of their own. Where the two disagree, or the directory is not exactly at the end, one program checks other bytes
than another one reads; such archives are refused.
"""

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from merging.core.errors import MergingError
from merging.core.gate import DAMAGE, reading, require_file_itself, require_regular
from merging.core.limits import MAX_DIRECTORY_BYTES, MAX_MEMBERS

_END, _END_64, _LOCATOR_64, _LOCAL = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x03\x04"
_END_BYTES, _END_64_BYTES, _LOCATOR_BYTES, _LOCAL_BYTES = 22, 56, 20, 30
_UTF8, _ENCRYPTED = 1 << 11, 1


@contextmanager
def open_archive(path: Path, error: type[MergingError], what: str) -> Iterator[zipfile.ZipFile]:
    """An archive whose members are where, and what, its directory says; unpacking them is up to the caller.

    Args:
        path: the file.
        error: what to raise.
        what: it was to be, such as ``a readable .npz file``.

    Raises:
        MergingError: as ``error``, if it is damaged, ambiguous or has too many members.
    """
    size = require_regular(path, error)
    require_file_itself(path, error)
    with reading(path.name, what, error):
        with path.open("rb") as file:
            start = _directory(f"{path.name}: not {what}", file, size, error)
        with zipfile.ZipFile(path) as archive:
            _require_agreement(path.name, archive, start, error)
            yield archive


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, whole or damaged, for any of the ways in which programs tell."""
    try:
        return zipfile.is_zipfile(path)
    except DAMAGE:
        return True


def local_data(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin.

    Raises:
        BadZipFile: what stands in front of them is not what the directory says.
    """
    file.seek(member.header_offset)
    header = file.read(_LOCAL_BYTES)
    if len(header) < _LOCAL_BYTES or header[:4] != _LOCAL:
        raise zipfile.BadZipFile("no member where the directory says")
    _, flags, method, name_bytes, extra_bytes = struct.unpack("<4xHHH16xHH", header)
    name = file.read(name_bytes)
    encoding = "utf-8" if member.flag_bits & _UTF8 else "cp437"
    if name != member.orig_filename.encode(encoding) or method != member.compress_type:
        raise zipfile.BadZipFile("a member is called otherwise than in the directory")
    if (flags ^ member.flag_bits) & _ENCRYPTED:
        raise zipfile.BadZipFile("a member is encrypted or not, otherwise than in the directory")
    return member.header_offset + _LOCAL_BYTES + int(name_bytes) + int(extra_bytes)


def _directory(name: str, file: IO[bytes], size: int, error: type[MergingError]) -> int:
    """Where the directory begins, once it is sure that it ends where the archive does and is of bearable size."""
    ambiguous = f"{name}: its directory is not exactly at its end; it is cut off, or something was put behind it"
    file.seek(max(0, size - _END_BYTES))
    end = file.read()
    if len(end) < _END_BYTES or end[:4] != _END:
        raise error(ambiguous)
    members, length, start, comment = struct.unpack("<10xHIIH", end)
    place = size - _END_BYTES
    if comment:
        raise error(ambiguous)
    file.seek(max(0, place - _LOCATOR_BYTES))
    locator = file.read(_LOCATOR_BYTES)
    if locator[:4] == _LOCATOR_64:  # where there is one, every reader follows it
        place -= _LOCATOR_BYTES + _END_64_BYTES
        (said,) = struct.unpack("<8xQ4x", locator)
        file.seek(max(0, place))
        record = file.read(_END_64_BYTES)
        if said != place or record[:4] != _END_64:
            raise error(ambiguous)
        members, length, start = struct.unpack("<32xQQQ", record)
    if start + length != place:
        raise error(ambiguous)
    if members > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise error(f"{name}: a zip archive of {members} members; at most {MAX_MEMBERS} are read")
    return int(start)


def _require_agreement(name: str, archive: zipfile.ZipFile, start: int, error: type[MergingError]) -> None:
    """Insist on members that differ in name, are as the directory says and lie one behind the other in front of it."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if len({member.filename for member in members}) < len(members):
        raise error(f"{name}: a zip archive with two members of one name; pack it again")
    if members and members[0].header_offset:
        raise error(f"{name}: something stands in front of the zip archive; pack it again")
    with open(archive.filename or name, "rb") as file:
        place = 0
        for member in members:
            if member.header_offset < place:
                raise error(f"{name}: a zip archive whose members overlap; it would unpack to more than it holds")
            place = local_data(file, member) + member.compress_size
    if place > start:
        raise error(f"{name}: a zip archive whose members overlap its directory; pack it again")
