"""Writing weight files tensor by tensor, so that a merged model never has to fit in memory.

safetensors' own ``save_file`` wants all tensors at once. The format is an 8-byte length, a JSON header and the raw
bytes, so the header can be written first from shapes alone and the tensors streamed after it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch

from merging.core.errors import CheckpointError
from merging.core.files import atomic_path, require_place
from merging.core.places import path_of
from merging.weights.files.layouts import Origin, huggingface_names
from merging.weights.files.reading import _DTYPES, TensorInfo

WrittenLayout = Literal["open_clip", "huggingface"]
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NOTHING = TensorInfo((), torch.bool)


def require_writable(path: Path) -> None:
    """Find out before long work whether its result can be written to ``path``.

    Raises:
        CheckpointError: the name is not that of a weight file, or as :func:`require_place`.
    """
    _require_suffix(path)
    require_place(path)


def _require_suffix(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name}: merged weights are written as .safetensors; name the file so")


def save_tensors(
    path: Path | str,
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str] | None = None,
    layout: WrittenLayout = "open_clip",
) -> int:
    """Write a ``.safetensors`` file from a stream of tensors; the file appears only when it is complete.

    Args:
        path: where to write; an existing file is replaced.
        infos: shape and dtype to store of every tensor, in the order in which the stream gives them.
        tensors: the stream; each tensor is converted to the dtype in ``infos``.
        metadata: strings for the header.
        layout: ``open_clip`` writes names and tensors as they come; ``huggingface`` writes a visual tower as
            transformers' ``CLIPVisionModelWithProjection``, or ``CLIPVisionModel`` where there is no ``proj``.

    Returns:
        Number of bytes written.

    Raises:
        CheckpointError: the stream's names, order or shapes differ from ``infos``, the tower has no such layout, or
            the disk refuses.
    """
    path = path_of(path)
    _require_suffix(path)
    if layout == "huggingface":
        origins = huggingface_names(tuple(infos))
        infos, tensors = _split_infos(infos, origins), _split(tensors, origins)
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, info in infos.items():
        nbytes = torch.Size(info.shape).numel() * info.dtype.itemsize
        header[name] = {
            "dtype": _CODES[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offset, offset + nbytes],
        }
        offset += nbytes
    blob = json.dumps(header, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)
    with atomic_path(path) as temporary, temporary.open("wb", buffering=0) as file:
        file.write(len(blob).to_bytes(8, "little") + blob)
        expected = iter(infos.items())
        for name, tensor in tensors:
            wanted, info = next(expected, ("nothing more", _NOTHING))
            if name != wanted or tuple(tensor.shape) != info.shape:
                raise CheckpointError(
                    f"{path.name}: got tensor {name!r} {tuple(tensor.shape)} where {wanted!r} was announced"
                )
            data = tensor.detach().to("cpu", info.dtype).contiguous()
            view = memoryview(data.view(-1).view(torch.uint8).numpy().data) if data.numel() else memoryview(b"")
            while view:  # an unbuffered write may take only a part
                view = view[file.write(view) :]
        if next(expected, None) is not None:
            raise CheckpointError(f"{path.name}: the stream ended before all {len(infos)} tensors were written")
    return 8 + len(blob) + offset


def _split_infos(infos: Mapping[str, TensorInfo], origins: Mapping[str, Origin]) -> dict[str, TensorInfo]:
    """Shapes and dtypes of the stored parts of a tower's tensors."""
    parts = {}
    for name, info in infos.items():
        stored, shape = origins[name].stored, info.shape
        if len(stored) > 1:
            shape = (shape[0] // len(stored), *shape[1:])
        elif origins[name].transposed:
            shape = shape[::-1]
        parts.update(dict.fromkeys(stored, TensorInfo(shape, info.dtype)))
    return parts


def _split(
    tensors: Iterable[tuple[str, torch.Tensor]], origins: Mapping[str, Origin]
) -> Iterator[tuple[str, torch.Tensor]]:
    """A stream of tower tensors as the parts that are stored."""
    for name, tensor in tensors:
        stored = origins[name].stored
        if len(stored) > 1:
            yield from zip(stored, tensor.chunk(len(stored)), strict=True)
        else:
            yield stored[0], tensor.T if origins[name].transposed else tensor
