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


def ordered(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str) -> Iterator[Result]:
    """``function`` of every item, in the order of the items; computed by threads on the CPU, one by one elsewhere.

    At most a few results wait to be taken, so memory stays bounded.
    """
    workers = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(workers)  # the setting is per thread, but new threads copy the latest one
