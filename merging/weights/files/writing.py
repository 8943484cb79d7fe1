"""Writing weight files tensor by tensor, so that a merged model never has to fit in memory.

safetensors' own ``save_file`` wants all tensors at once. The format is an 8-byte length, a JSON header and the raw
bytes, so the header can be written first from shapes alone and the tensors streamed after it.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal, get_args

import torch

from merging.core.errors import CheckpointError, SpecError
from merging.core.files import atomic_path, require_place
from merging.core.places import path_of
from merging.core.text import in_a_row
from merging.weights.files.checkpoint import _DTYPES, TensorInfo
from merging.weights.files.folders import INDEX, MAX_SHARDS, shards_of
from merging.weights.files.layouts import Origin, huggingface_names

WrittenLayout = Literal["open_clip", "huggingface"]
WrittenDtype = Literal["as-base", "float32", "bfloat16", "float16"]
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NOTHING = TensorInfo((), torch.bool)
_AHEAD = 3  # tensors that may wait to be written


@dataclass(frozen=True)
class Form:
    """How weights are written.

    Attributes:
        layout: ``open_clip`` writes names and tensors as they come; ``huggingface`` writes a visual tower as
            transformers' ``CLIPVisionModelWithProjection``, or ``CLIPVisionModel`` where there is no ``proj``.
        dtype: what floating-point tensors are rounded to; ``as-base`` leaves them as they come.
        shard_bytes: bytes of tensors in one file at most; one larger tensor has a file of its own. None: one file.

    Raises:
        SpecError: a form that nobody writes.
    """

    layout: WrittenLayout = "open_clip"
    dtype: WrittenDtype = "as-base"
    shard_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("layout", self.layout, get_args(WrittenLayout)),
            ("dtype", self.dtype, get_args(WrittenDtype)),
        ):
            if value not in known:
                raise SpecError(f"{name}: expected one of {', '.join(known)}; got {value!r}")
        size = self.shard_bytes
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise SpecError(f"shard_bytes: expected a whole number of bytes, 1 or more, or None; got {size!r}")

    @property
    def plain(self) -> bool:
        """Whether weights are written as they come, into one file."""
        return self == Form()

    def rounded(self, infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
        """Shapes and dtypes as they are stored."""
        if self.dtype == "as-base":
            return dict(infos)
        dtype: torch.dtype = getattr(torch, self.dtype)
        return {name: TensorInfo(info.shape, dtype if info.floating else info.dtype) for name, info in infos.items()}


PLAIN = Form()


def dtype_in_words(dtype: WrittenDtype, infos: Mapping[str, TensorInfo]) -> str:
    """What becomes of numbers that are written in another precision; empty where they stay as they are.

    >>> dtype_in_words("float32", {"proj": TensorInfo((2, 2), torch.float16)})
    'widened from float16 to float32, which makes no number more precise'
    >>> dtype_in_words("float32", {"proj": TensorInfo((2, 2), torch.float32)})
    ''
    """
    if dtype == "as-base":
        return ""
    wanted: torch.dtype = getattr(torch, dtype)
    others = sorted({info.dtype for info in infos.values() if info.floating} - {wanted}, key=str)
    wider = [str(one).removeprefix("torch.") for one in others if torch.promote_types(one, wanted) == wanted]
    said = [f"widened from {in_a_row(wider)} to {dtype}, which makes no number more precise"] if wider else []
    return "; ".join([*said, *([f"rounded to {dtype}"] if len(wider) < len(others) else [])])


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


def index_of(path: Path) -> Path:
    """The file that says which tensor is in which file, where weights called ``path`` are written into several."""
    return path.with_name(path.name + INDEX)


def written_files(path: Path) -> list[Path]:
    """The files with the tensors of weights that were written here under a name: one, or those that an index names.

    Raises:
        CorruptCheckpoint: the index is broken.
    """
    index = index_of(path)
    return [path] if path.is_file() or not index.is_file() else [*shards_of(index)]


def save_tensors(
    path: Path | str,
    infos: Mapping[str, TensorInfo],
    tensors: Iterable[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str] | None = None,
    layout: WrittenLayout = "open_clip",
    form: Form | None = None,
) -> int:
    """Write a ``.safetensors`` file, or several and an index, from a stream of tensors; whole or not at all.

    Args:
        path: where to write; an existing file is replaced. Several files are called after it, such as
            ``model-00001-of-00003.safetensors`` and ``model.safetensors.index.json``.
        infos: shape and dtype to store of every tensor, in the order in which the stream gives them.
        tensors: the stream; each tensor is converted to the dtype in ``infos``.
        metadata: strings for the header.
        layout: as in :class:`Form`, where nothing else of that is wanted.
        form: how to write.

    Returns:
        Number of bytes written.

    Raises:
        CheckpointError: the stream's names, order or shapes differ from ``infos``, the tower has no such layout, a
            value is too large for the dtype, another model of the same name is in the way, or the disk refuses.
    """
    path, form = path_of(path), form or Form(layout)
    _require_suffix(path)
    infos = form.rounded(infos)
    if form.layout == "huggingface":
        origins = huggingface_names(tuple(infos))
        infos, tensors = _split_infos(infos, origins), _split(tensors, origins)
    parts = _parted(infos, form.shard_bytes)
    names = [path.name]
    if len(parts) > 1:
        names = [f"{path.stem}-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    if len(parts) > MAX_SHARDS:
        raise CheckpointError(
            f"{path.name}: {len(parts)} files of at most {form.shard_bytes} bytes; at most {MAX_SHARDS} are read; "
            "write larger ones"
        )
    _require_no_other(path, sharded=len(parts) > 1)
    header = {"format": "pt", **(metadata or {})}
    stream, written = iter(tensors), 0
    with ExitStack() as files:  # renamed in reverse when all are complete: the index, which makes a model of them, last
        if len(parts) > 1:
            index = files.enter_context(atomic_path(index_of(path)))
            index.write_text(_index(dict(zip(names, parts, strict=True))), encoding="utf-8")
        for name, part in zip(names, parts, strict=True):
            temporary = files.enter_context(atomic_path(path.with_name(name)))
            written += _write(temporary, name, part, stream, header)
        if next(stream, None) is not None:
            raise CheckpointError(f"{path.name}: the stream goes on after the {len(infos)} tensors that were announced")
    return written


def _require_no_other(path: Path, sharded: bool) -> None:
    """Of a single file and an index of the same name, readers take the one or the other: there must not be both."""
    other = path if sharded else index_of(path)
    if other.is_file():
        raise CheckpointError(
            f"{path.name}: {other.name} lies there already, and readers could take the one for the other; remove it, "
            "or choose another name or folder"
        )


def _parted(infos: Mapping[str, TensorInfo], limit: int | None) -> list[dict[str, TensorInfo]]:
    """The tensors of each file, in the order of the stream."""
    parts: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in infos.items():
        nbytes = _nbytes(info)
        if limit is not None and parts[-1] and filled + nbytes > limit:
            parts.append({})
            filled = 0
        parts[-1][name] = info
        filled += nbytes
    return parts


def _index(parts: Mapping[str, Mapping[str, TensorInfo]]) -> str:
    """The index as transformers writes it."""
    total = sum(_nbytes(info) for part in parts.values() for info in part.values())
    where = {name: file for file, part in parts.items() for name in part}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=1) + "\n"


def _nbytes(info: TensorInfo) -> int:
    return torch.Size(info.shape).numel() * info.dtype.itemsize


def _write(
    target: Path,
    name_of_file: str,
    infos: Mapping[str, TensorInfo],
    stream: Iterator[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str],
) -> int:
    """Write one file from as much of the stream as belongs there; gives its bytes."""
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name, info in infos.items():
        end = offset + _nbytes(info)
        header[name] = {"dtype": _CODES[info.dtype], "shape": list(info.shape), "data_offsets": [offset, end]}
        offset = end
    blob = json.dumps(header, separators=(",", ":")).encode()
    blob += b" " * (-len(blob) % 8)
    with target.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as writer:
        file.write(len(blob).to_bytes(8, "little") + blob)
        waiting: deque[Future[None]] = deque()  # written while the next tensors are computed
        for wanted, info in infos.items():
            name, tensor = next(stream, ("", None))
            if tensor is None:
                raise CheckpointError(f"{name_of_file}: the stream ended before all {len(infos)} tensors were written")
            if name != wanted or tuple(tensor.shape) != info.shape:
                raise CheckpointError(
                    f"{name_of_file}: got tensor {name!r} {tuple(tensor.shape)} where {wanted!r} was announced"
                )
            arriving = _sent(tensor.detach(), info.dtype, f"{name_of_file}: tensor {name!r}")
            waiting.append(writer.submit(_append, file, arriving))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
        for one in waiting:
            one.result()
    return 8 + len(blob) + offset


def _append(file: FileIO, arriving: Callable[[], torch.Tensor]) -> None:
    """Write a tensor's bytes."""
    data = arriving()
    view = memoryview(data.view(-1).view(torch.uint8).numpy().data) if data.numel() else memoryview(b"")
    while view:  # an unbuffered write may take only a part
        view = view[file.write(view) :]


def _sent(tensor: torch.Tensor, dtype: torch.dtype, where: str) -> Callable[[], torch.Tensor]:
    """A tensor on its way to the CPU as it is stored, there when it is called for.

    Raises:
        CheckpointError: a value that the dtype can't hold, which is not made infinite in silence.
    """
    data = tensor.to(dtype).contiguous()
    narrower = tensor.is_floating_point() and torch.finfo(dtype).max < torch.finfo(tensor.dtype).max
    if narrower and not bool(torch.isfinite(data).all()) and bool(torch.isfinite(tensor).all()):
        name = str(dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{where} holds values up to {float(tensor.abs().max()):.6g}, more than {name} can hold "
            f"({torch.finfo(dtype).max:.6g}); nothing was written; write float32 or bfloat16"
        )
    if data.device.type != "cuda":
        return data.cpu
    arrived = torch.empty(data.shape, dtype=dtype, pin_memory=True).copy_(data, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(data.device))

    def wait() -> torch.Tensor:
        event.synchronize()
        return arrived

    return wait


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
