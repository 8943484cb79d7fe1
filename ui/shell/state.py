"""What all pages look at: the workspace, the chosen suite and tasks, their geometry, the device.

Suite and tasks are chosen in the sidebar; both stand in the URL (``?suite=mini&tasks=digits&tasks=fashion``). Caches
are keyed by the sizes and times of the files, so that replaced weights and images are noticed. Files are asked for
those once a run of a page, which is what a :class:`PageFacts` is for.
"""

import functools
import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st
import torch

from merging.core import devices
from merging.core.errors import MergingError, SuiteError
from merging.core.places import chosen_home, suite_places
from merging.methods import own
from merging.runs.shipped import shipped_files
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from merging.suites.discovery import Discovery, Found, SuiteEntry
from merging.suites.groups import GROUP, KIND
from merging.suites.images.cache import DEFAULT_LIMIT
from merging.suites.images.folders import folder_state
from merging.suites.incoming.staging import SUITES as ADDED
from merging.suites.suite import missing_files
from merging.weights.geometry import Geometry
from ui.shell import session
from ui.shell.guard import GuardedWorkspace
from ui.shell.url import as_option, not_found, write_chosen

ROOT = Path(__file__).resolve().parents[2]
_TASKS_WANTED, _TASKS_OF = "_tasks_wanted", "_tasks_of"
_LOOK = "_look"  # session state
_LOOK_SECONDS = 1.0  # for which a look serves fragments and callbacks, which run without the rest of the page
# Seconds for which what was found in image folders is taken for true: every image has to be asked whether it was
# replaced in place. Where that takes more than a moment, it is done less often.
_IMAGES_SECONDS, _MANY_IMAGES_SECONDS, _MOMENT = 3.0, 60.0, 0.15

READING = "Reading the files of the suite, once as long as they stay the same …"
Stamp = str
Answer = TypeVar("Answer")


class NoTaskSelected(MergingError):
    """The user unchecked all tasks: nothing is wrong, there is just nothing to show."""


@st.cache_resource
def _workspace(home: str) -> Workspace:
    shipped = () if os.environ.get("MERGING_SHIPPED") == "0" else shipped_files()
    return Workspace(Path(home), _image_limit(), shipped)


@st.cache_resource
def _guarded(home: str) -> Workspace:
    plain = _workspace(home)
    return GuardedWorkspace(plain.home, plain.image_limit, plain.shipped, suites)


def workspace() -> Workspace:
    """The folder with runs and caches, see :func:`merging.core.places.chosen_home`; guarded where others share it."""
    return (_guarded if session.shared() else _workspace)(str(chosen_home()))


def housekeeping() -> Workspace:
    """The same without a guard, for what a page does by itself: nobody asked for it, so nobody's rights count."""
    return _workspace(str(chosen_home()))


def _image_limit() -> int:
    """Bytes for prepared images: ``MERGING_IMAGE_CACHE_GB``, as on the command line.

    Raises:
        SuiteError: that is no number of gibibytes.
    """
    given = os.environ.get("MERGING_IMAGE_CACHE_GB")
    try:
        limit = int(float(given) * 2**30) if given else DEFAULT_LIMIT
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise SuiteError(f"MERGING_IMAGE_CACHE_GB is {given!r}; expected a number of gibibytes, such as 20")
    return limit


@dataclass
class PageFacts:
    """What one run of a page found out about the suites and their files.

    Attributes:
        found: the suites.
        when: seconds of a clock that only goes forward.
        answers: what :func:`once_a_run` remembers, by function and chosen suite.
    """

    found: Found
    when: float
    answers: dict[tuple[str, str | None], Any] = field(default_factory=dict)


def look_again() -> None:
    """Let suites, files and methods of one's own be looked at anew.

    To be called at the start of a page's run, and after adding a suite.
    """
    own.refresh()
    st.session_state.pop(_LOOK, None)


def _look() -> PageFacts:
    look: PageFacts | None = st.session_state.get(_LOOK)
    if look is None or time.monotonic() - look.when > _LOOK_SECONDS:
        look = st.session_state[_LOOK] = PageFacts(_discovery()(), time.monotonic())
    return look


