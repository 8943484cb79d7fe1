"""What a browser shows until the first page of a server that still loads has come: results that came with the project.

They are part of the document that Streamlit's client starts with, over whatever that draws, and take themselves away
once there is a title or something to be told. A second or two earlier than anything that Streamlit could show.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

_FILE = Path(__file__).parents[1] / "look" / "first_look.html"
_SUITE = "mini"  # whose results these are
_END = b"</body>"
# Of a request: what would be answered by less than the document as it is.
_SHORTER = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
# Of an answer: what would not be true of the changed document, or have a browser show it again.
_OF_THE_FILE = (b"content-length", b"etag", b"last-modified", b"cache-control")


class FirstLook:
    """Puts it into documents for as long as the server loads; as ASGI has it.

    Args:
        app: what answers.
        loaded: whether all is loaded.
    """

    def __init__(self, app: Any, loaded: Callable[[], bool]) -> None:
        self._app, self._loaded = app, loaded

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if not self._wanted(scope):
            await self._app(scope, receive, send)
            return
        kept = [(name, value) for name, value in scope["headers"] if name.lower() not in _SHORTER]
        held: list[Any] = []

        async def changed(message: Any) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                held.append(message)
            elif held and message["type"] == "http.response.body":
                held.append(message.get("body", b""))
                if not message.get("more_body"):
                    for part in _with_look(held[0], b"".join(held[1:])):
                        await send(part)
            else:
                await send(message)

        await self._app({**scope, "headers": kept}, receive, changed)

    def _wanted(self, scope: Any) -> bool:
        """Whether a browser asks for a page while there are none, and for none of another suite than these are of."""
        if scope["type"] != "http" or scope.get("method") != "GET" or os.environ.get("MERGING_SHIPPED") == "0":
            return False
        accepted = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
        suites = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("suite", [_SUITE])
        return b"text/html" in accepted and suites == [_SUITE] and not self._loaded()


def _is_page(message: Any) -> bool:
    headers: dict[bytes, bytes] = dict(message.get("headers", ()))
    return bool(message["status"] == 200) and headers.get(b"content-type", b"").startswith(b"text/html")


def _with_look(start: Any, body: bytes) -> tuple[Any, Any]:
    before, end, after = body.rpartition(_END)
    whole = before + _FILE.read_bytes() + end + after if end else body
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in _OF_THE_FILE]
    headers += [(b"content-length", str(len(whole)).encode()), (b"cache-control", b"no-store")]
    return {**start, "headers": headers}, {"type": "http.response.body", "body": whole}
