"""Learn: a lesson for a class in eight steps, each with a control to move and a question that the numbers answer."""

from collections.abc import Mapping

import streamlit as st

from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.lesson import phones, prepare
from ui.lesson.prepared import Prepared
from ui.lesson.screen import OnScreen, Step, ask
from ui.lesson.steps import STEPS
from ui.look.figure import escape_markdown
from ui.runs import shipped
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import choice, said_below
from ui.what_if import live_accuracy

through_app()

# Seconds of measuring after which the page is drawn again: longer where it was just opened, as nobody moves anything.
_PATIENCE, _BREATH = 1.5, 0.3
_WHOLE = "lesson-whole"  # session state: the whole page runs, not only the fragment


def navigation(lesson: Prepared | None) -> int:
    """Number of the step that is shown, from 1, and the ways to others."""
    numbers = list(lesson.steps) if lesson else list(range(1, len(STEPS) + 1))
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small", key="lesson-steps")
    with said_below(), bar:
        step: int = choice(
            st.segmented_control,
            "Step",
            {number: str(number) for number in numbers},
            default=numbers[0],
            required=True,
            key="step",
            label_visibility="collapsed",
        )
        place = numbers.index(step)
        st.markdown(f"{place + 1} of {len(numbers)}", width="content")
        st.space("stretch")
        prepare.offer(lesson)
        st.button(
            "Previous",
            icon=":material/arrow_back:",
            on_click=_go,
            args=(numbers[place - 1],),
            disabled=place == 0,
            shortcut="PageUp",
            key="lesson-previous",
        )
        st.button(
            "Next",
            type="primary",
            icon=":material/arrow_forward:",
            icon_position="right",
            on_click=_go,
            args=(numbers[min(place + 1, len(numbers) - 1)],),
            disabled=place + 1 == len(numbers),
            shortcut="PageDown",
            key="lesson-next",
        )
    return step


def _go(step: int) -> None:
    """Callback: to another step."""
    st.session_state["step"] = step


@st.fragment
def screen(step: Step, text: str, labels: Mapping[str, str], counts: Mapping[str, int]) -> None:
    """One step: text, control and question beside the chart; measures what is missing while nobody moves anything."""
    whole = bool(st.session_state.pop(_WHOLE, False))
    left, right = st.columns([0.4, 0.6], gap="large")
    left.markdown(text)
    instead = right.container(key="lesson-class") if phones.in_place_of_chart() != phones.CHART else None
    chart = right.container(key="lesson-chart", height="stretch")  # not in sight while something stands in its place
    asked = step.show(OnScreen(labels, counts, whole, left.container(), chart))
    with right:
        if any(run is not None and run.shipped for run in asked.runs):
            shipped.say(asked.runs, "lesson")
        else:
            live_accuracy.say_if_shipped(asked.needs, "lesson")
    with left:
        ask(asked.question)
        phones.controls(asked.question)
    if instead is not None:
        with instead:
            phones.instead(asked.question)
    if set(live_accuracy.known(asked.needs)) < set(asked.needs):
        live_accuracy.measure_for_a_moment(asked.needs, _PATIENCE if whole else _BREATH)
        live_accuracy.again(whole)


def obstacle(step: Step, tasks: tuple[str, ...]) -> bool:
    """Whether something lacks for a step; says what, and what to do."""
    if len(tasks) < step.tasks:
        st.info(f"Choose at least {step.tasks} tasks in the sidebar for this step.", icon=":material/checklist:")
        return True
    if step is STEPS[0] or not (step.measures or step is STEPS[-1]):
        return False
    if accuracy_view.explain_unmeasurable(tasks):
        return True
    if step.measures and not measuring.baselines_are_quick():
        st.info(
            "This step measures merges while one watches, for which these models are too large. The lesson is made for "
            "the embedded suite.",
            icon=":material/hourglass:",
        )
        return True
    return False


chosen = state.selected_tasks()
phones.take_up()
with st.container(key="lesson"):
    lesson = prepare.of_link()
    number = navigation(lesson)
    step = STEPS[number - 1]
    if lesson is not None and lesson.title:
        with st.container(key="lesson-title"):
            st.caption(escape_markdown(lesson.title))
    st.title(step.title)
    if not obstacle(step, chosen):
        quick = set(chosen) <= set(measuring.measurable_tasks()) and measuring.baselines_are_quick()
        counts = {task: measuring.evaluator().count(task, "val") for task in chosen} if quick else {}
        st.session_state[_WHOLE] = True
        screen(step, prepare.words(lesson, number), accuracy_view.task_labels(chosen), counts)