def once_a_run(function: Callable[[], Answer]) -> Callable[[], Answer]:
    """Let a function that says something of the chosen suite and its files work it out once a run of a page."""

    @functools.wraps(function)
    def remembered() -> Answer:
        answers = _look().answers
        key = function.__qualname__, st.session_state.get("suite")
        if key not in answers:
            answers[key] = function()
        answer: Answer = answers[key]
        return answer

    return remembered


def _discovery() -> Discovery:
    return _discovery_below((*map(str, suite_places()), str(chosen_home() / ADDED)))


@st.cache_resource(max_entries=4, show_spinner=False)
def _discovery_below(roots: tuple[str, ...]) -> Discovery:
    return Discovery([Path(root) for root in roots])


def suite_entries() -> Mapping[str, SuiteEntry]:
    """Suites by the short name that stands in the URL: built-in ones, those under ``MERGING_SUITES``, downloaded ones.

    Those that were added lie in the workspace and are looked for as those under ``MERGING_SUITES``.
    Suites of published checkpoints are left out as long as none of their models is here.
    """
    return _look().found.entries


def files_of_suites() -> set[Path]:
    """The weight files that suites below ``MERGING_SUITES`` name; suites that can't be read name none."""
    found: set[Path] = set()
    described = _look().found.described
    for entry in suite_entries().values():
        if not entry.problem and any(Path(entry.reference).is_relative_to(root) for root in suite_places()):
            suite = described[entry.reference]
            names = [suite.base, *(task.checkpoint for task in suite.tasks)]
            found |= {file.resolve() for name in names if name for file in suite.weight_files(name)}
    return found


def published_suites() -> Mapping[str, Suite]:
    """The suites of published checkpoints, whether or not their files are here."""
    return _look().found.published


def described_suite(reference: str) -> Suite:
    """A suite that can be read, as its ``suite.yaml`` describes it."""
    return _look().found.described[reference]


def suites() -> dict[str, str]:
    """Reference → label of every suite there is."""
    return {entry.reference: entry.label for entry in suite_entries().values()}


@once_a_run
def suite_reference() -> str:
    """What goes into ``MergeSpec.suite`` for the suite chosen in the sidebar.

    Raises:
        SuiteError: there is no suite, or the chosen one can't be read.
    """
    entries = suite_entries()
    if not entries:
        raise SuiteError("there is no suite to show; build the embedded one or set MERGING_SUITES")
    chosen = str(st.session_state.get("suite"))
    entry = entries.get(chosen) or next(iter(entries.values()))
    if entry.problem:
        raise SuiteError(entry.problem)
    return entry.reference


@once_a_run
def suite() -> Suite:
    """The suite chosen in the sidebar."""
    return _opened(suite_reference(), stamp())


@once_a_run
def stamp() -> Stamp:
    """Names, sizes and times of all files of the chosen suite, as a hash: changes when any of them does.

    Where there are methods of one's own, it also changes when their files do.
    """
    reference = suite_reference()
    return _stamp(_discovery().files(reference, _look().found.described[reference])) + own.stamp()


def _stamp(paths: Sequence[Path]) -> Stamp:
    """Of files, and of folders of images, whose own times say nothing of images replaced in place."""
    status: dict[Path, os.stat_result] = {}
    for path in paths:
        with suppress(OSError):
            status[path] = path.stat()
    folders = _image_folders(tuple(str(path) for path, found in status.items() if stat.S_ISDIR(found.st_mode)))
    sizes_and_times = {
        path: folders.get(str(path), (found.st_size, found.st_mtime_ns)) for path, found in status.items()
    }
    stamps = tuple((path.name, *sizes_and_times[path]) for path in paths if path in status)
    return hashlib.sha256(repr(stamps).encode()).hexdigest()


