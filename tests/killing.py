"""Killing work in the middle, as a machine that fails or a system without memory does."""

import signal
import time
from collections.abc import Callable

from merging.cli import main
from tests.copied import Copied
from tests.waiting import PATIENCE


def killed_once(seen: Callable[[], object], work: Callable[[], object]) -> bool:
    """Do something in a process of its own and kill that as soon as something is seen.

    Args:
        seen: whether the work is in its middle, by what it has left behind so far.
        work: what to do.

    Returns:
        Whether it was killed; False if it was done before.
    """
    child, end = Copied(work), time.monotonic() + PATIENCE
    while child.poll() is None:
        if seen():
            child.kill()
            return child.wait() == -signal.SIGKILL
        assert time.monotonic() < end, "nothing was seen of it"
        time.sleep(0.001)
    assert child.returncode == 0, "it failed before anything was seen of it"
    return False


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
