"""The dashboard's own server reads Streamlit's settings as Streamlit's command line does; examples elsewhere hold."""

import doctest
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from streamlit import file_util

from ui.look import figure
from ui.shell import ahead, serve
from ui.shell.poll import address
from ui.suites import words


@pytest.mark.parametrize("module", [serve, address, figure, words])
def test_examples(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        ([], {}),
        (["--server.baseUrlPath", "lab/merging"], {"server.baseUrlPath": "lab/merging"}),
        (["--server.address=0.0.0.0", "--server.port", "80"], {"server.address": "0.0.0.0", "server.port": 80}),
        (["--server.headless", "false"], {"server.headless": False}),
    ],
)
def test_settings(words: list[str], settings: dict[str, object]) -> None:
    assert serve.settings_of(words) == settings


@pytest.mark.parametrize(
    ("path", "kind", "said"),
    [("/learn", b"text/html", True), ("/lab/poll/ABCDEF", b"text/html", False), ("/x.js", b"text/javascript", False)],
)
def test_what_draws_charts_is_fetched_with_the_page_and_not_by_phones(path: str, kind: bytes, said: bool) -> None:
    sent: list[dict[str, Any]] = []

    async def answer(scope: object, receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    paths = ahead.scripts()
    assert all((Path(file_util.get_static_dir()) / one).is_file() for one in paths) and len(paths) == 2
    with pytest.raises(StopIteration):  # it waits for nothing, and needs no loop of events beside a browser's
        ahead.Ahead(answer, paths)({"type": "http", "path": path}, None, send).send(None)
    links = dict(sent[0]["headers"]).get(b"link", b"").decode()
    assert [f"<{one}>; rel=modulepreload" in links for one in paths] == [said] * 2
