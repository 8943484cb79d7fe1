"""The methods that all views compare, and the jobs that measure them."""

from collections.abc import Sequence
from typing import TypeVar

import streamlit as st

from merging.core.text import counted
from merging.methods.presets import PRESETS, Preset
from merging.runs import Run
from merging.runs.beyond import AT_FIRST
from merging.runs.jobs.model_job import ModelResult
from merging.runs.jobs.parts import InParts
from merging.runs.leaderboard import cheapest_first
from merging.runs.parts import Known, outlook, seconds_of
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown
from ui.runs import shipped
from ui.runs.jobs import runs_of
from ui.runs.panel import run_panel
from ui.runs.queueing import queue
from ui.shell import state
from ui.shell.url import choice, write_chosen

METHODS = "beyond-methods"  # in the URL
Result = TypeVar("Result", bound=ModelResult)


def several_measurable(tasks: Sequence[str]) -> bool:
    """Whether there are tasks to merge some of and to measure on; says what is missing if not."""
    if len(tasks) < 2:
        st.info("Choose at least two tasks in the sidebar.", icon=":material/checklist:")
        return False
    return not accuracy_view.explain_unmeasurable(tasks)


def chosen_methods(localised: bool) -> list[Preset]:
    """Which published methods to compare, the cheapest first.

    Args:
        localised: whether those that give a model for each task can be measured.
    """
    titles = {name: preset.title for name, preset in PRESETS.items()}
    names = choice(
        st.pills,
        "Methods",
        titles,
        also={name: name for name in titles},
        selection_mode="multi",
        default=[name for name in AT_FIRST if name in titles],
        key=METHODS,
        wrap=True,
        help="Published methods, with λ chosen on clean validation images where there is one",
    )
    if not names:
        write_chosen(METHODS)
        st.info("Choose at least one method.")
        return []
    methods = cheapest_first(PRESETS[name] for name in names)
    apart = [preset.title for preset in methods if preset.pair.localised]
    if apart and not localised:
        st.caption(
            f"Left out, as unseen tasks need one model for all and these give each task its own: {', '.join(apart)}."
        )
    return [preset for preset in methods if localised or not preset.pair.localised]


def measured(
    methods: Sequence[Preset],
    found: Sequence[Known],
    kind: type[Result],
    *,
    key: str,
    note: str,
    in_part: bool = False,
) -> list[tuple[Preset, Result]]:
    """What is known of some methods; a button for what nobody asked for, and how far the rest is.

    Args:
        methods: which.
        found: what is known of the job of each.
        kind: the model of their results.
        key: unique on the page.
        note: what measuring one method takes.
        in_part: whether to give what is known of a method that is not measured wholly.
    """
    tried = iter(runs_of([one.missing for one in found if one.missing is not None]))
    ended = [None if one.missing is None else next(tried) for one in found]  # badly
    unasked = [one.missing if run is None else None for one, run in zip(found, ended, strict=True)]
    _offer(methods, found, unasked, key, note)
    going: dict[str, tuple[Run, str]] = {}
    for preset, one, run in zip(methods, found, ended, strict=True):
        for each in (*one.active.values(), *filter(None, [run])):
            going[each.id] = each, preset.title
    if going:
        run_panel([run for run, _ in going.values()], key=key, names={id_: title for id_, (_, title) in going.items()})
    shown = ((preset, one) for preset, one in zip(methods, found, strict=True) if in_part or one.left is None)
    return [(preset, result) for preset, one in shown if (result := one.result(kind)) is not None]


def say_shipped(found: Sequence[Known], *, key: str, in_part: bool = False) -> None:
    """Below a chart of :func:`measured`, whose arguments these are: which of it came with the suite."""
    shown = (one for one in found if in_part or one.left is None)
    runs = list({run.id: run for one in shown for run in one.done.values()}.values())
    shipped.say(runs, key, _seconds_again(runs))


def _seconds_again(runs: Sequence[Run]) -> float:
    """How long those of some runs that came with the suite may take here; none of that says how long they took."""
    parts = [run.job for run in runs if run.shipped and isinstance(run.job, InParts)]
    return sum(seconds_of(job, state.workspace()) or 0.0 for job in parts)


def _offer(
    methods: Sequence[Preset], found: Sequence[Known], unasked: Sequence[InParts | None], key: str, note: str
) -> None:
    """A button for what nobody has asked for, and how long that takes."""
    jobs = [job for job in unasked if job is not None]
    if not jobs:
        return
    button, words = st.columns([0.3, 0.7], vertical_alignment="center")
    begun = len(jobs) < len(found) or any(one.done for one in found)
    label = "Measure the missing ones" if begun else "Measure"
    if button.button(label, key=f"{key}-start", type="primary", icon=":material/speed:", width="stretch"):
        queue(jobs)
    partly = any(one.done for one, job in zip(found, unasked, strict=True) if job is not None)
    words.caption(
        escape_markdown(
            f"{len(jobs)} of {counted(len(found), 'method')} {'is' if len(jobs) == 1 else 'are'} not measured yet"
            f"{', or only in part' if partly else ''}: "
            f"{outlook(methods, unasked, state.workspace()).in_words}. {note} They are queued one after the other; "
            "results stay when you leave."
        )
    )
