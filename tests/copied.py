"""Work in copies of this process, which begin at once: a Python of its own loads libraries for seconds first."""

import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from merging.__main__ import run
from tests.waiting import PATIENCE


class Copied:
    """A process that does something and ends; of a :class:`subprocess.Popen` it has what tests need.

    Args:
        work: what it does; it fails if that raises anything.
        log: a file for what it says; nobody hears it without.

    Attributes:
        pid: its id.
        returncode: its status once it has ended, less than 0 if a signal killed it.
    """

    def __init__(self, work: Callable[[], object], log: Path | None = None) -> None:
        self.returncode: int | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which do nothing here
            self.pid = os.fork()
        if not self.pid:
            _do(work, log or Path(os.devnull))

    def poll(self) -> int | None:
        """Its status, once it has ended."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its status; waits for it to end."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            assert time.monotonic() < end, "it does not end"
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


@contextmanager
def copied(work: Callable[[], object], log: Path | None = None) -> Iterator[Copied]:
    """A process that does something, and lives no longer than this."""
    process = Copied(work, log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def command_alone(*words: object) -> Callable[[], NoReturn]:
    """A command as ``python -m merging`` carries it out, in a session of its own."""

    def work() -> NoReturn:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logging.root.handlers.clear()
        sys.argv = ["merging", *map(str, words)]
        run()

    return work


def _do(work: Callable[[], object], log: Path) -> NoReturn:
    """The life of a copy."""
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", buffering=1) for number in (1, 2))
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
