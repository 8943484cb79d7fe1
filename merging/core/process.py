"""Processes that the worker starts: how they begin, end, are killed, and notice that nobody looks after them any more.

Where a process can be copied, each is a copy (``fork``), which has all modules loaded and starts at once. On Windows,
where there is no ``fork``, and on macOS, where Python's own libraries do not survive it, each is a fresh Python
(``spawn``), which loads them again: some seconds more a run, else the same.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import psutil


def start_method() -> Literal["fork", "spawn"]:
    """How processes are started on this system, as :mod:`multiprocessing` calls it."""
    return "fork" if hasattr(os, "fork") and sys.platform != "darwin" else "spawn"


class Process:
    """A process that does something and ends.

    Args:
        body: a function of a module, so that another Python finds it; how it ends is the process' exit status.
        given: its arguments, which can be pickled.

    Attributes:
        pid: its id.
    """

    def __init__(self, body: Callable[..., Any], *given: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        context: Any = multiprocessing.get_context(start_method())
        self._process = context.Process(target=body, args=given, daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        """Its exit status, once it has ended; where a signal killed it, less than 0: the signal's number."""
        status: int | None = self._process.exitcode
        return status

    def kill(self) -> None:
        """End it at once, and all that it has started."""
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for each in (*root.children(recursive=True), root):
                with suppress(psutil.NoSuchProcess):
                    each.kill()


def become_independent() -> None:
    """Leave Ctrl-C to the parent, and end by SIGTERM whatever the parent does then; called first in a body."""
    if hasattr(os, "setsid"):
        os.setsid()  # the terminal's signals go to the parent alone, which sees to its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def orphaned() -> Callable[[], bool]:
    """A question to be asked again and again: whether the parent is gone. Called in a body.

    Some systems give an orphan another parent; where none does, the number of the former one may be somebody else's by
    then. The pipe that :mod:`multiprocessing` keeps for it does not tell, as brothers hold its other end, too.
    """
    started_by = multiprocessing.parent_process()
    if started_by is None or started_by.pid is None:
        raise RuntimeError("orphaned() is for processes that were started by Process")
    try:
        parent = psutil.Process(started_by.pid)
    except psutil.NoSuchProcess:
        return lambda: True
    return lambda: os.getppid() != parent.pid or not parent.is_running()
