"""Whole pickled models as checkpoints: tensors out, nothing run.

Both formats of ``torch.save`` are read: zip archives with a ``data.pkl`` and one member a storage, and the old format,
five pickles followed by the storages. TorchScript archives, as OpenAI's original CLIP files are, have the first of
these formats with code beside it, which is left alone. The pickle is read by :mod:`merging.weights.files.inert_pickle`;
in what comes of it every module is walked as ``state_dict()`` would, by ``_parameters``, ``_buffers`` and ``_modules``;
one of TorchScript has its parameters and modules as plain attributes.
"""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from merging.core.archive import local_data
from merging.core.errors import CheckpointError, CorruptCheckpoint, UnsafeCheckpoint
from merging.core.gate import DAMAGE
from merging.core.limits import MAX_PICKLE_BYTES, MAX_TENSORS
from merging.weights.files import inert_pickle
from merging.weights.files.checkpoint import Checkpoint, TensorInfo, checkpoint_from, require_content
from merging.weights.files.containers import require_as_named
from merging.weights.files.inert_pickle import Shell, StoredBytes, StoredTensor, UnreadTensor
from merging.weights.files.torch_files import (
    MAGIC,
    NESTED,
    Lists,
    Unread,
    check_archive,
    no_state_dict,
    requested_globals,
    require_tensors_of_torch,
)

_MAX_NAME = 300  # characters; names of nested modules grow with every level
_MAX_UNSAVED = 100  # buffers of one module that are not saved; each name is looked for among them
_TIED = 2  # tied weights are in the file once and in the model under two names
_TORCHSCRIPT = "__torch__."  # begins the names of its classes

_WALKED = (StoredTensor, UnreadTensor, Shell, dict, list, tuple)

Places = Mapping[str, tuple[int, int]]  # key of a storage → where it begins in the file, and its bytes


@dataclass(frozen=True)
class PickledModule:
    """What a pickle holds.

    Attributes:
        kind: class of the outermost object, ``dict`` for a plain one.
        classes: dotted names of everything else than tensors that it would import; none was imported.
        tensors: the visual tower of the model, or whatever it holds if that has none.
    """

    kind: str
    classes: tuple[str, ...]
    tensors: Checkpoint


def open_pickled_module(path: Path | str, take: str | None = None) -> PickledModule:
    """Read a file that ``torch.save`` wrote of a whole model, or of a dict with one among other things.

    Args:
        path: the file.
        take: which of several towers, see :func:`merging.weights.files.open_checkpoint`.

    Raises:
        CheckpointError: there is no such file, or tensors are of a kind that is not read.
        CorruptCheckpoint: it is damaged, contradicts itself, or holds no tensors.
        UnsafeCheckpoint: it unpacks to more than it holds.
    """
    path = Path(path)
    require_content(path)
    require_as_named(path)
    try:
        root, places = _from_archive(path) if check_archive(path, torchscript=True) else _from_old_format(path)
        if not isinstance(root, dict | Shell):
            raise no_state_dict(path, root)
        source = _MappedTensors(path, root, places)
    except DAMAGE:
        raise CorruptCheckpoint(f"{path.name}: a damaged archive; download or export it again") from None
    except CheckpointError as error:
        require_tensors_of_torch(path)
        if str(error).startswith(f"{path.name}: "):
            raise
        raise type(error)(f"{path.name}: {error}") from None
    if not source.infos():
        require_tensors_of_torch(path)
    kind = root.kind if isinstance(root, Shell) else type(root).__name__
    return PickledModule(kind, tuple(requested_globals(path)), checkpoint_from(path, source, "visual", take=take))


