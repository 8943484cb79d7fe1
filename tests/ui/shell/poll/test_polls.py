"""Questions for phones: an answer a phone, each code by itself, all forgotten when it is closed."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from merging.core.errors import RunError
from merging.core.networks import own_networks
from ui.shell.poll import polls as polls_module
from ui.shell.poll.address import address_of
from ui.shell.poll.polls import MOST_ANSWERS, MOST_OPEN, PATIENCE, Polls
from ui.shell.poll.web import Reach, listen, routes

ASKED = ("Which λ is <b>good</b>?", ("Small & safe", "Large", "None"))
Phone = Callable[..., TestClient]


class Clock:
    """A clock that goes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def polls(clock: Clock) -> Polls:
    return Polls(clock)


@pytest.fixture
def phone(polls: Polls) -> Iterator[Phone]:
    """A function that gives another phone; one without cookies if asked."""
    app, opened = Starlette(routes=routes(polls)), []

    def another(before: str = "", cookies: bool = True) -> TestClient:
        opened.append(TestClient(app, base_url=f"http://class{before}/", follow_redirects=cookies))
        return opened[-1]

    yield another
    for one in opened:
        one.close()


def fields(page: str) -> dict[str, str]:
    """What a page sends back besides the choice."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', page))


def press(one: TestClient, code: str, choice: object) -> str:
    """Open a code on a phone and press a button; the page that comes."""
    page = one.get(f"poll/{code}").text
    return one.post(f"poll/{code}", data={**fields(page), "choice": choice}).text


def counts(polls: Polls, code: str) -> list[int]:
    looked = polls.look(code)
    assert looked is not None
    return looked[1]


@pytest.mark.parametrize("before", ["", "/lab/merging"])
def test_three_phones_answer_and_reload(before: str, polls: Polls, phone: Phone) -> None:
    code = polls.open(*ASKED)
    phones = [phone(before) for _ in range(3)]
    for one, choice in zip(phones, (0, 2, 2), strict=True):
        assert "Your answer" in press(one, code, choice)
    assert counts(polls, code) == [1, 0, 2]
    again = phones[0].get(f"poll/{code.lower()}").text  # typed by hand
    assert "Small &amp; safe" in again and "<button" not in again
    assert counts(polls, code) == [1, 0, 2]


def test_a_phone_that_comes_back_by_the_code_answers_once(polls: Polls, phone: Phone) -> None:
    code, one = polls.open(*ASKED), phone()
    first = fields(one.get(f"poll/{code}").text)
    press(one, code, 0)
    for sent in (first, {**first, "phone": polls.new_phone(code)}):
        one.post(f"poll/{code}", data={**sent, "choice": 1})
    assert counts(polls, code) == [1, 0, 0]


def test_a_phone_without_cookies_answers_once_too(polls: Polls, phone: Phone) -> None:
    code, one = polls.open(*ASKED), phone(cookies=False)
    page = one.get(f"poll/{code}").text
    one.cookies.clear()
    moved = one.post(f"poll/{code}", data={**fields(page), "choice": 1})
    where = moved.headers["location"]
    assert moved.status_code == 303 and where.startswith(f"{code}?phone=")
    one.cookies.clear()
    assert "Your answer" in one.get(f"poll/{where}").text
    one.cookies.clear()
    one.post(f"poll/{code}", data={**fields(page), "choice": 2})
    assert counts(polls, code) == [0, 1, 0]


def test_two_codes_do_not_mix(polls: Polls, phone: Phone) -> None:
    first, second = polls.open(*ASKED), polls.open("Which method?", ("TIES", "DARE"))
    one, other = phone(), phone()
    press(one, first, 2)
    token = fields(other.get(f"poll/{second}").text)["phone"]
    foreign = phone().post(f"poll/{first}", data={"phone": token, "question": "1", "choice": "0"})
    assert foreign.status_code == 403
    press(other, second, 0)
    press(one, second, 1)
    assert (counts(polls, first), counts(polls, second)) == ([0, 0, 1], [1, 1])
    polls.close(first)
    assert counts(polls, second) == [1, 1]


def test_what_is_closed_is_gone(polls: Polls, phone: Phone, clock: Clock) -> None:
    code, one = polls.open(*ASKED), phone()
    page = one.get(f"poll/{code}").text
    polls.close(code)
    for gone in (one.get(f"poll/{code}"), one.post(f"poll/{code}", data={**fields(page), "choice": 0})):
        assert gone.status_code == 404 and "λ" not in gone.text
    assert polls.look(code) is None
    with pytest.raises(RunError, match="closed"):
        polls.ask(code, *ASKED)
    left = polls.open(*ASKED)
    clock.now += PATIENCE + 1  # its teacher went away
    assert one.get(f"poll/{left}").status_code == 404 and polls.look(left) is None


def test_the_next_question_comes_under_the_same_code(polls: Polls, phone: Phone) -> None:
    code, quick, slow = polls.open(*ASKED), phone(), phone()
    late = fields(slow.get(f"poll/{code}").text)
    press(quick, code, 0)
    polls.ask(code, "And now?", ("Yes", "No"))
    assert counts(polls, code) == [0, 0]
    assert quick.head(f"poll/{code}").headers["x-question"] == "2"  # by which a phone knows that it has to look again
    shown = slow.post(f"poll/{code}", data={**late, "choice": 1}).text  # meant for the question before
    assert "And now?" in shown and "<button" in shown
    assert counts(polls, code) == [0, 0]
    press(quick, code, 1)
    assert counts(polls, code) == [0, 1]


def test_text_is_shown_as_text(polls: Polls, phone: Phone) -> None:
    code = polls.open('<script>alert("q")</script>', ('"><img src=x onerror=alert(1)>', "b"))
    answer = phone().get(f"poll/{code}")
    assert "<script" not in answer.text and "<img" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"choice": "3"}, 400),
        ({"choice": "-1"}, 400),
        ({"choice": "two"}, 400),
        ({"choice": ""}, 400),
        ({"question": ""}, 400),
        ({"phone": ""}, 403),
        ({"phone": "0" * 32}, 403),
        ({"phone": "é" * 32}, 403),
        ({"more": "x" * 400}, 413),
        ({f"field{number}": "" for number in range(9)}, 413),
    ],
)
def test_forged_answers_are_refused(change: dict[str, str], status: int, polls: Polls, phone: Phone) -> None:
    code, one = polls.open(*ASKED), phone()
    given = {**fields(one.get(f"poll/{code}").text), "choice": "0", **change}
    one.cookies.clear()
    assert one.post(f"poll/{code}", data=given).status_code == status
    assert counts(polls, code) == [0, 0, 0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "poll/{code}", 405),
        ("DELETE", "poll/{code}", 405),
        ("GET", "poll/", 404),
        ("GET", "poll/{code}/more", 404),
        ("GET", "poll/%2e%2e%2f%2e%2e%2fetc", 404),
        ("GET", "poll/{code}%00", 404),
        ("GET", "", 404),
        ("GET", "poll/" + "A" * 5000, 404),
    ],
)
def test_nothing_else_is_served(method: str, path: str, status: int, polls: Polls, phone: Phone) -> None:
    code = polls.open(*ASKED)
    assert phone().request(method, path.format(code=code)).status_code == status


def test_other_bodies_than_a_short_form_are_refused(polls: Polls, phone: Phone) -> None:
    code, one = polls.open(*ASKED), phone()
    given = {**fields(one.get(f"poll/{code}").text), "choice": "0"}
    assert one.post(f"poll/{code}", json=given).status_code == 413
    assert one.post(f"poll/{code}", files={"choice": b"0"}).status_code == 413
    body, kind = b"choice=0&phone=\xff", {"content-type": "application/x-www-form-urlencoded"}
    assert one.post(f"poll/{code}", content=body, headers=kind).status_code == 413
    assert counts(polls, code) == [0, 0, 0]


def test_there_are_limits(polls: Polls, phone: Phone, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    code = polls.open(*ASKED)
    for _ in range(MOST_ANSWERS):
        assert polls.answer(code, polls.new_phone(code), 1, 0)
    assert "Too many answers" in press(phone(), code, 1)
    assert sum(counts(polls, code)) == MOST_ANSWERS
    for _ in range(MOST_OPEN - 1):
        polls.open(*ASKED)
    with pytest.raises(RunError, match="close one"):
        polls.open(*ASKED)
    for choices in (("one",), tuple("123456789")):
        with pytest.raises(RunError, match="choices"):
            polls.ask(code, "?", choices)
    monkeypatch.setattr(polls_module, "_AT_ONCE", 3.0)
    one = phone()
    seen = [one.get(f"poll/{code}").status_code for _ in range(5)]
    assert seen == [200, 200, 200, 429, 429]
    clock.now += 1
    assert one.get(f"poll/{code}").status_code == 200


def test_a_port_of_its_own_serves_questions_only(polls: Polls) -> None:
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    fetch = build_opener(ProxyHandler({})).open
    code, port = polls.open(*ASKED), listen(0, "127.0.0.1", polls)
    with fetch(f"http://127.0.0.1:{port}/poll/{code}") as answer:
        assert "Small &amp; safe" in answer.read().decode()
    for path in ("/", "/learn", "/_stcore/health", f"/{Path(__file__).name}"):
        with pytest.raises(HTTPError) as refused:
            fetch(f"http://127.0.0.1:{port}{path}")
        assert refused.value.code == 404
        refused.value.close()


@pytest.mark.parametrize(
    ("page", "listens", "reach", "networks", "expected"),
    [
        ("http://localhost:8501/learn", "127.0.0.1", Reach(True), ["10.0.0.7"], "-http://localhost:8501"),
        ("http://[::1]:8501/learn", "127.0.0.1", Reach(True), ["10.0.0.7"], "-http://[::1]:8501"),
        ("http://localhost:8501/learn", None, Reach(True), ["10.0.0.7"], "http://10.0.0.7:8501"),
        ("http://localhost:8501/lab/learn", "0.0.0.0", Reach(True), ["10.0.0.7"], "http://10.0.0.7:8501/lab"),
        ("http://localhost:8501/learn", "0.0.0.0", Reach(True), [], "-http://localhost:8501"),
        ("http://localhost:8501/learn", "127.0.0.1", Reach(True, 8600), ["10.0.0.7"], "http://10.0.0.7:8600"),
        ("https://lab.org/a/b/learn", "127.0.0.1", Reach(True), ["10.0.0.7"], "https://lab.org/a/b"),
        ("https://me:word@lab.org/learn", "127.0.0.1", Reach(True), [], "https://lab.org"),
        ("http://192.168.1.4:8501/learn", "0.0.0.0", Reach(True), ["10.0.0.7"], "http://192.168.1.4:8501"),
    ],
)
def test_the_address_is_the_one_that_phones_reach(
    page: str, listens: str | None, reach: Reach, networks: list[str], expected: str
) -> None:
    found = address_of(page, listens, reach, networks)
    assert ("" if found.reachable else "-") + found.url == expected


def test_addresses_of_this_machine_are_its_own() -> None:
    import socket

    for address in own_networks():
        assert not address.startswith("127.")
        socket.create_server((address, 0)).close()  # which fails for an address of another machine
