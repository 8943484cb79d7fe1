"""The gate that every file comes through that others wrote: regular, of bounded size, and what is wrong said in words.

A pipe would be waited for, a device such as ``/dev/zero`` never ends; both can stand where a file is expected, by a
link. What a damaged file makes of a parser is any of :data:`DAMAGE`, and comes out as one of this package's errors.
"""

import json
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from merging.core.errors import MergingError
from merging.core.limits import MAX_JSON_BYTES, MAX_JSON_VALUES

DAMAGE = (
    OSError,
    EOFError,
    ValueError,  # with it UnicodeDecodeError, JSONDecodeError
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,  # OverflowError, ZeroDivisionError
    AssertionError,
    RuntimeError,  # RecursionError, NotImplementedError
    MemoryError,
    BufferError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_HEAD_BYTES = 200
_MAX_DIGITS = 300
_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<error>")  # in small letters
_ANSWERS = (
    b"Entry not found",
    b"Repository not found",
    b"Invalid username or password",
    b'{"error"',
    b"Access to model",
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def require_regular(path: Path, error: type[MergingError], most: int | None = None) -> int:
    """Insist on a file that is one, before it is opened: opening a pipe waits for somebody to write into it.

    Args:
        path: the file.
        error: what to raise.
        most: bytes that it may have.

    Returns:
        Its size in bytes.

    Raises:
        MergingError: as ``error``, if it can't be reached, is no file, or is larger.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as problem:
        raise error(f"{path.name}: can't be read ({_reason(problem)})") from None
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{path.name}: is {special_kind(status.st_mode)}; expected a file")
    if most is not None and status.st_size > most:
        raise error(f"{path.name}: {status.st_size} bytes; at most {most} are read of a file of this kind")
    return status.st_size


def special_kind(mode: int) -> str:
    """What something is that is no file, by its mode as :func:`os.stat` gives it."""
    return next((word for is_kind, word in _KINDS if is_kind(mode)), "something else")


def require_itself(name: str, head: bytes, error: type[MergingError]) -> None:
    """Insist on a file and not on what downloads leave in the place of one: a pointer, a web page, a server's refusal.

    Args:
        name: of the file.
        head: its first bytes.
        error: what to raise.

    Raises:
        MergingError: as ``error``, if it is one of these.
    """
    if head.startswith(_POINTER):
        raise error(
            f"{name}: a pointer of Git LFS, a few lines of text that stand for the file; run `git lfs pull` in its "
            "repository, or download the file itself"
        )
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.lower().startswith(_PAGES):
        raise error(
            f"{name}: a web page or a server's answer (it begins with {_shown(start[:15])}), saved in the place of the "
            "file; download it again, by the link to the file itself and logged in where that is needed"
        )
    if start.startswith(_ANSWERS):
        raise error(
            f"{name}: a server's answer, {_shown(start[:60])}, saved in the place of the file; download it again"
        )


def _shown(content: bytes) -> str:
    """Bytes as text in quotes, with nothing in it but letters, signs and blanks."""
    return ascii(content.decode("ascii", errors="replace"))


def require_file_itself(path: Path, error: type[MergingError], name: str = "") -> None:
    """As :func:`require_itself`, of a regular file; what can't be read is for others to say."""
    head = b""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    require_itself(name or path.name, head, error)


def read_bytes(path: Path, error: type[MergingError], most: int) -> bytes:
    """A small file.

    Raises:
        MergingError: as ``error``, if it can't be read or :func:`require_regular` refuses it.
    """
    require_regular(path, error, most)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as problem:
        raise error(f"{path.name}: can't be read ({_reason(problem)})") from None
    if len(content) > most:
        raise error(f"{path.name}: more than {most} bytes; it grew while it was read")
    require_itself(path.name, content[:_HEAD_BYTES], error)
    return content


def read_text(path: Path, error: type[MergingError], most: int) -> str:
    """A small file of UTF-8 text; errors as :func:`read_bytes`, and if it is none."""
    content = read_bytes(path, error, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"{path.name}: not UTF-8 text (byte {problem.start} is {content[problem.start]:#04x}); save it as UTF-8"
        ) from None


def read_json(path: Path, error: type[MergingError], most: int = MAX_JSON_BYTES) -> Any:
    """What a file of JSON says; errors as :func:`read_text`, and as :func:`parse_json`."""
    text = read_text(path, error, most)
    try:
        return parse_json(text)
    except ValueError as problem:
        raise error(f"{path.name}: not valid JSON: {problem}") from None


def parse_json(text: str | bytes) -> Any:
    """What JSON says; no infinity, no NaN, no name twice, at most :data:`MAX_JSON_VALUES` values.

    Raises:
        ValueError: it is none, in a few words.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    marks = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(map(text.count, marks)) > MAX_JSON_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"more than {MAX_JSON_VALUES} values")
    try:
        return json.loads(text, parse_int=_whole, parse_constant=_no_number, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as problem:
        raise ValueError(str(problem)[:200]) from None


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text)} digits; nothing here is that large")
    return int(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice[:80]!r} stands there twice")
    return found


@contextmanager
def reading(name: str, what: str, error: type[MergingError]) -> Iterator[None]:
    """Around a parser of others: whatever damage makes it raise becomes one sentence.

    Args:
        name: of the file.
        what: it was to be, such as ``a readable .npz file``.
        error: what to raise.
    """
    try:
        yield
    except DAMAGE as problem:
        raise error(f"{name}: not {what} ({damage_in_words(problem)})") from None


def damage_in_words(problem: BaseException) -> str:
    """What is wrong with a file, or with a connection, that made a parser or a client raise one of :data:`DAMAGE`.

    >>> damage_in_words(EOFError()), damage_in_words(KeyError("x")), damage_in_words(OSError(5, "Input/output error"))
    ('it ends early', 'it is damaged, or of another kind', 'Input/output error')
    """
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    if isinstance(problem, EOFError | struct.error) or "truncated" in str(problem):
        return "it ends early"
    if isinstance(problem, MemoryError | OverflowError):
        return "it speaks of more than memory holds"
    if isinstance(problem, UnicodeError):
        return "text in it is not UTF-8"
    return "it is damaged, or of another kind"


def _reason(problem: OSError | ValueError) -> str:
    return (problem.strerror or "refused") if isinstance(problem, OSError) else "no possible name of a file"
