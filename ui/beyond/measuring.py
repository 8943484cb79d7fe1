"""The methods that all views compare, and the jobs that measure them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st

from merging.methods.presets import PRESETS, Preset
from merging.runs import Run
from merging.runs.beyond import AT_FIRST, outlook
from merging.runs.jobs.model_job import ModelJob, ModelResult
from merging.runs.leaderboard import cheapest_first
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown
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


@dataclass(frozen=True)
class Work:
    """What measuring takes: merges of each method, passes over all tasks, the share of the tasks in a merge."""

    merges: Sequence[int]
    passes: float
    share: float = 1.0


def measured(
    methods: Sequence[Preset], jobs: Sequence[ModelJob], kind: type[Result], work: Work, *, key: str, note: str
) -> list[tuple[Preset, Result]]:
    """What is known of some methods; a button for what nobody asked for, and how far the rest is.

    Args:
        methods: which.
        jobs: what measures each.
        kind: the model of their results.
        work: what that takes, for saying how long before anybody asks.
        key: unique on the page.
        note: what measuring one method takes.
    """
    runs = runs_of(jobs)
    missing = [job for job, run in zip(jobs, runs, strict=True) if run is None]
    if missing:
        button, words = st.columns([0.3, 0.7], vertical_alignment="center")
        label = "Measure" if len(missing) == len(jobs) else "Measure the missing ones"
        if button.button(label, key=f"{key}-start", type="primary", icon=":material/speed:", width="stretch"):
            queue(missing)
        takes = outlook(methods, jobs, work.merges, work.passes, state.workspace(), work.share).in_words
        words.caption(
            escape_markdown(
                f"{len(missing)} of {len(jobs)} methods are not measured yet: {takes}. {note} They are queued one "
                "after the other; results stay when you leave."
            )
        )
    asked = [(preset, run) for preset, run in zip(methods, runs, strict=True) if run is not None]
    going = [(preset, run) for preset, run in asked if run.state != "done"]
    if going:
        run_panel([run for _, run in going], key=key, names={run.id: preset.title for preset, run in going})
    return [(preset, found) for preset, run in asked if (found := _result(run, kind)) is not None]


def _result(run: Run, kind: type[Result]) -> Result | None:
    return run.result_as(kind) if run.state == "done" else None
