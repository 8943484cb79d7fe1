"""Killing work in the middle, as a machine that fails or a system without memory does."""

import os
import signal
import time
import warnings
from collections.abc import Callable

from merging.cli import main
from tests.waiting import PATIENCE


def killed_once(seen: Callable[[], object], work: Callable[[], object]) -> bool:
    """Do something in a process of its own and kill that as soon as something is seen.

    Args:
        seen: whether the work is in its middle, by what it has left behind so far.
        work: what to do.

    Returns:
        Whether it was killed; False if it was done before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which do nothing here
        child = os.fork()
    if not child:
        code = 1
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "it failed before anything was seen of it"
            return False
        if seen():
            break
        assert time.monotonic() < end, "nothing was seen of it"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def command(*words: object) -> Callable[[], object]:
    """A command of the command line, for :func:`killed_once`."""
    return lambda: main([str(word) for word in words], standalone_mode=False)


def again_and_again(work: Callable[[int], object]) -> Callable[[], object]:
    """Something that never ends by itself, for what takes too little time to be killed in its middle but by chance."""

    def without_end() -> None:
        number = 0
        while True:
            work(number)
            number += 1

    return without_end
