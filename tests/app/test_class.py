"""Answers from the class, on the teacher's side: a code, how many answered, what, and what the numbers say."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from merging.core.owner import owner_secret
from merging.suites import Suite
from tests.app.conftest import texts
from ui.shell import state
from ui.shell.poll.polls import MOST_OPEN
from ui.shell.poll.web import POLLS, REACH

Open = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the dashboard was started by its own command."""
    monkeypatch.setattr(REACH, "beside", True)


@pytest.fixture
def lesson(tiny: Suite, open_page: Open) -> Iterator[AppTest]:
    app = open_page("learn", step="3")
    yield app
    POLLS.close(code_of(app))


def code_of(app: AppTest) -> str:
    return str(app.session_state["class-code"]) if "class-code" in app.session_state else ""


def page_of(app: AppTest) -> str:
    return "\n".join(str(element.proto.body) for element in app.get("html") if '"class-link"' in element.proto.body)


def bars(app: AppTest) -> str:
    """The chart of the answers, as it is sent."""
    specs = [json.dumps(json.loads(one.proto.spec), ensure_ascii=False) for one in app.get("plotly_chart")]
    return next(spec for spec in specs if "Below the base model" in spec).replace(" ", "")


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button if str(button.key).startswith("class-")]


def answer(app: AppTest, *choices: int) -> None:
    """Phones that come by the code and answer."""
    code = code_of(app)
    asked = POLLS.question(code)
    assert asked is not None
    for choice in choices:
        assert POLLS.answer(code, POLLS.new_phone(code), asked.number, choice)


def test_a_question_is_asked_answered_and_told(lesson: AppTest) -> None:
    app = lesson
    app.button(key="class-open").click().run()
    assert not app.exception
    code = code_of(app)
    asked = POLLS.question(code)
    assert asked is not None and asked.choices[2] == "Below the base model"
    assert "QR code" in page_of(app) and re.search(rf"/poll/{code}</p>", page_of(app))
    assert "listens on this machine only" in texts(app) and "merging app --phones" in texts(app)
    answer(app, 0, 2, 2)
    app.button(key="class-answers").click().run()
    assert "**3 answers**" in texts(app) and not page_of(app)
    assert "[1,0,2]" in bars(app) and "✓" not in bars(app)
    app.button_group(key="answer.3").set_value("Show the answer").run()
    assert "✓" in bars(app)
    assert "The base model has" in texts(app)
    app.button(key="class-close").click().run()
    assert not app.exception and labels(app) == ["Ask the class"]
    assert POLLS.question(code) is None


def test_the_next_question_is_put_under_the_same_code(lesson: AppTest) -> None:
    app = lesson
    app.button(key="class-open").click().run()
    code = code_of(app)
    answer(app, 1)
    app.button(key="class-answers").click().run()
    app.button(key="lesson-next").click().run()
    assert "Phones show another question still" in texts(app) and labels(app) == ["Ask this one", "Close"]
    app.button(key="class-open").click().run()
    assert not app.exception and code_of(app) == code
    looked = POLLS.look(code)
    assert looked is not None and "point the same way" in looked[0].text and sum(looked[1]) == 0
    assert "**0 answers**" in texts(app)
    assert labels(app) == ["Link", "Answers", "Close"] and not page_of(app)  # the chart is in sight


def test_a_code_that_is_gone_can_be_opened_anew(lesson: AppTest) -> None:
    app = lesson
    app.button(key="class-open").click().run()
    POLLS.close(code_of(app))
    app.run()
    assert not app.exception and labels(app) == ["Ask the class"] and not page_of(app)
    assert "is closed, and what phones answered is gone" in texts(app) and "class" not in app.query_params
    app.button(key="lesson-next").click().run()
    assert "is closed" not in texts(app)


def test_when_no_code_can_be_opened_it_says_why(lesson: AppTest) -> None:
    others = [POLLS.open("?", ("a", "b")) for _ in range(MOST_OPEN)]
    lesson.button(key="class-open").click().run()
    for code in others:
        POLLS.close(code)
    assert not lesson.exception and "close one that is no longer needed" in texts(lesson)
    assert labels(lesson) == ["Ask the class", *(f"Go on with {code}" for code in others[:-3:-1])]


def test_a_dashboard_without_phones_says_how_to_get_them(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REACH, "beside", False)
    button = open_page("learn", step="3").button(key="class-open")
    assert button.disabled and "merging app" in button.help


@pytest.mark.parametrize(
    ("shared", "way"), [("", "`merging app --phones 8600`"), ("1", "`merging serve --address 0.0.0.0`")]
)
def test_what_lets_phones_in_is_said(
    tiny: Suite, open_page: Open, monkeypatch: pytest.MonkeyPatch, shared: str, way: str
) -> None:
    monkeypatch.setenv("MERGING_SERVE", shared)
    query = {"owner": owner_secret(state.workspace().home)} if shared else {}
    app = open_page("learn", step="3", **query)
    app.button(key="class-open").click().run()
    POLLS.close(code_of(app))
    (said,) = [one.value for one in app.warning]
    assert "Phones can't get here" in said and way in said


def test_a_teacher_who_loads_the_page_anew_goes_on_with_the_code(lesson: AppTest, open_page: Open) -> None:
    app = lesson
    app.button(key="class-open").click().run()
    code = code_of(app)
    answer(app, 1, 1)
    again = open_page("learn", step="3")
    assert labels(again) == ["Ask the class", f"Go on with {code}"]
    again.button(key=f"class-go-on-{code}").click().run()
    for page in (again, open_page("learn", step="3", **{"class": app.query_params["class"]})):
        assert not page.exception and code_of(page) == code and "**2 answers**" in texts(page)


def test_a_guest_does_not_take_up_the_code_of_a_link(
    lesson: AppTest, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson.button(key="class-open").click().run()
    monkeypatch.setenv("MERGING_SERVE", "1")
    app = open_page("learn", step="3", **{"class": code_of(lesson)})
    assert not app.exception and not code_of(app) and "class" not in app.query_params and not labels(app)
