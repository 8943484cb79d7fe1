"""What a teacher prepares on the page Learn: a link to some steps with words of one's own, and a handout."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from merging.core.markdown import to_html
from merging.core.places import chosen_home
from merging.evaluation.evaluator import Evaluator
from merging.suites import Suite
from tests.app.conftest import TASKS, build_suite, texts
from tests.headings import levels_of_html
from ui.lesson.prepared import Lessons, Prepared
from ui.lesson.steps import STEPS

Open = Callable[..., AppTest]


def handout(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the download of the handout holds."""
    given: list[bytes] = []
    monkeypatch.setattr("ui.lesson.prepare.st.download_button", lambda label, data, *rest, **more: given.append(data))
    app.button(key="prepare-handout").click().run()
    assert not app.exception and not app.error
    (page,) = given
    return page.decode()


def test_a_lesson_is_one_link(standing: Suite, look: Open) -> None:
    app = look("learn", tasks=["birds", "cars", "doors"])
    app.multiselect(key="prepare-steps").set_value([2, 5]).run()
    app.text_input(key="prepare-title").set_value("Ours *today*").run()
    app.text_area(key="prepare-text-5").set_value("Mine: <script>x</script> ![p](http://far.away/p.png) **bold**").run()
    app.button(key="prepare-link").click().run()
    assert not app.exception and not app.error
    (warning,) = app.warning
    assert "Only this machine can open this link" in warning.value and "merging serve" in warning.value
    (link,) = (one.value for one in app.code if "lesson=" in one.value)
    query = parse_qs(link.partition("?")[2])
    assert (query["suite"], query["tasks"]) == (["tiny"], ["birds", "cars", "doors"])
    again = look("learn", suite="tiny", tasks=query["tasks"], lesson=query["lesson"][0])
    assert not again.exception and not again.warning
    assert again.title[0].value == STEPS[1].title and "1 of 2" in texts(again) and "Ours *today*" in texts(again)
    assert STEPS[1].text.replace("\\", "") in texts(again)
    again.button(key="lesson-next").click().run()
    assert again.title[0].value == STEPS[4].title and again.button(key="lesson-next").disabled
    (own,) = (one for one in again.markdown if str(one.value).startswith("Mine:"))
    assert not own.allow_html and "![" not in own.value
    assert again.text_area(key="prepare-text-5").value.startswith("Mine:")  # to be changed, into another link


def test_a_link_without_models_brings_those_of_the_lesson(tiny: Suite, open_page: Open) -> None:
    kept = Lessons(chosen_home()).keep(Prepared("tiny", ("birds", "doors"), {3: ""}), len(STEPS))
    app = open_page("learn", lesson=kept)
    assert not app.exception and not app.warning and app.session_state["tasks"] == ["birds", "doors"]
    app.multiselect(key="tasks").set_value(["apples", "birds"]).run()
    assert "other models are chosen now" in texts(app) and app.session_state["tasks"] == ["apples", "birds"]
    app.button(key="lesson-models").click().run()
    assert not app.warning and app.session_state["tasks"] == ["birds", "doors"]


@pytest.mark.parametrize(
    ("lesson", "says"),
    [
        ("000000000000", "no prepared lesson"),
        ("../../x", "no prepared lesson"),
        ("kept", "prepared for apples of other"),
    ],
)
def test_a_link_to_another_lesson_is_told(lesson: str, says: str, tiny: Suite, open_page: Open) -> None:
    kept = Lessons(chosen_home()).keep(Prepared("other", ("apples",), {3: ""}), len(STEPS))
    app = open_page("learn", lesson=kept if lesson == "kept" else lesson)
    (warning,) = app.warning
    assert not app.exception and says in warning.value.replace("\\", "")


def test_the_handout_holds_the_lesson_and_its_answers(
    standing: Suite, look: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = look("learn")
    app.text_input(key="prepare-title").set_value("Lesson <1>").run()
    app.multiselect(key="prepare-steps").set_value([7, 3, 4]).run()
    app.text_area(key="prepare-text-4").set_value("- <i>mine</i>\n- **too**").run()
    page = handout(app, monkeypatch)
    assert (
        "<h1>Lesson &lt;1&gt;</h1>" in page and "<li>&lt;i&gt;mine&lt;/i&gt;</li><li><strong>too</strong></li>" in page
    )
    assert "<script" not in page and not re.search(r"(src|href)=", page) and "default-src 'none'" in page
    titles = [f"{place}. {STEPS[number - 1].title}" for place, number in enumerate((7, 3, 4), 1)]
    assert re.findall("<h2>(.*?)</h2>", page) == [*titles, "Answers"]
    assert levels_of_html(page) == [1, 2, 2, 2, 2] and levels_of_html(to_html("# a\n\n#### b")) == [3, 3]
    assert page.count("<section") == 4 and page.count('role="img"') == 3
    assert "break-inside: avoid" in page and 'class="answers"' in page
    evaluator = Evaluator(standing)
    base = evaluator.accuracy(standing.base_checkpoint, TASKS, "val").average
    before, answers = page.split("<h2>Answers</h2>")
    sentence = f"The base model has {100 * base:.1f} %"
    assert sentence in answers and sentence not in before  # a question is not answered beside it
    assert "over 12 pairs" in answers and "It has to learn first." in answers
    assert re.search(r"<b>[ABC] (With|Between|Below)", answers)


def test_a_handout_says_what_is_missing(suites_folder: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    build_suite(suites_folder / "bare", images=False)
    app = open_page("learn", tasks=["cars"])
    page = handout(app, monkeypatch)
    assert page.count('role="img"') == 1  # the weights
    assert page.count("No accuracy without images and heads") + page.count("needs at least") == len(STEPS) - 1
