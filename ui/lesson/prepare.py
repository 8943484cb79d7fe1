"""What a teacher prepares: a lesson of some steps with words of one's own, as one link; and the lesson on paper."""

from collections.abc import Sequence
from contextlib import suppress
from math import inf
from urllib.parse import urlencode

import streamlit as st

from merging.core.errors import MergingError
from merging.core.limits import MAX_LESSON_BYTES, MAX_LESSON_TEXT
from merging.core.networks import own_networks
from merging.core.places import chosen_home
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.lesson.handout import Sheet, handout
from ui.lesson.prepared import Lessons, Prepared, read
from ui.lesson.screen import OnPaper, Step
from ui.lesson.steps import STEPS
from ui.look.figure import escape_markdown
from ui.runs.text import measured_before
from ui.shell import session, state
from ui.shell.poll.address import dashboard_at, what_lets_others_in
from ui.shell.rights import Act
from ui.shell.url import warn
from ui.what_if import live_accuracy

PARAMETER = "lesson"  # in the URL
_TAKEN = "lesson-taken"  # session state: the lesson whose models were chosen
_TITLE, _STEPS, _TEXT, _FILE = "prepare-title", "prepare-steps", "prepare-text-", "prepare-file"
_PROBLEM = "prepare-problem"  # session state: what is wrong with a file
_LONGEST_TITLE = 120
_HELP = "Choose steps and write words of your own; get a link to that lesson, or the lesson on paper"


def may_prepare() -> bool:
    """Whether whoever looks at this page may keep lessons; the one place where that is decided."""
    return session.may(Act.TEACH)


def take_up() -> None:
    """Choose the models that a prepared lesson is for, where the link to it names none; before anything is drawn."""
    name = st.query_params.get(PARAMETER)
    if not name or name == st.session_state.get(_TAKEN):
        return
    st.session_state[_TAKEN] = name
    if not {"suite", "tasks"} & set(st.query_params):
        with suppress(MergingError):  # said where the lesson is shown
            _choose(Lessons(chosen_home()).find(name, len(STEPS)))


def _choose(lesson: Prepared) -> None:
    """Callback: choose the models that a lesson is for."""
    entry = state.suite_entries().get(lesson.suite)
    if entry is not None:
        state.choose(entry.reference, lesson.tasks)


def of_link() -> Prepared | None:
    """The prepared lesson that the URL names; says so if it names one in vain, or for other models."""
    name = st.query_params.get(PARAMETER)
    if not name:
        return None
    try:
        found = Lessons(chosen_home()).find(name, len(STEPS))
    except MergingError as error:
        del st.query_params[PARAMETER]
        warn(f"{str(error)[0].upper()}{str(error)[1:]}. The whole lesson is shown instead.")
        return None
    if (found.suite, set(found.tasks)) != (_suite(), set(state.checked_tasks())):
        models = escape_markdown(f"{', '.join(found.tasks)} of {found.suite}")
        st.warning(f"This lesson was prepared for {models}; other models are chosen now.", icon=":material/info:")
        if found.suite in state.suite_entries():
            st.button("Choose these models", key="lesson-models", on_click=_choose, args=(found,))
    return found


def words(lesson: Prepared | None, number: int) -> str:
    """What stands below the title of a step, in Markdown: nothing in it is loaded from elsewhere."""
    own = lesson.texts.get(number, "") if lesson else ""
    return own.replace("![", "!\\[") if own else STEPS[number - 1].text


def offer(lesson: Prepared | None) -> None:
    """The button that opens what there is to prepare."""
    if may_prepare():
        with st.popover("Prepare", icon=":material/edit_note:", type="tertiary", key="lesson-prepare", help=_HELP):
            _form(lesson)


@st.fragment
def _form(lesson: Prepared | None) -> None:
    """Steps, words, and what is made of them."""
    st.caption(
        escape_markdown(f"For {state.suite().label}, {len(state.checked_tasks())} tasks, as chosen in the sidebar.")
    )
    top = st.container()  # what was made stays in sight there, however long the form is
    st.text_input("Title", lesson.title if lesson else "", max_chars=_LONGEST_TITLE, key=_TITLE, placeholder="Optional")
    names = {number: f"{number} {step.title}" for number, step in enumerate(STEPS, 1)}
    shown = list(lesson.steps) if lesson else list(names)
    steps: list[int] = st.multiselect("Steps", list(names), shown, key=_STEPS, format_func=names.__getitem__)
    if steps:
        for number, tab in zip(steps, st.tabs([str(number) for number in steps]), strict=True):
            tab.text_area(
                f"Your words for step {number}, in Markdown",
                lesson.texts.get(number, "") if lesson else "",
                key=f"{_TEXT}{number}",
                max_chars=MAX_LESSON_TEXT,
                placeholder=STEPS[number - 1].text,
            )
    st.file_uploader("Or take a lesson from a file", "md", key=_FILE, on_change=_fill)
    problem = st.session_state.pop(_PROBLEM, "")
    if problem:
        st.error(escape_markdown(problem), icon=":material/error:")
    with top:
        _make(steps)


