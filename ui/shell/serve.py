"""Streamlit's command, with what pages need loaded while the browser is still opening: torch alone takes seconds.

Run as a script: ``python ui/shell/serve.py run app.py``. Whoever calls ``streamlit run app.py`` has the same dashboard,
whose first page comes later.
"""

import os
import runpy
import sys
import threading
from contextlib import suppress
from importlib import import_module

# Those that load most of the others. None of ui: its caches belong to a server that is not there yet.
_NEEDED = (
    "torch",
    "pandas",
    "plotly.graph_objects",
    "merging.runs",
    "merging.runs.leaderboard",
    "merging.runs.export.export",
    "merging.suites.discovery",
    "merging.charts.accuracy",
    "merging.charts.runs",
    "merging.charts.what_if",
    "merging.charts.lesson",
    "merging.sweeps",
)


_NAME = "merging-needed"  # of the thread
_UPLOAD = "--server.maxUploadSize"
_LARGEST_UPLOAD = 4096  # MiB; whoever has larger files sits at the machine, or copies them there


def wait_until_loaded() -> None:
    """Let who loads things ahead finish: two that load modules which need each other get in each other's way."""
    for thread in threading.enumerate():
        if thread.name == _NAME:
            thread.join()


def _load() -> None:
    for name in _NEEDED:
        with suppress(Exception):  # a page that needs it says what is wrong
            import_module(name)


def largest_upload(free: int) -> int:
    """How large a file may be that a browser sends, in MiB. Streamlit reads each whole, of six that come at once.

    Args:
        free: memory that nobody uses, in bytes.

    >>> largest_upload(2 * 2**30), largest_upload(64 * 2**30), largest_upload(0)
    (256, 4096, 5)
    """
    return max(5, min(free // 8 // 2**20, _LARGEST_UPLOAD))


def _allow_uploads() -> None:
    """Say how large uploads may be, unless somebody said it."""
    said = any(argument.split("=")[0] == _UPLOAD for argument in sys.argv)
    if not said and "STREAMLIT_SERVER_MAX_UPLOAD_SIZE" not in os.environ:
        import psutil

        sys.argv += [_UPLOAD, str(largest_upload(psutil.virtual_memory().available))]


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules are no packages' of these names
    _allow_uploads()
    threading.Thread(target=_load, daemon=True, name=_NAME).start()
    sys.argv[0] = "streamlit"
    runpy.run_module("streamlit", run_name="__main__", alter_sys=True)
