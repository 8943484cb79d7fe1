"""Streamlit's server, with what pages need loaded while the browser is still opening: torch alone takes a second.

Run as a script: ``python ui/shell/serve.py run app.py``, with settings as ``streamlit run`` takes them. It also answers
phones (:mod:`ui.shell.poll`). Whoever calls ``streamlit run app.py`` has the same dashboard, without phones, whose
first page comes later.
"""

import gc
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

# Those that load most of the others.
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


# Those that load most of what is drawn, once there is a server that their caches can belong to.
_DRAWN = ("ui.lesson.steps", "ui.suites.own_files", "ui.what_if.landscape_view", "ui.accuracy.preset_runs")
_NAME = "merging-needed"  # of the thread
_SERVER_SECONDS = 20.0  # within which that has to be there
_QUIET_SECONDS = 30.0  # after which the first pages are drawn, which need all that the machine has
_UPLOAD = "--server.maxUploadSize"
_LARGEST_UPLOAD = 4096  # MiB; whoever has larger files sits at the machine, or copies them there


def loaded() -> bool:
    """Whether nobody loads things ahead any more."""
    return not any(_loading())


def wait_until_loaded() -> None:
    """Let who loads things ahead finish: two that load modules which need each other get in each other's way."""
    for thread in _loading():
        thread.join()


def _loading() -> Iterator[threading.Thread]:
    return (thread for thread in threading.enumerate() if thread.name == _NAME)


def _load() -> None:
    for name in _NEEDED:
        with suppress(Exception):  # a page that needs it says what is wrong
            import_module(name)
    with suppress(Exception):
        _look_through()
    for name in _DRAWN if _served() else ():
        with suppress(Exception):
            import_module(name)
    inspect.stack()  # Streamlit asks for it, and the first time all modules are looked through
    gc.freeze()  # modules stay: who looks for garbage need not look through them each time


def _look_through() -> None:
    """Load all methods, and take the fingerprints of the suites that come with results, by which these are found."""
    from merging.core.places import chosen_home
    from merging.methods import registry
    from merging.runs.shipped import shipped_files
    from merging.runs.workspace import Workspace
    from merging.suites import load_suite

    registry.edits()
    space = Workspace(chosen_home())
    for file in shipped_files():
        suite = load_suite(file.parent)
        space.broken(suite)
        for task in suite.task_names:
            space.evaluation_files(suite, task)


def _served() -> bool:
    """Wait until there is a server; whether there is one."""
    from streamlit.runtime import Runtime

    end = time.monotonic() + _SERVER_SECONDS
    while not Runtime.exists() and time.monotonic() < end:
        time.sleep(0.02)
    return Runtime.exists()


def _clean() -> None:
    """Take away what an earlier server left that was killed; says nothing of a folder that pages say more of."""
    time.sleep(_QUIET_SECONDS)
    with suppress(Exception):
        from merging.core.places import chosen_home
        from merging.runs.leftovers import clean
        from merging.runs.table import RunStore

        clean(RunStore(chosen_home()))
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what the first pages have loaded stays, too


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
    from starlette.middleware import Middleware
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.starlette import App

    from ui.shell import ahead, first_look
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
    at_first = [Middleware(ahead.Ahead, paths=ahead.scripts()), Middleware(first_look.FirstLook, loaded=loaded)]
    App(script, routes=web.routes(), lifespan=_opening_a_browser, middleware=at_first).run(config=settings)


if __name__ == "__main__":
    gc.set_threshold(100_000)  # loading makes so many objects that looking for garbage takes a fifth of the time
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder: its modules have names of packages
    _allow_uploads()
    threading.Thread(target=_load, daemon=True, name=_NAME).start()
    threading.Thread(target=_clean, daemon=True).start()
    try:
        _serve(str(Path(sys.argv[2]).resolve()), settings_of(sys.argv[3:]))
    except KeyboardInterrupt:  # the way to end it
        sys.exit(130)
