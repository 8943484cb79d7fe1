"""Waiting for what other processes and threads do: for states, not for times."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0  # seconds after which a wait is hopeless, on however busy a machine; nothing ever waits so long


def until(
    condition: Callable[[], Any], going_on: Callable[[], Any] = lambda: True, meanwhile: Callable[[], Any] | None = None
) -> None:
    """Wait until something is so.

    Args:
        condition: whether it is.
        going_on: whether whoever is to bring it about still lives; once not, the wait is over at once.
        meanwhile: done again and again while waiting.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        alive = going_on()
        assert alive or condition(), "whoever was to bring it about has ended without"
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s in vain"
        if meanwhile is not None:
            meanwhile()
        time.sleep(0.02)