def _make(steps: Sequence[int]) -> None:
    """The buttons, and what they made."""
    row = st.container(horizontal=True)
    link = row.button("Make the link", type="primary", key="prepare-link", disabled=not steps)
    paper = row.button("Make the handout", key="prepare-handout", disabled=not steps)
    if not (link or paper):
        return
    lesson = Prepared(
        _suite(),
        state.checked_tasks(),
        {number: str(st.session_state.get(f"{_TEXT}{number}", "")) for number in steps},
        str(st.session_state.get(_TITLE, "")).strip(),
    )
    try:
        if link:
            session.require(Act.TEACH)
            name = Lessons(chosen_home()).keep(lesson, len(STEPS))
            _show_link(lesson, name)
            _download("The lesson as a file", lesson.written(), f"lesson-{name}.md", "text/markdown")
        else:
            with st.spinner("Measuring what the handout shows …"):
                page = on_paper(lesson)
            _download("Download the handout", page, "handout.html", "text/html")
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")


def _download(label: str, text: str, file: str, kind: str) -> None:
    st.download_button(
        label, text.encode(), file, kind, key="prepare-download", icon=":material/download:", on_click="ignore"
    )


def _fill() -> None:
    """Callback: take title, steps and words from a file."""
    given = st.session_state.get(_FILE)
    if given is None:
        return
    try:
        if given.size > MAX_LESSON_BYTES:
            raise ValueError(f"{given.size} bytes; at most {MAX_LESSON_BYTES} are read")
        lesson = read(given.getvalue().decode("utf-8-sig"), len(STEPS), given.name)
    except UnicodeDecodeError:
        st.session_state[_PROBLEM] = f"{given.name}: not UTF-8 text; save it as UTF-8"
    except (MergingError, ValueError) as error:
        st.session_state[_PROBLEM] = str(error)
    else:
        st.session_state[_TITLE], st.session_state[_STEPS] = lesson.title[:_LONGEST_TITLE], list(lesson.steps)
        for number, text in lesson.texts.items():
            st.session_state[f"{_TEXT}{number}"] = text


def _show_link(lesson: Prepared, name: str) -> None:
    """The address of a kept lesson, with the models that it is for; says so if others can't open it."""
    page, networks = st.context.url or "", own_networks()
    address = dashboard_at(page, st.get_option("server.address"), networks)
    query = urlencode({"suite": lesson.suite, "tasks": list(lesson.tasks), PARAMETER: name}, doseq=True)
    st.code(f"{address.url}/{page.rpartition('/')[2] or 'learn'}?{query}", language=None, wrap_lines=True)
    if not address.reachable:
        st.warning(
            "Only this machine can open this link, as you see the dashboard at an address of this machine only. "
            + what_lets_others_in(page, networks, session.shared()),
            icon=":material/wifi_off:",
        )


def on_paper(lesson: Prepared) -> str:
    """The handout of a lesson with the charts of the chosen models; measures what is missing."""
    suite, tasks = state.suite(), state.checked_tasks()
    labels = accuracy_view.task_labels(tasks)
    sheets = [_sheet(STEPS[number - 1], words(lesson, number), labels) for number in lesson.steps]
    about = f"{suite.label}: {', '.join(labels.values())}. All numbers were measured on these models."
    return handout(lesson.title or "Merging models: a lesson", about, sheets)


def _sheet(step: Step, text: str, labels: dict[str, str]) -> Sheet:
    tasks = tuple(labels)
    lacking = _lacking(step, tasks)
    if lacking:
        return Sheet(step.title, text, note=lacking)
    quick = set(tasks) <= set(measuring.measurable_tasks()) and measuring.baselines_are_quick()
    paper = OnPaper(labels, {task: measuring.evaluator().count(task, "val") for task in tasks} if quick else {}, True)
    asked = step.show(paper)
    if set(live_accuracy.known(asked.needs)) < set(asked.needs):
        live_accuracy.measure_for_a_moment(asked.needs, inf)
        asked = step.show(paper)
    runs = [run for run in asked.runs if run is not None]
    if not any(run.shipped for run in runs):
        came_with = live_accuracy.shipped_with(asked.needs)
        runs = [came_with] if came_with else []
    return Sheet(step.title, text, paper.drawn[0] if paper.drawn else None, asked.question, measured_before(runs))


def _lacking(step: Step, tasks: Sequence[str]) -> str:
    """What keeps a step from being drawn; empty if nothing does."""
    if len(tasks) < step.tasks:
        return f"This step needs at least {step.tasks} tasks."
    if step.measures or step is STEPS[-1]:
        if not set(tasks) <= set(measuring.measurable_tasks()):
            return "No accuracy without images and heads of these tasks."
        if step.measures and not measuring.baselines_are_quick():
            return "These models are too large to be measured for a handout."
    return ""


def _suite() -> str:
    """Short name of the chosen suite."""
    return str(st.session_state.get("suite") or next(iter(state.suite_entries())))
