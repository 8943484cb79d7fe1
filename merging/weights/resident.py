"""Weights that stay on the device: the files are read onto it once, for all merges of the same models.

A merge on a GPU that reads tensor by tensor waits for the computer's memory and for files nearly all of its time. Where
base and models fit in the device's free memory they are copied there first, several files at a time and through pinned
memory, in the precision of the files. Then everything that asks for task vectors finds them in the device's own memory.
They stay for the next run of the same process, by their content, until somebody needs the room.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir

import torch
from filelock import FileLock

from merging.core.devices import free_memory, release
from merging.core.memory import is_out_of_memory
from merging.core.progress import Work
from merging.core.streaming import STREAMS, confine
from merging.weights.files.checkpoint import Checkpoint, TensorInfo
from merging.weights.vectors import TaskVectors

_STAGE = 8 * 2**20  # bytes of pinned memory that a thread fills while its other buffer is on its way
_THREADS = 8
_PART = 32 * 2**20  # bytes of a file that a thread reads at a time, so that none is left with a whole file at the end
_FLOAT = 4
WORKING_ROOM = 2**30  # bytes left free for what methods hold at once besides stacks and the result

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Room:
    """Bytes that resident weights take, and what must be free beside them.

    Attributes:
        models: base and models, as stored.
        result: the merged weights, float32.
        stacks: four stacks ``[T, N]`` of the largest tensor: that of the task vectors, an edited one, and temporaries.
    """

    models: int
    result: int
    stacks: int

    @classmethod
    def of(cls, vectors: TaskVectors) -> "Room":
        """From shapes alone."""
        largest = max((torch.Size(vectors.info(name).shape).numel() for name in vectors.names), default=0)
        return cls(
            sum(checkpoint.nbytes for checkpoint in (vectors.base, *vectors.checkpoints)),
            _FLOAT * vectors.size,
            4 * _FLOAT * len(vectors.tasks) * largest,
        )

    @property
    def beside(self) -> int:
        """Bytes besides the models."""
        return self.result + self.stacks + WORKING_ROOM

    @property
    def total(self) -> int:
        """All of it."""
        return self.models + self.beside

    def streamed(self, device: torch.device) -> str:
        """What to say where they did not fit."""
        gigabytes, free = self.total / 2**30, free_memory(device) / 2**30
        return (
            f"the models did not fit on {device} beside what is there ({gigabytes:.1f} GiB needed, {free:.1f} GiB "
            "free), so they were read tensor by tensor, which is slower and gives the same numbers"
        )


def at_once(vectors: TaskVectors, device: torch.device) -> int:
    """How many tensors a GPU may work on at once: as many as have room for all that methods hold of the largest one."""
    if vectors.resident is None or device.type != "cuda":
        return 1
    return max(1, min(STREAMS, int(free_memory(device) // (4 * max(1, Room.of(vectors).stacks)))))


def worthwhile(device: torch.device) -> bool:
    """Whether weights are better off on a device than in files; the CPU has those mapped."""
    return device.type != "cpu"


def wanted(work: Work) -> bool:
    """Whether weights are to stay on the device of some work, if they fit."""
    return work.resident and worthwhile(work.device)


class Shelf:
    """The weights that are on devices now, by content: one for a process.

    Those whose fingerprint nobody has taken yet are not kept for others.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kept: OrderedDict[tuple[str, str], _Piece] = OrderedDict()

    def held(self, vectors: TaskVectors, work: Work) -> TaskVectors:
        """The same task vectors with all weights on the device of the work, where they fit; else as they are.

        On the CPU files are mapped into memory, which is as good. Weights of other models leave the device if their
        room is needed, those first that were asked for longest ago.

        Raises:
            MergingError: a file can't be read.
            Cancelled: on request.
        """
        if not wanted(work) or vectors.resident is not None:
            return vectors
        return self.placed(vectors, work)

    def placed(self, vectors: TaskVectors, work: Work) -> TaskVectors:
        """As :meth:`held`, whatever the device."""
        models = (vectors.base, *vectors.checkpoints)
        need = Room.of(vectors)
        with self._lock, _one_at_a_time(work.device):
            keys = [self._key(model, work.device) for model in models]
            known = [self._find(key) for key in keys]
            missing = [index for index, weights in enumerate(known) if weights is None]
            bytes_missing = sum(models[index].nbytes for index in missing)
            if not self._make_room(bytes_missing + need.beside, work.device, {key for key in keys if key}):
                return vectors
            pieces = _allocated_for([models[index] for index in missing], work.device)
        if pieces is None:  # a program that does not ask was faster
            self.clear(work.device)
            return vectors
        _fill_all([models[index] for index in missing], pieces, work)
        with self._lock:
            for index, piece in zip(missing, pieces, strict=True):
                known[index] = piece.tensors
                key = keys[index]
                if key is not None:
                    self._kept[key] = piece
        found = tuple(weights for weights in known if weights is not None)
        return vectors.kept(Resident(work.device, found))

    def clear(self, device: torch.device | None = None) -> None:
        """Give back the room, of one device or of all; vectors in use keep theirs until they are done."""
        with self._lock:
            for key in [key for key in self._kept if device is None or key[0] == str(device)]:
                del self._kept[key]
        release()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return sum(nbytes(piece.tensors) for piece in self._kept.values())

    def _key(self, model: Checkpoint, device: torch.device) -> tuple[str, str] | None:
        files = [model] if model.lender is None else [model, model.lender]
        prints = [file.known_fingerprint for file in files]
        return None if None in prints else (str(device), " ".join(filter(None, prints)))

    def _find(self, key: tuple[str, str] | None) -> Weights | None:
        if key is None or key not in self._kept:
            return None
        if not self._kept[key].untouched:  # by a method that writes into what it is given
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return self._kept[key].tensors

    def _make_room(self, size: int, device: torch.device, in_use: set[tuple[str, str]]) -> bool:
        """Whether so many bytes are free, after other models left, the longest unused first."""
        while free_memory(device) < size:
            other = next((key for key in self._kept if key[0] == str(device) and key not in in_use), None)
            if other is None:
                return False
            del self._kept[other]
            release()
        return True


