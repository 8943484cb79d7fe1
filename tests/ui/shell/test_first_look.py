"""Whoever comes while the server still loads is given results that came with the project, in the document itself."""

from typing import Any

import pytest

from ui.shell.first_look import FirstLook

PAGE = b"<html><body>client</body></html>"
ASKED = [
    (b"Accept", b"text/html,*/*"),
    (b"accept-encoding", b"gzip"),
    (b"if-none-match", b'"of-the-file"'),
    (b"cookie", b"a"),
]
HTML = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", b"33"), (b"etag", b'"of-the-file"')]
HTML += [(b"cache-control", b"no-cache")]


def answered(
    scope: dict[str, Any], loaded: bool = False, status: int = 200, headers: list[tuple[bytes, bytes]] = HTML
) -> tuple[dict[str, Any], dict[bytes, bytes], bytes]:
    """What the app was asked, and what it answered: headers and body; the app gives its page in two parts."""
    asked: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: object, send: Any) -> None:
        asked.append(scope)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
        await send({"type": "http.response.body", "body": PAGE[20:]})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with pytest.raises(StopIteration):  # it waits for nothing, and needs no loop of events
        FirstLook(app, lambda: loaded)(scope, None, send).send(None)
    start, *parts = sent
    names = [name for name, _ in start["headers"]]
    assert len(names) == len(set(names))
    return asked[0], dict(start["headers"]), b"".join(part["body"] for part in parts)


def scope(**changes: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": ASKED, **changes}


@pytest.mark.parametrize("query", [b"", b"step=3", b"suite=mini&step=3"])
def test_a_document_holds_it_whole_and_is_not_kept(query: bytes) -> None:
    asked, headers, body = answered(scope(query_string=query))
    before, _, rest = body.partition(b"client")
    assert before == b"<html><body>" and rest.endswith(b"</body></html>")
    assert b'id="first-look"' in rest and b"AWD + Task Arithmetic" in rest
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"cache-control"] == b"no-store" and b"etag" not in headers
    assert [name for name, _ in asked["headers"]] == [b"Accept", b"cookie"]  # else the answer might be packed, or none


@pytest.mark.parametrize(
    ("asked", "settings"),
    [
        (scope(), {"loaded": True}),
        (scope(query_string=b"suite=another"), {}),
        (scope(headers=[(b"accept", b"application/json")]), {}),
        (scope(method="HEAD"), {}),
        (scope(), {"status": 404}),
        (scope(), {"headers": [(b"content-type", b"text/javascript")]}),
    ],
)
def test_all_else_is_answered_as_it_is(asked: dict[str, Any], settings: dict[str, Any]) -> None:
    _, headers, body = answered(asked, **settings)
    assert body == PAGE and headers == dict(settings.get("headers", HTML))


def test_nobody_who_wants_no_results_of_others_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERGING_SHIPPED", "0")
    assert answered(scope())[2] == PAGE


def test_what_speaks_another_protocol_passes() -> None:
    assert answered({"type": "websocket"})[2] == PAGE
