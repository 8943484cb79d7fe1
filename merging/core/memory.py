"""Memory: the most that was held while something ran, and what to do when there is not enough.

On a CPU that is anonymous memory of the process: resident pages of mapped files, which the system can take back at any
time, do not count.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil
import torch

from merging.core.devices import describe, release
from merging.core.errors import DeviceError

Result = TypeVar("Result")

_PROCESSES = Path("/proc")
# What torch says on devices that have no error of their own for it
_MESSAGES = ("can't allocate memory", "not enough memory", "backend out of memory")


def anonymous_bytes(process: int | None = None) -> int:
    """Anonymous memory of this process, or of another, now; all resident memory where the system tells no more.

    Raises:
        ProcessLookupError: there is no such process any more.
    """
    status = _PROCESSES / str(process or "self") / "status"
    try:
        if not (_PROCESSES / "self").exists():
            return int(psutil.Process(process).memory_info().rss)
        lines = status.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("RssAnon"))  # one that waits to be buried has none
    except (FileNotFoundError, StopIteration, psutil.NoSuchProcess):
        raise ProcessLookupError(f"there is no process {process}") from None
    return int(line.split()[1]) * 1024


class PeakMemory:
    """The most memory held within a ``with`` block above what was held when it began.

    Of a CUDA device what torch's allocator handed out; else anonymous memory of the process, looked at from a thread
    every few milliseconds.

    Attributes:
        peak: bytes; final when the block has ended.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self.peak = 0

    def __enter__(self) -> "PeakMemory":
        release()  # what earlier work left behind would be used again, and not be seen
        if self._device.type == "cuda":
            torch.cuda.init()  # before which nothing can be asked
        self._start = self._held()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device) - self._start
        else:
            self._ended.set()
            self._thread.join()

    def _held(self) -> int:
        return torch.cuda.memory_allocated(self._device) if self._device.type == "cuda" else anonymous_bytes()

    def _sample(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(0.005)
            self.peak = max(self.peak, self._held() - self._start)


@dataclass
class BatchSize:
    """How many images go through a model at once: halved, for good, when the device's memory runs out."""

    images: int

    def fit(self, work: Callable[[int], Result]) -> Result:
        """``work`` of as many images at once as there is memory for; it is done again from its start with half as many.

        Raises:
            Exception: whatever ``work`` raises, and running out of memory with one image.
        """
        while True:
            try:
                return work(self.images)
            except (RuntimeError, MemoryError) as error:
                if self.images == 1 or not is_out_of_memory(error):
                    raise
            self.images //= 2  # outside of the handler, whose error keeps the tensors of the failed try alive
            release()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def explain_out_of_memory(device: torch.device) -> DeviceError:
    """The error to raise in place of torch's when memory has run out, batches of one image included."""
    info = describe(device)
    host = "" if device.type == "cpu" else ", --device cpu"
    return DeviceError(
        f"out of memory on {info.title} ({info.memory / 2**30:.1f} GiB): choose fewer tasks; for AdaMerging "
        f"merge.task_vectors=bfloat16 or merge.held=host; dtype bfloat16{host}; or close other programs that use it"
    )
