"""Working on several tensors at once on the CPU, a few ahead of the reader, with results in order.

Each thread works through one tensor in pieces that stay in its core's cache, with torch confined to that thread:
many small operations in parallel, instead of one after the other each waiting for all cores.
"""

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

COLUMNS = 1 << 16  # entries of one task vector in a piece: small enough for a core's cache, few enough calls

STREAMS = 8  # tensors that a GPU works on at once, at most

_AHEAD, _AHEAD_ON_GPU = 8, 2  # results a thread that may wait for one before them: a matrix beside biases takes long

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


def cores() -> ThreadPoolExecutor:
    """A thread for each core, with torch confined to it, for what a GPU leaves to the processor.

    Always the same ones, whoever waits; a forked process has none of another's.
    """
    return _cores(os.getpid())


@cache
def _cores(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), initializer=confine, thread_name_prefix="core")


def _in_new_thread(function: Callable[[], Result]) -> Result:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device | str, at_once: int = 1
) -> Iterator[Result]:
    """``function`` of every item, in the order of the items; at most a few results wait to be taken.

    On the CPU as many threads as torch has work on items, each confined to its core. On a GPU ``at_once`` threads do,
    each with a stream of its own: a small decomposition leaves most of a GPU idle, so that several take no longer than
    one. There every result is complete when it is given, and may be used on the current stream.
    """
    where = torch.device(device)
    if where.type == "cuda" and at_once > 1 and not hasattr(_memory, "stream"):
        yield from _ahead(
            _on_own_stream(function, where), items, _gpu_threads(where), _AHEAD_ON_GPU * min(at_once, STREAMS)
        )
    elif where.type == "cpu" and threads() > 1:
        workers = threads()
        with ThreadPoolExecutor(workers, initializer=confine) as pool:
            yield from _ahead(function, items, pool, _AHEAD * workers)
    else:
        yield from map(function, items)


def _ahead(
    function: Callable[[Item], Result], items: Iterable[Item], pool: ThreadPoolExecutor, most: int
) -> Iterator[Result]:
    """Results by several threads, at most so many ahead of whoever takes them."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()
        wait(waiting)


@cache
def _gpu_threads(device: torch.device) -> ThreadPoolExecutor:
    """The threads that work on a GPU, each with its stream: always the same ones.

    For each pair of a thread and a stream cuBLAS takes memory for good.
    """
    torch.linalg.inv(torch.ones(1, 1, device=device))  # loads the library, which several threads at once can't
    return ThreadPoolExecutor(STREAMS, thread_name_prefix=str(device))


def _on_own_stream(function: Callable[[Item], Result], device: torch.device) -> Callable[[Item], Result]:
    """The function on the calling thread's own stream, after all that was asked for before on the current one."""
    started = torch.cuda.current_stream(device)

    def run(item: Item) -> Result:
        if not hasattr(_memory, "stream"):
            _memory.stream = torch.cuda.Stream(device)
        stream: torch.cuda.Stream = _memory.stream
        stream.wait_stream(started)
        with torch.cuda.stream(stream):
            result = function(item)
        stream.synchronize()
        _share(result, started)
        return result

    return run


def _share(result: object, stream: torch.cuda.Stream) -> None:
    """Keep the memory of tensors in a result from being used again before the stream is done with them."""
    if isinstance(result, torch.Tensor):
        if result.is_cuda:
            result.record_stream(stream)
    elif isinstance(result, Mapping):
        for value in result.values():
            _share(value, stream)
    elif isinstance(result, list | tuple):
        for value in result:
            _share(value, stream)