@st.cache_data(ttl=_IMAGES_SECONDS, max_entries=32, show_spinner=False)
def _image_folders(folders: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Folder → number and hash of what is in it."""
    known, took = _large_image_folders(folders)
    return known if took > _MOMENT else _walk(folders)[0]


@st.cache_data(ttl=_MANY_IMAGES_SECONDS, max_entries=32, show_spinner=False)
def _large_image_folders(folders: tuple[str, ...]) -> tuple[dict[str, tuple[int, int]], float]:
    return _walk(folders)


def _walk(folders: Sequence[str]) -> tuple[dict[str, tuple[int, int]], float]:
    """The same, and the seconds that finding it out took."""
    started = time.monotonic()
    found = {folder: folder_state(Path(folder)) for folder in folders}
    return found, time.monotonic() - started


@st.cache_resource(max_entries=4, show_spinner=False)
def _opened(reference: str, version: Stamp) -> Suite:
    return load_suite(reference)


@once_a_run
def usable_tasks() -> tuple[str, ...]:
    """Tasks of the chosen suite that can be selected: their weights are there and not broken."""
    return _examined(suite_reference(), stamp())[0]


@once_a_run
def broken_tasks() -> dict[str, str]:
    """Tasks of the chosen suite whose weights are there and can't be used, with the reason and what to do.

    None if the base is broken: then pages that need it say so.
    """
    return _examined(suite_reference(), stamp())[1]


@st.cache_resource(max_entries=8, show_spinner="Measuring the task vectors, once for these files …")
def _examined(reference: str, version: Stamp) -> tuple[tuple[str, ...], dict[str, str]]:
    chosen, broken = _opened(reference, version), dict[str, str]()
    with suppress(MergingError):
        broken = workspace().broken(chosen)
    return tuple(task for task in chosen.mergeable() if task not in broken), broken


def selected_tasks() -> tuple[str, ...]:
    """The chosen tasks in the suite's order, at least one; :func:`tasks_at_first` as long as nobody chose.

    Raises:
        NoTaskSelected: the user unchecked all of them.
        MissingPart: no task of the suite has weights.
        SuiteError: all of them are broken.
    """
    if not suite().mergeable():
        raise missing_files(suite(), suite().missing_weights(suite().task_names), "no task has weights")
    if not usable_tasks():
        raise SuiteError(f"no task model of suite {suite().label!r} can be used. {'. '.join(broken_tasks().values())}")
    chosen = checked_tasks()
    if not chosen:
        raise NoTaskSelected("no task is selected; check at least one in the sidebar or on the page Task models")
    return chosen


def checked_tasks() -> tuple[str, ...]:
    """As :func:`selected_tasks`, but possibly none: for the controls of the selection themselves."""
    chosen = st.session_state.get("tasks")
    return tasks_at_first() if chosen is None else tuple(task for task in usable_tasks() if task in chosen)


@once_a_run
def tasks_at_first() -> tuple[str, ...]:
    """The tasks that are selected as long as nobody chose: the suite's usual ones that can be used, or all."""
    return suite().at_first(usable_tasks())


def set_selected_tasks(tasks: Sequence[str]) -> None:
    """Choose other tasks. Call it in a widget's callback, or follow it by ``st.rerun()``."""
    st.session_state[_TASKS_WANTED] = list(tasks)


def choose(reference: str, tasks: Sequence[str]) -> None:
    """Choose a suite, if it is still there, and tasks of it. Call it in a widget's callback."""
    look_again()
    slugs = [slug for slug, entry in suite_entries().items() if entry.reference == reference]
    if slugs:
        st.session_state["suite"] = slugs[0]
    set_selected_tasks(tasks)


def choose_tasks() -> list[str]:
    """The sidebar's control for the selection; the only widget with the key ``tasks``.

    Returns:
        Tasks that the URL names, a button asked for or were selected, and that the suite has no usable weights for.
    """
    usable = usable_tasks()
    reference = suite_reference()
    wanted = st.session_state.pop(_TASKS_WANTED, None)
    if wanted is None and st.session_state.get(_TASKS_OF, reference) != reference:
        wanted = list(tasks_at_first())  # another suite: its tasks have nothing to do with those chosen before
    st.session_state[_TASKS_OF] = reference
    missing = not_found("tasks", usable) if wanted is None else []
    in_a_row = any("," in name or name.startswith((GROUP, KIND)) for name in missing)  # as the command line takes them
    if in_a_row:
        values = [part.strip() for value in st.query_params.get_all("tasks") for part in value.split(",")]
        wanted, missing = [task for value in values if value for task in _named_together(value)], []
    before = st.session_state.get("tasks", [])
    if wanted is None and not set(before) <= set(usable):
        wanted = before  # a file broke, or went
    if wanted is not None:
        missing += [task for task in wanted if task not in (*usable, *missing)]
        st.session_state["tasks"] = [task for task in usable if task in wanted]
    st.multiselect(
        "Tasks",
        usable,
        default=list(tasks_at_first()),
        key="tasks",
        bind="query-params",
        label_visibility="collapsed",
        placeholder="Choose at least one task",
    )
    _offer_together(usable)
    if in_a_row or not st.session_state["tasks"]:
        write_chosen("tasks", st.session_state["tasks"])
    return missing


def _named_together(name: str) -> Sequence[str]:
    """The tasks that a group or kind of the URL stands for; any other name as it is."""
    with suppress(SuiteError):
        return suite().chosen([name]) if name.startswith((GROUP, KIND)) else [name]
    return [name]


def _offer_together(usable: Sequence[str]) -> None:
    """A button for every group and kind of tasks whose models are all here."""
    together = {label: tasks for label, tasks in suite().choices().items() if set(tasks) <= set(usable)}
    if together:
        with st.container(horizontal=True, gap="small"):
            for label, tasks in together.items():
                st.button(
                    as_option(label),
                    key=f"together-{label}",
                    type="tertiary",
                    on_click=set_selected_tasks,
                    args=(tasks,),
                )


def fingerprints() -> dict[str, str]:
    """Contents of the chosen suite's base, by its file name, and of its task models, by task, as runs keep them.

    A model that is missing or broken is left out.
    """
    return _fingerprints(suite_reference(), stamp())


@st.cache_data(max_entries=8, show_spinner=READING)
def _fingerprints(reference: str, version: Stamp) -> dict[str, str]:
    chosen, space = _opened(reference, version), workspace()
    found = {str(chosen.base): space.fingerprint(chosen.base_checkpoint)}
    for task in chosen.mergeable():
        with suppress(MergingError):
            found[task] = space.fingerprint(chosen.checkpoint(task))
    return found


def shared_query() -> dict[str, str | list[str]]:
    """Suite and tasks as query parameters, for links from page to page."""
    query: dict[str, str | list[str]] = {}
    entries = list(suite_entries())
    if entries and st.session_state.get("suite", entries[0]) != entries[0]:
        query["suite"] = str(st.session_state["suite"])
    if checked_tasks() != tasks_at_first():
        query["tasks"] = list(checked_tasks()) or ""  # none, which is not the same as not saying which
    return query


def geometry(tasks: tuple[str, ...] | None = None) -> Geometry:
    """Gram matrices of some tasks of the chosen suite, or of all that can be used.

    Raises:
        CheckpointError: the base is broken, or a file of one of these tasks.
    """
    return _geometry(suite_reference(), stamp(), usable_tasks() if tasks is None else tasks)


@st.cache_resource(max_entries=8, show_spinner="Measuring the task vectors, once for these files …")
def _geometry(reference: str, version: Stamp, tasks: tuple[str, ...]) -> Geometry:
    return workspace().geometry(_opened(reference, version), tasks)


@st.cache_resource
def device() -> torch.device:
    """Where this machine computes: its GPU if there is one."""
    return devices.resolve("auto")


@st.cache_data(ttl=60, max_entries=16, show_spinner=False)
def described(name: str) -> devices.DeviceInfo:
    """What a device is called and how much memory it has, asked once a minute: it takes a new thread."""
    return devices.describe(devices.resolve(name))


def device_badge() -> None:
    """A badge that names the device and its memory."""
    info = described(str(device()))
    text = f"{info.title} · {info.memory / 2**30:.0f} GiB"
    if device().type == "cpu":
        st.badge(text, icon=":material/memory:", color="gray", help="Where merges run by default")
    else:
        st.badge(text, icon=":material/bolt:", color="green", help="Where merges run by default")
