"""Working on several tensors at once on the CPU, a few ahead of the reader, with results in order.

Each thread works through one tensor in pieces that stay in its core's cache, with torch confined to that thread:
many small operations in parallel, instead of one after the other each waiting for all cores.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

COLUMNS = 1 << 16  # entries of one task vector in a piece: small enough for a core's cache, few enough calls

_memory = threading.local()
_setting = threading.Lock()

Item = TypeVar("Item")
Result = TypeVar("Result")


def scratch(shape: Sequence[int]) -> torch.Tensor:
    """Uninitialised float32 memory on the CPU, good until the same thread asks again.

    The system maps fresh memory page by page, which takes several times longer than subtracting two tensors into it.
    """
    size = math.prod(shape)
    buffer: torch.Tensor | None = getattr(_memory, "buffer", None)
    if buffer is None or buffer.numel() < size:
        _memory.buffer = buffer = torch.empty(size)
    return buffer[:size].view(torch.Size(shape))


def threads() -> int:
    """How many threads torch works with on the CPU, which is how many tensors :func:`ordered` works on at once.

    ``torch.set_num_threads`` sets that of its own thread, and that of all threads which use torch for the first time
    later. So what a thread is told of itself may be the one to which another's work was confined just then: asked is a
    new thread, at a time when nobody confines any. It is one within the work of :func:`ordered`.
    """
    if getattr(_memory, "confined", False):
        return 1
    with _setting:
        return _in_new_thread(torch.get_num_threads)


def confine() -> None:
    """Confine torch to this thread, and no other."""
    with _setting:
        usual = torch.get_num_threads()  # a thread's first use of torch sets its number: not after it was set here
        torch.set_num_threads(1)
        _in_new_thread(lambda: torch.set_num_threads(usual))
    _memory.confined = True


def _in_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def ordered(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str) -> Iterator[Result]:
    """``function`` of every item, in the order of the items; computed by threads on the CPU, one by one elsewhere.

    At most a few results wait to be taken, so memory stays bounded.
    """
    workers = threads() if torch.device(device).type == "cpu" else 1
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=confine)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
