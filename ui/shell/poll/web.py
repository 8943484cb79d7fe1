"""Where phones ask: ``…/poll/CODE`` beside the dashboard, under any path that a proxy has for it, or at another port.

A request costs a page of 2 kB and no session. Nothing else is served.
"""

import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from ui.shell.poll import phone
from ui.shell.poll.polls import Polls

PATH = "poll"
_LONGEST = 256  # bytes of an answer; a true one has 80
_COOKIE_SECONDS = 4 * 3600
_CODE = re.compile(r"[2-9A-HJ-NP-Z]{6}")


@dataclass
class Reach:
    """Where this process serves phones.

    Attributes:
        beside: whether it does so beside the dashboard's own pages.
        port: of its own, open to the network; None if there is none.
    """

    beside: bool = False
    port: int | None = None


POLLS = Polls()  # of this process: pages open and read them, phones answer them
REACH = Reach()


def routes(polls: Polls = POLLS) -> list[BaseRoute]:
    """The routes for phones, for an application that may serve other things besides."""

    async def show(request: Request) -> Response:
        return await _respond(polls, request)

    return [
        Route(path, show, methods=["GET", "POST"])
        for path in (f"/{PATH}/{{code}}", f"/{{before:path}}/{PATH}/{{code}}")
    ]


def listen(port: int, address: str = "0.0.0.0", polls: Polls = POLLS) -> int:
    """Serve phones, and nothing else, on a port of their own until the process ends; gives the port.

    Raises:
        OSError: the port can't be used.
    """
    import uvicorn

    listening = socket.create_server((address, port))
    config = uvicorn.Config(
        Starlette(routes=routes(polls)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        limit_concurrency=256,
        timeout_keep_alive=5,
        h11_max_incomplete_event_size=8192,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listening],), daemon=True, name="merging-phones").start()
    return int(listening.getsockname()[1])


async def _respond(polls: Polls, request: Request) -> Response:
    if not polls.admit():
        return _page(phone.said("One moment", "Too many requests at once. Load this page again."), 429)
    code = str(request.path_params["code"]).upper()
    question = polls.question(code) if _CODE.fullmatch(code) else None
    if question is None:
        return _page(
            phone.said("No question here", "It is closed, or the code is another. See the screen in front."), 404
        )
    if request.method == "POST":
        return await _answer(polls, code, request)
    known = _known(polls, code, request)
    token = known or polls.new_phone(code)
    choice = polls.answer_of(code, token)
    response = _page(phone.asking(question, token) if choice is None else phone.answered(question, choice))
    response.headers[phone.NUMBER] = str(question.number)
    if not known:
        response.set_cookie(
            _cookie(code), token, max_age=_COOKIE_SECONDS, path=None, httponly=True, samesite="lax"
        )  # without a path it is sent back for where it came from, whatever a proxy makes of that
    return response


async def _answer(polls: Polls, code: str, request: Request) -> Response:
    given = await _form(request)
    if given is None:
        return _page(phone.said("That is no answer", "Open the question again and press one of its buttons."), 413)
    token = given.get("phone", "")
    mine = request.cookies.get(_cookie(code), "")
    with_cookie = polls.knows(code, mine)
    if with_cookie:
        token = mine
    if not polls.knows(code, token):
        return _page(phone.said("That is no answer", "Open the link or the code in front again."), 403)
    try:
        number, choice = int(given.get("question", "")), int(given.get("choice", ""))
        counted = polls.answer(code, token, number, choice)
    except ValueError:
        return _page(phone.said("That is no answer", "Open the question again and press one of its buttons."), 400)
    question = polls.question(code)
    if not counted and question is not None and question.number == number:
        return _page(phone.said("Not counted", "Too many answers came already."), 429)
    # A phone that keeps no cookies carries its token in its address, so that it answers once when it reloads.
    where = code if with_cookie else f"{code}?phone={token}"
    return Response(status_code=303, headers={"Location": where, **phone.HEADERS})


def _known(polls: Polls, code: str, request: Request) -> str:
    """The token that a phone brings along, or nothing."""
    for token in (request.cookies.get(_cookie(code), ""), request.query_params.get("phone", "")):
        if polls.knows(code, token):
            return token
    return ""


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a short form; None if it is anything else."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST:
            return None
    with suppress(ValueError):
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=8))
    return None


def _cookie(code: str) -> str:
    return f"{PATH}-{code}"


def _page(text: str, status: int = 200) -> Response:
    return HTMLResponse(text, status, headers=phone.HEADERS)
