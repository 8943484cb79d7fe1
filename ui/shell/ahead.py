"""What a browser fetches ahead of the first page: the scripts that draw charts and tables, 5 MB.

Streamlit's client asks for them once the first chart has come. A header of the document it starts with says so
earlier, so that they are there while the server still makes that page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ui.shell.poll.web import PATH

_SCRIPTS = ("PlotlyChart", "DataFrame")  # of Streamlit's client, by how their names begin


def scripts() -> list[str]:
    """Where these lie, relative to the pages of the dashboard; nothing where Streamlit has other ones."""
    from streamlit import file_util

    folder = Path(file_util.get_static_dir()) / "static" / "js"
    return [f"./static/js/{found.name}" for name in _SCRIPTS for found in sorted(folder.glob(f"{name}.*.js"))]


class Ahead:
    """Says with every document but the phones' what is to be fetched besides; as ASGI has it.

    Args:
        app: what answers.
        paths: what is fetched, relative to the document.
    """

    def __init__(self, app: Any, paths: Sequence[str]) -> None:
        self._app = app
        self._header = b"link", ", ".join(f"<{path}>; rel=modulepreload; crossorigin" for path in paths).encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""

        async def said(message: Any) -> None:
            headers = message.get("headers", ())
            if any(name.lower() == b"content-type" and kind.startswith(b"text/html") for name, kind in headers):
                message = {**message, "headers": [*headers, self._header]}
            await send(message)

        ours = scope["type"] == "http" and f"/{PATH}/" not in scope["path"]
        await self._app(scope, receive, said if ours else send)