@contextmanager
def _one_at_a_time(device: torch.device) -> Iterator[None]:
    """Of the processes on this machine one looks how much is free and takes it, so that two do not take the same."""
    lock = FileLock(Path(gettempdir()) / f"merging-{str(device).replace(':', '-')}.lock", mode=0o666)
    with suppress(OSError):  # another person's: then running out of memory is what tells
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Resident:
    """Weights on a device: those of the base, then those of every model in order."""

    device: torch.device
    weights: tuple[Weights, ...]

    @cached_property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(map(nbytes, self.weights))

    def select(self, order: Sequence[int]) -> "Resident":
        """The base and some of the models."""
        return Resident(self.device, (self.weights[0], *(self.weights[1 + index] for index in order)))


def nbytes(weights: Weights) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in weights.values())


class _Piece:
    """A file's tensors on a device: in one piece of flat memory for each dtype, in which they lie in order."""

    def __init__(self, infos: Mapping[str, TensorInfo], device: torch.device) -> None:
        sizes: dict[torch.dtype, int] = {}
        for info in infos.values():
            sizes[info.dtype] = sizes.get(info.dtype, 0) + torch.Size(info.shape).numel()
        self.flat = {dtype: torch.empty(size, dtype=dtype, device=device) for dtype, size in sizes.items()}
        self.tensors: dict[str, torch.Tensor] = {}
        start = dict.fromkeys(self.flat, 0)
        for name, info in infos.items():
            end = start[info.dtype] + torch.Size(info.shape).numel()
            self.tensors[name] = self.flat[info.dtype][start[info.dtype] : end].view(info.shape)
            start[info.dtype] = end
        self._written = self._writes()

    def parts(self) -> Iterator[list[str]]:
        """All tensors, in runs of one dtype that lie in order, of about so many bytes as a thread reads at a time."""
        for dtype in self.flat:
            part: list[str] = []
            size = 0
            for name, tensor in self.tensors.items():
                if tensor.dtype != dtype:
                    continue
                if part and size + tensor.nbytes > _PART:
                    yield part
                    part, size = [], 0
                part.append(name)
                size += tensor.nbytes
            yield part

    def fill(self, model: Checkpoint, part: Sequence[str], stage: "_Stage") -> None:
        """Copy some of a file's tensors to where they are to lie."""
        first = self.tensors[part[0]]
        start, size = first.storage_offset(), sum(self.tensors[name].numel() for name in part)
        stage.begin(self.flat[first.dtype][start : start + size])
        for name in part:
            stage.add(model[name].reshape(-1))
        stage.flush()

    def filled(self) -> None:
        """Say that all is there: from now on nobody is to write into it."""
        self._written = self._writes()

    @property
    def untouched(self) -> bool:
        """Whether nobody has written into the tensors since they were filled."""
        return self._writes() == self._written

    def _writes(self) -> list[int]:
        return [memory._version for memory in self.flat.values()]  # counted by torch, over all views


