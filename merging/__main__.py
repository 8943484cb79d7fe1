"""``python -m merging``, and the command ``merging`` of an installed package."""

import gc
import io
import os
import signal
import sys
from typing import NoReturn

# On a machine with other work, threads that spin while they wait for each other cost more than half of the speed.
# Read when torch is loaded, so it stands before everything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from merging.cli import main
from merging.cli.options import CUT_OFF


def run() -> NoReturn:
    """The command line as a process of its own: it ends with it."""
    # Loading torch makes so many objects that looking for garbage after every 700 of them takes a fifth of the time.
    gc.set_threshold(100_000)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing is left half-written
    status: object = 0
    for stream in (sys.stdout, sys.stderr):  # a name in Latin-1, or a λ on an old terminal, is shown by its escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main(prog_name="python -m merging" if __name__ == "__main__" else "merging")
    except SystemExit as ending:
        status = ending.code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # what was left found no reader
        status = CUT_OFF
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)  # unloading torch takes half a second


if __name__ == "__main__":
    run()
