"""Weight files that are something else than their names say: packed, or of the other format; what to do is said."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from merging.core.errors import CorruptCheckpoint
from merging.core.limits import MAX_HEADER_BYTES
from merging.core.text import shortened
from merging.weights.files.folders import SAFE_SUFFIX, weight_suffix

_Kind = TypeVar("_Kind")
_HEAD_BYTES = 300
_TAR = (257, b"ustar")  # where it stands, and what
_PACKED = {
    b"\x1f\x8b": "packed with gzip",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with zstandard",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_OTHERS = {
    b"\x89HDF": ("a file of HDF5, as Keras writes them", "save the weights in PyTorch"),
    b"\x93NUMPY": ("an array of numpy", "save a state dict of tensors with torch.save"),
    b"GGUF": ("a file of GGUF, for llama.cpp", "take the model's original weights"),
}
_TORCH = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def require_as_named(path: Path) -> None:
    """Insist on a weight file that is what its name says, by its first bytes.

    Raises:
        CorruptCheckpoint: it is packed, or of another format.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    at, word = _TAR
    packed = "a tar archive" if head[at : at + len(word)] == word else _begins(head, _PACKED)
    if packed:
        raise CorruptCheckpoint(f"{path.name}: {packed}; unpack it, and name the weight file in it")
    other = _begins(head, _OTHERS)
    if other:
        what, advice = other
        raise CorruptCheckpoint(f"{path.name}: {what}, no weights of PyTorch; {advice}")
    safe = path.suffix.lower() == SAFE_SUFFIX
    if safe and head.startswith(_TORCH) and head[8:9] != b"{":  # where a header begins; its length can be any bytes
        raise CorruptCheckpoint(f"{path.name}: a file of torch.save, not of safetensors; rename it to .pt")
    header = int.from_bytes(head[:8], "little")
    if not safe and head[8:10] == b'{"' and 8 + header <= min(path.stat().st_size, MAX_HEADER_BYTES):
        raise CorruptCheckpoint(f"{path.name}: a file of safetensors; rename it to {SAFE_SUFFIX}")


def require_saved_by_torch(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Insist that an archive is not one in which somebody packed weight files, given what is in it.

    Raises:
        CorruptCheckpoint: it is.
    """
    names = [member.filename for member in members]
    inside = [name[-60:] for name in names if weight_suffix(name)]
    if inside and not any(name.endswith("data.pkl") for name in names):
        raise CorruptCheckpoint(
            f"{path.name}: a zip archive with {shortened(inside, 3)} in it; unpack it, and name the weight file in it"
        )


def _begins(head: bytes, known: Mapping[bytes, _Kind]) -> _Kind | None:
    return next((kind for magic, kind in known.items() if head.startswith(magic)), None)