def _from_archive(path: Path) -> tuple[object, Places]:
    """The root object, and where in the file the storages are."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CorruptCheckpoint(f"{len(pickles)} pickled objects in the archive; torch.save writes one")
        if members[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise CorruptCheckpoint(f"a pickle of more than {MAX_PICKLE_BYTES} bytes beside the tensors")
        prefix = pickles[0].removesuffix("data.pkl")
        order = members.get(f"{prefix}byteorder")
        if order is not None and (order.file_size > 10 or archive.read(order) != b"little"):
            raise CheckpointError("written on a machine with another order of bytes; save it again on this kind")
        places = {
            name.removeprefix(f"{prefix}data/"): _place(file, member)
            for name, member in members.items()
            if name.startswith(f"{prefix}data/")
        }
        return inert_pickle.load(io.BytesIO(archive.read(pickles[0]))), places


def _place(file: Any, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a member begin, and how many there are."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise UnsafeCheckpoint("compressed or encrypted tensors; torch.save writes neither")
    return local_data(file, member), member.file_size


def _from_old_format(path: Path) -> tuple[object, Places]:
    """The same from the old format, in which a list of keys says in which order the storages follow."""
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
        if inert_pickle.load(head) != MAGIC:  # before a version, word sizes, the model and the keys
            raise CorruptCheckpoint("not written by torch.save")
        storages: dict[str, StoredBytes] = {}
        _version, _sizes, root, keys = (inert_pickle.load(head, storages) for _ in range(4))
        places, start = {}, head.tell()
        for key in keys if isinstance(keys, list) else []:
            file.seek(start)
            nbytes = int.from_bytes(file.read(8), "little") * storages[key].dtype.itemsize
            places[key] = (start + 8, nbytes)
            start += 8 + nbytes
    return root, places


def _subject(root: object) -> str:
    """The key of a training checkpoint under which its weights are; empty if the object itself is the model."""
    keys = NESTED if isinstance(root, dict) else ()
    return next((name for name in keys if isinstance(root, dict) and isinstance(root.get(name), dict | Shell)), "")


def _tensors(root: object, lists: Lists) -> Iterator[tuple[str, StoredTensor | UnreadTensor]]:
    """Names and tensors of a model, or of a dict (such as a training checkpoint) that holds models and tensors."""
    subject = _subject(root)
    if subject and isinstance(root, dict):
        root = {subject: root[subject], **root}  # of what stands in two places its own name counts
    left = [iter([("", root)])]
    seen: set[int] = set()  # what stands in two places is walked once
    count = 0
    while left:
        item = next(left[-1], None)
        if item is None:
            left.pop()
            continue
        name, value = item
        if isinstance(value, list | tuple):
            lists.look(name, value)
        elif isinstance(value, StoredTensor | UnreadTensor):
            count += 1
            if count > MAX_TENSORS:
                raise CorruptCheckpoint(f"more than {MAX_TENSORS} tensors")
            yield name, value
        else:
            left.append(_children(f"{name}." if name else "", value, seen))


def _children(prefix: str, value: object, seen: set[int]) -> Iterator[tuple[str, object]]:
    """What a module, or a dict, holds and under which names, unless it was seen before."""
    groups: list[object] = [value]
    unsaved: object = ()
    if isinstance(value, Shell):
        state = value.state if isinstance(value.state, dict) else {}
        scripted = value.kind.startswith(_TORCHSCRIPT)
        groups = [state] if scripted else [state.get(group) for group in ("_parameters", "_buffers", "_modules")]
        unsaved = state.get("_non_persistent_buffers_set")
    unsaved = unsaved if isinstance(unsaved, list) and len(unsaved) <= _MAX_UNSAVED else ()
    for group in groups:
        if isinstance(group, dict) and id(group) not in seen:
            seen.add(id(group))
            for key, child in group.items():
                if not isinstance(child, _WALKED) or not isinstance(key, str) or key in unsaved:
                    continue
                if len(prefix) + len(key) > _MAX_NAME:
                    raise CorruptCheckpoint(f"names of more than {_MAX_NAME} letters")
                yield prefix + key, child


class _MappedTensors:
    """Tensors as views of the memory-mapped file."""

    def __init__(self, path: Path, root: object, places: Places) -> None:
        found: dict[str, StoredTensor | UnreadTensor] = {}
        lists = Lists(StoredTensor, UnreadTensor)
        for name, tensor in _tensors(root, lists):
            if found.setdefault(name, tensor) is not tensor:
                raise CorruptCheckpoint(f"two tensors are called {name[:200]!r}")
        self._places = places
        self._names = tuple(found)
        self._subject = _subject(root)
        self._tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, StoredTensor)}
        others = {name: tensor.what for name, tensor in found.items() if isinstance(tensor, UnreadTensor)}
        self._unread = Unread(others, tuple(lists.found))
        size = path.stat().st_size
        for name, tensor in self._tensors.items():
            start, nbytes = places.get(tensor.storage.key, (0, -1))
            if tensor.storage.numel * tensor.storage.dtype.itemsize > nbytes or start + nbytes > size:
                raise CorruptCheckpoint(f"the numbers of tensor {name[:200]!r} are not all in the file")
        declared = sum(torch.Size(info.shape).numel() * info.dtype.itemsize for info in self.infos().values())
        if declared > _TIED * size:
            raise CorruptCheckpoint(f"its tensors take {declared} bytes, the file has {size}")
        self._bytes = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)

    def infos(self) -> dict[str, TensorInfo]:
        return {name: TensorInfo(tensor.shape, tensor.storage.dtype) for name, tensor in self._tensors.items()}

    def own(self) -> dict[str, str]:
        prefix = f"{self._subject}." if self._subject else ""
        return {name.removeprefix(prefix): name for name in self._names if name.startswith(prefix)}

    def unread(self) -> Unread:
        return self._unread

    def tensor(self, name: str) -> torch.Tensor:
        stored = self._tensors[name]
        dtype, start = stored.storage.dtype, self._places[stored.storage.key][0]
        part = self._bytes[start : start + stored.storage.numel * dtype.itemsize]
        if start % dtype.itemsize:
            part = part.clone()  # numbers are read at multiples of their size only
        numbers = part.view(dtype)
        return numbers.as_strided(stored.shape, stored.stride, numbers.storage_offset() + stored.offset).contiguous()
