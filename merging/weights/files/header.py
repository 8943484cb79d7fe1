"""The header of a safetensors file, believed only once it agrees with itself and with the file.

It is checked before the format's own library sees it: that one keeps what a header declares, however much it is.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from merging.core.errors import CorruptCheckpoint
from merging.core.gate import parse_json, reading, require_regular
from merging.core.limits import MAX_DIMENSIONS, MAX_HEADER_BYTES, MAX_TENSOR_NAME, MAX_TENSORS
from merging.core.text import shortened

_METADATA = "__metadata__"
_REMEMBERED_BYTES = 2**18  # of a header that is remembered; those of the largest towers have a third of it
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_header(path: Path) -> Mapping[str, Any]:
    """Name → ``dtype``, ``shape`` and ``data_offsets`` of every tensor: plain sizes that fill the file exactly.

    Raises:
        CorruptCheckpoint: the file is truncated, is no safetensors file, or its header contradicts it or itself.
    """
    size = require_regular(path, CorruptCheckpoint)
    with reading(path.name, "a safetensors file", CorruptCheckpoint), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > MAX_HEADER_BYTES or 8 + length > size:
            raise CorruptCheckpoint(
                f"{path.name}: the header declares {length} bytes in a file of {size}; expected at most "
                f"{MAX_HEADER_BYTES} and less than the file; the file is truncated or not safetensors"
            )
        text = file.read(length)
    if text.count(b"{") > MAX_TENSORS + 2:
        raise CorruptCheckpoint(f"{path.name}: more than {MAX_TENSORS} tensors in the header; that many are not read")
    try:
        header, end, unknown = _parsed(text) if length <= _REMEMBERED_BYTES else _parsed.__wrapped__(text)
    except (ValueError, TypeError, LookupError, AttributeError) as problem:
        why = f": {problem}" if isinstance(problem, ValueError) else ""
        raise CorruptCheckpoint(f"{path.name}: the header is not that of a safetensors file{why}") from None
    if unknown:
        known = ", ".join(sorted(_BYTES))
        raise CorruptCheckpoint(f"{path.name}: unsupported dtypes {shortened(unknown)}; expected one of {known}")
    if 8 + length + end != size:
        raise CorruptCheckpoint(
            f"{path.name}: the header declares {8 + length + end} bytes, the file has {size}; "
            "it is truncated or was overwritten; download or export it again"
        )
    _require_in_order(path.name, header)
    return header


@lru_cache(maxsize=64)
def _parsed(text: bytes) -> tuple[Mapping[str, Any], int, list[str]]:
    """What a header declares, where the last tensor ends, and dtypes that are not known.

    Pages open the same files again and again, and the models of a suite mostly have one header.
    """
    header = parse_json(text)
    header.pop(_METADATA, None)
    end = max((_end(entry) for entry in header.values()), default=0)
    return header, end, sorted({str(entry["dtype"])[:20] for entry in header.values()} - _BYTES.keys())


def _end(entry: Mapping[str, Any]) -> int:
    """Where the bytes of a tensor end, once its entry is known to be made of plain sizes."""
    start, end = entry["data_offsets"]
    shape = entry["shape"]
    sizes = [start, end, *shape] if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [None]
    if not all(type(one) is int and 0 <= one < 2**63 for one in sizes):
        raise ValueError("shapes and offsets must be whole numbers, not negative")
    return int(end)


def _require_in_order(file: str, header: Mapping[str, Any]) -> None:
    """Insist that the tensors lie one after the other without gaps, each in as many bytes as its shape says."""
    place = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        if len(name) > MAX_TENSOR_NAME:
            raise CorruptCheckpoint(f"{file}: a tensor's name has {len(name)} letters; at most {MAX_TENSOR_NAME}")
        if start != place or end - start != math.prod(entry["shape"]) * _BYTES[entry["dtype"]]:
            raise CorruptCheckpoint(
                f"{file}: tensor {name!r} is declared from byte {start} to {end} with shape {entry['shape']}; that "
                "overlaps another, leaves a gap, or is not its size; download or export it again"
            )
        place = end