def _allocated_for(models: Sequence[Checkpoint], device: torch.device) -> list[_Piece] | None:
    """Room for several files; None if there is none."""
    try:
        return [_Piece(model.infos, device) for model in models]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _fill_all(models: Sequence[Checkpoint], pieces: Sequence[_Piece], work: Work) -> None:
    """Read files into the room that was made for them.

    Several threads read parts of them; each fills one buffer of pinned memory while its other one is copied.

    Raises:
        MergingError: a file can't be read.
        Cancelled: on request.
    """
    parts = [(piece, model, part) for piece, model in zip(pieces, models, strict=True) for part in piece.parts()]
    work.step(0, len(parts), "reading models onto the device")
    local = threading.local()

    def fill(part: tuple[_Piece, Checkpoint, list[str]]) -> None:
        if not hasattr(local, "stage"):
            local.stage = _Stage(work.device)
        _Piece.fill(*part, local.stage)

    pool = ThreadPoolExecutor(_THREADS, initializer=confine)
    try:
        for done, _ in enumerate(pool.map(fill, parts)):
            work.step(done + 1, len(parts), "reading models onto the device")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    for piece in pieces:
        piece.filled()
    if work.device.type == "cuda":
        torch.cuda.synchronize(work.device)


class _Stage:
    """Copies tensors one after the other into flat memory on a device, by way of two pinned buffers in turn."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._room = [torch.empty(_STAGE, dtype=torch.uint8, pin_memory=self._on_gpu) for _ in range(2)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def begin(self, memory: torch.Tensor) -> None:
        """Say where the tensors that follow are to lie."""
        self._memory = memory
        usable = _STAGE // memory.element_size() * memory.element_size()
        self._buffers = [room[:usable].view(memory.dtype) for room in self._room]
        self._filled = 0
        self._start = 0  # where in the memory the buffer begins

    def add(self, tensor: torch.Tensor) -> None:
        """Append the entries of a flat tensor."""
        while tensor.numel():
            buffer = self._buffers[self._turn]
            part = tensor[: len(buffer) - self._filled]
            buffer[self._filled : self._filled + len(part)].copy_(part)
            self._filled += len(part)
            tensor = tensor[len(part) :]
            if self._filled == len(buffer):
                self.flush()

    def flush(self) -> None:
        """Send what the buffer holds, and wait until the other one may be filled."""
        end = self._start + self._filled
        self._memory[self._start : end].copy_(self._buffers[self._turn][: self._filled], non_blocking=self._on_gpu)
        if self._on_gpu:
            event = self._sent[self._turn] = torch.cuda.Event()
            event.record(torch.cuda.current_stream(self._memory.device))
        self._start, self._filled, self._turn = end, 0, 1 - self._turn
        waiting = self._sent[self._turn]
        if waiting is not None:
            waiting.synchronize()


shelf = Shelf()
