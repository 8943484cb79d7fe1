"""Runs as they go on: progress, phase, time left, cancel, and why one failed. Also starts the worker.

The panel is one fragment that polls only while something is active; when a run ends, the page is drawn once more.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import streamlit as st

from merging.core import devices
from merging.core.errors import MergingError, RunError
from merging.core.places import METHODS_VARIABLE, method_places, methods_setting
from merging.runs import Run
from merging.runs.advice import what_to_do
from merging.runs.jobs import Job
from merging.runs.jobs.job import FILE_LANE
from merging.runs.worker.serve import is_working, log_tail, make_way
from ui.look.figure import escape_markdown
from ui.runs.growing import growing, is_growing
from ui.runs.text import about, badge, duration, state_in_words, when
from ui.shell import session
from ui.shell.rights import Act
from ui.shell.state import ROOT, workspace

POLL_SECONDS = 1.0
_RELAUNCH_SECONDS = 5.0  # a worker that died at once is not started again before this
LOG_NAME = "worker.log"


@dataclass
class _Launcher:
    """The worker process that this server started, if any."""

    home: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0

    def ensure(self) -> None:
        with self.lock:
            starting = self.process is not None and self.process.poll() is None
            if starting or time.monotonic() - self.started < _RELAUNCH_SECONDS:
                return
            if is_working(self.home):
                make_way(self.home)  # it may be one that knows fewer methods
                return
            with (self.home / LOG_NAME).open("ab") as output:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "merging", "worker", "--home", str(self.home)],
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, METHODS_VARIABLE: methods_setting(method_places())},
                )
            self.started = time.monotonic()


@st.cache_resource
def _launcher(home: str) -> _Launcher:
    return _Launcher(Path(home).resolve(), started=-_RELAUNCH_SECONDS)


def ensure_worker() -> None:
    """Start the worker of this workspace unless one serves it already. It outlives the page, the tab and the server."""
    _launcher(str(workspace().home)).ensure()


def find_runs(run_ids: Sequence[str]) -> list[Run]:
    """The rows of these runs; ids that are gone are left out."""
    found = []
    for run_id in run_ids:
        try:
            found.append(workspace().store.get(run_id))
        except RunError:
            continue
    return found


def run_panel(
    runs: Sequence[Run],
    *,
    key: str,
    names: dict[str, str] | None = None,
    on_retry: Callable[[Run], None] | None = None,
) -> None:
    """Show runs that wait, run, or ended badly; finished ones are one line.

    Args:
        runs: which ones, as the page has seen them: where one has changed since, the page runs again. Those that wait
            are shown last, in the order in which they are carried out, the others in the order given.
        key: unique on the page.
        names: run id → what to call it, if not by its method.
        on_retry: told about the new run when somebody presses *Run again*.
    """
    active = frozenset(run.id for run in runs if run.active)
    if active:
        ensure_worker()
    panel = partial(_panel, tuple(run.id for run in runs), active, key, names or {}, on_retry)
    st.fragment(panel, run_every=POLL_SECONDS if active else None, key=f"{key}-panel")()


def offer_job(job: Job, run: Run | None, *, key: str, button: str, icon: str, reason: str) -> None:
    """Work that takes too long for a page: a button that queues it for the worker, then how far it is.

    Args:
        job: what to do.
        run: the run that does it, or did and ended badly; None if nobody has asked for it.
        key: unique on the page.
        button: what the button says.
        icon: its icon.
        reason: why the page has nothing to show yet.
    """
    if run is not None:
        run_panel([run], key=key)
        return
    st.info(f"{reason} It takes {how_long([job])}.", icon=":material/hourglass:")
    if st.button(button, key=f"{key}-start", type="primary", icon=icon):
        workspace().submit(job)
        ensure_worker()
        st.rerun()


def _panel(
    run_ids: tuple[str, ...],
    active_before: frozenset[str],
    key: str,
    names: dict[str, str],
    on_retry: Callable[[Run], None] | None,
) -> None:
    runs = find_runs(run_ids)
    if len(runs) < len(run_ids):
        st.rerun()  # deleted elsewhere: the page says so
    active = frozenset(run.id for run in runs if run.active)
    if active:
        ensure_worker()
    starts = _starts() if active else {}
    for run in _in_turn(runs, starts):
        with st.container(border=True, key=f"{key}-{run.id}"):
            _line(run, names.get(run.id, run.job.label), starts, key)
            if is_growing(run):
                growing(run, key)
            if not run.active and run.state != "done":
                _ending(run, key, on_retry)
    if active != active_before:
        st.rerun()  # something ended: results show, and the timer stops with the last one


def _in_turn(runs: Sequence[Run], starts: Mapping[str, float | None]) -> list[Run]:
    """Those that wait last, in the order in which they are carried out; the others as they were given."""
    places = {run_id: place for place, run_id in enumerate(starts, 1)}
    return sorted(runs, key=lambda run: places.get(run.id, 0))


def _line(run: Run, name: str, starts: Mapping[str, float | None], key: str) -> None:
    """Name and state, progress, and the button that stops it, side by side."""
    title, middle, action = st.columns([0.34, 0.46, 0.2], vertical_alignment="center", gap="medium")
    title.markdown(f"**{escape_markdown(name)}** &nbsp;{badge(run.state)}", help=f"Run {run.id}")
    if run.active:
        with middle:
            _progress(run, starts)
        action.button(
            "Cancel",
            key=f"{key}-cancel-{run.id}",
            icon=":material/stop_circle:",
            width="stretch",
            disabled=run.cancel_asked is not None or not session.may(Act.CANCEL, run),
            help=None if session.may(Act.CANCEL, run) else session.why_not(Act.CANCEL),
            on_click=_cancel,
            args=(run.id,),
        )
    elif run.finished is not None:
        took = f", took {duration(run.finished - run.started)}" if run.started is not None else ""
        middle.caption(f"`{run.id}` ended {when(run.finished)}{took}")


def _cancel(run_id: str) -> None:
    with session.told_of_errors():
        workspace().store.cancel(run_id)


def _starts() -> dict[str, float | None]:
    """Waiting run → seconds until it is likely to start, in the order in which they are carried out."""
    store = workspace().store
    running = [run for run in store.active() if run.state == "running"]
    active = [*running, *store.queued()]
    lanes = {run.id: run.job.lane if run.job.lane == FILE_LANE else _device(run.job.lane) for run in active}
    return store.expected().starts(active, lanes, time.time())


def _device(wanted: str) -> str:
    try:
        return str(devices.resolve(wanted))
    except MergingError:
        return wanted


def how_long(jobs: Sequence[Job], more: bool = False) -> str:
    """How long jobs take that follow each other, as it follows *takes*; empty if there are none.

    Args:
        jobs: which.
        more: whether others follow.

    >>> how_long([])
    ''
    """
    if not jobs:
        return ""
    expected = workspace().store.expected()
    known = [seconds for job in jobs if (seconds := expected.seconds(job)) is not None]
    if not known:
        return "a time that nobody knows yet, as nothing like it was done here"
    takes, least, most = about(sum(known)), more or len(known) < len(jobs), any(map(expected.at_most, jobs))
    if least != most:  # where both are so, the two do not make a bound
        takes = f"at {'least' if least else 'most'} {takes}"
    return f"{takes}, depending on the machine" if any(map(expected.from_elsewhere, jobs)) else takes


def _progress(run: Run, starts: Mapping[str, float | None]) -> None:
    if run.state == "queued":
        ahead, seconds = list(starts).index(run.id) if run.id in starts else 0, starts.get(run.id)
        text = f"Waiting, {ahead} in front of it" if ahead else "Waiting for the worker, next in line"
        likely = f"; likely to start in {about(seconds)}" if seconds else ""
        st.progress(0.0, text=text + likely)
        return
    parts = [
        "Stopping …" if run.cancel_asked is not None else escape_markdown(run.message[:1].upper() + run.message[1:])
    ]
    if run.total > 1:
        parts.append(f"{run.done} of {run.total}")
    left = run.seconds_left(time.time())
    if left is not None:
        parts.append(f"about {duration(left)} left in this phase")
    st.progress(run.share, text=" · ".join(parts))


def _ending(run: Run, key: str, on_retry: Callable[[Run], None] | None) -> None:
    show = {"failed": st.error, "lost": st.warning}.get(run.state, st.info)
    show(escape_markdown(run.error or state_in_words(run.state)))
    if run.state == "failed":
        st.caption(escape_markdown(f"{what_to_do(run)} {run.job.without}".strip()))
    log = run.log or log_tail(workspace().store.folder(run.id) / "log.txt")  # nobody kept that of a lost run
    if log and session.may(Act.SEE_FOLDERS):  # which tracebacks name
        with st.expander("Last lines of the log", icon=":material/terminal:"):
            st.code(log, language=None, wrap_lines=True)
    if st.button("Run again", key=f"{key}-again-{run.id}", icon=":material/replay:"):
        try:
            fresh = workspace().retry(run.id)
        except MergingError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return
        if on_retry is not None:
            on_retry(fresh)
        st.rerun()
