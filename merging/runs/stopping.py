"""How a run that is under way notices that it is to stop.

To cancel is to write a time into the run's row (:meth:`merging.runs.table.RunStore.cancel`). Who carries the run out
looks there: the worker's child through :class:`StopSign`, this process through :func:`heartbeat`. The machines of a
cluster don't reach the table; they look at an event that ``cluster.py`` sets. The work asks between its steps
(:meth:`merging.core.progress.Work.step`) and ends with :class:`~merging.core.errors.Cancelled`. A child that does not
ask in time is ended by the worker (``worker/serve.py``). Ctrl-C reaches this process alone (:func:`interruptible`).
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from merging.runs.table import STALE_SECONDS, RunStore

_ASK_SECONDS = 0.25  # the table is asked at most this often


class StopSign:
    """Whether a run is to stop; looks at most four times a second.

    Attributes:
        abandoned: it is to stop because whoever looked after it is gone.
    """

    def __init__(self, store: RunStore, run_id: str, abandoned: Callable[[], bool]) -> None:
        self._store = store
        self._run_id = run_id
        self._is_abandoned = abandoned
        self._asked = 0.0
        self._stop = False
        self.abandoned = False

    def __call__(self) -> bool:
        """Whether somebody asked for the run to stop, or nobody is left to look after it."""
        now = time.monotonic()
        if not self._stop and now - self._asked > _ASK_SECONDS:
            self._asked = now
            self.abandoned = self._is_abandoned()
            self._stop = self.abandoned or self._store.get(self._run_id).cancel_asked is not None
        return self._stop


@contextmanager
def heartbeat(store: RunStore, run_id: str) -> Iterator[threading.Event]:
    """Keep a row alive from a thread; the event is set once cancelling was asked for."""
    ended, cancelled = threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(STALE_SECONDS / 10):
            if store.beat(run_id) is not None:
                cancelled.set()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        ended.set()
        thread.join()


@contextmanager
def interruptible(stop: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Let an interruption end the work between two steps at the latest.

    Python raises it wherever the main thread is. In a destructor, or in what a library in C calls, it is printed and
    lost there, and the work would go on.

    Args:
        stop: whether the work is to stop for another reason.

    Yields:
        The same, which raises KeyboardInterrupt once there was an interruption.
    """
    came = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    raising = {number: handler for number, handler in handlers.items() if handler is signal.default_int_handler}

    def note(number: int, frame: Any) -> None:
        came.set()
        signal.default_int_handler(number, frame)

    def asked() -> bool:
        if came.is_set():
            raise KeyboardInterrupt
        return stop()

    if threading.current_thread() is not threading.main_thread():  # others are told of no signals
        raising = {}
    try:
        for number in raising:
            signal.signal(number, note)
        yield asked
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
