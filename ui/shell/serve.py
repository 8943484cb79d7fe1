"""Streamlit's server, with what pages need loaded while the browser is still opening: torch alone takes seconds.

Run as a script: ``python ui/shell/serve.py run app.py``, with settings as ``streamlit run`` takes them. It also answers
phones (:mod:`ui.shell.poll`). Whoever calls ``streamlit run app.py`` has the same dashboard, without phones, whose
first page comes later.
"""

import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

# Those that load most of the others. None of ui: its caches belong to a server that is not there yet.
_NEEDED = (
    "torch",
    "pandas",
    "plotly.graph_objects",
    "merging.runs",
    "merging.runs.leaderboard",
    "merging.runs.leftovers",
    "merging.runs.export.export",
    "merging.suites.discovery",
    "merging.charts.accuracy",
    "merging.charts.runs",
    "merging.charts.what_if",
    "merging.charts.lesson",
    "merging.sweeps",
)


_NAME = "merging-needed"  # of the thread
_QUIET_SECONDS = 30.0  # after which the first pages are drawn, which need all that the machine has
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


def _clean() -> None:
    """Take away what an earlier server left that was killed; says nothing of a folder that pages say more of."""
    time.sleep(_QUIET_SECONDS)
    with suppress(Exception):
        from merging.core.places import chosen_home
        from merging.runs.leftovers import clean
        from merging.runs.table import RunStore

        clean(RunStore(chosen_home()))


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


def settings_of(arguments: Iterable[str]) -> dict[str, Any]:
    """Streamlit's settings as its command line has them, as plain values.

    >>> settings_of(["--server.port", "8502", "--server.headless=true", "--server.address", "127.0.0.1"])
    {'server.port': 8502, 'server.headless': True, 'server.address': '127.0.0.1'}
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return {name.removeprefix("--"): _value(text) for name, text in zip(words[::2], words[1::2], strict=True)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@asynccontextmanager
async def _opening_a_browser(_: Any) -> AsyncIterator[None]:
    """Open one once the server is there, as ``streamlit run`` does, unless nobody sits at this machine."""
    from streamlit import config
    from streamlit.web.server.server_util import get_url

    if not config.get_option("server.headless"):
        import webbrowser

        address = config.get_option("server.address")
        shown = "localhost" if address in (None, "", "127.0.0.1", "0.0.0.0", "::") else address
        threading.Thread(target=webbrowser.open, args=(get_url(shown),), daemon=True).start()
    yield


def _serve(script: str, settings: dict[str, Any]) -> None:
    """Serve the dashboard, and phones beside it, until the process is told to end."""
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.starlette import App

    from ui.shell.poll import web

    # Else the first visitor sees the names of all scripts in pages/ until the app has said what its pages are.
    PagesManager.uses_pages_directory = False
    # A tensor operation lets go of Python's lock and waits for it again for as long as pages are drawn: by default
    # 5 ms each time, of which a forward pass has hundreds.
    sys.setswitchinterval(0.0005)
    web.REACH.beside = True
    if os.environ.get("MERGING_PHONES"):
        web.REACH.port = web.listen(int(os.environ["MERGING_PHONES"]))
    sys.argv = [script]  # the app's settings lie beside its script
    App(script, routes=web.routes(), lifespan=_opening_a_browser).run(config=settings)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: its modules have names of packages
    _allow_uploads()
    threading.Thread(target=_load, daemon=True, name=_NAME).start()
    threading.Thread(target=_clean, daemon=True).start()
    _serve(str(Path(sys.argv[2]).resolve()), settings_of(sys.argv[3:]))
