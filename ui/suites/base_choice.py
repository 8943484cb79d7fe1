"""Which of the models that wait, or of the suites that are known here, is the base of the others."""

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from merging.core.errors import MergingError
from merging.evaluation.clip import settings_of
from merging.suites import load_suite
from merging.suites.folder import look
from merging.suites.incoming.adopted import adopt, answers_of, base_of, drop, label_of
from merging.suites.incoming.staging import Staging
from merging.suites.initialise import NO_ANSWERS, Answers
from merging.weights.files.folders import is_complete
from ui.shell import state
from ui.suites import added
from ui.suites.permission import require_permission

_BY_NAME = "found by its name"


class Base(NamedTuple):
    """The base below the files that wait, None to find it by its name, and what is known of it."""

    path: Path | None
    answers: Answers


def choose_base(staging: Staging) -> Base:
    """Ask for the base: one of the files, or that of a suite."""
    key, adopted = f"base-{staging.token}", base_of(staging)
    files = {path.as_posix(): path for path in look(staging.files).weights if path != adopted}
    suites = {f"that of {label}": reference for reference, label in _with_base().items()}
    options = [_BY_NAME, *files, *suites]
    if key not in st.session_state:  # after a reload
        st.session_state[key] = taken if (taken := f"that of {label_of(staging)}") in suites else _BY_NAME
    chosen = st.selectbox(
        "Base model",
        options,
        key=key,
        on_change=_changed,
        args=(staging, key, suites),
        help="The one that the others were tuned from. Adapters need it: take that of a suite if it is not among "
        "the files, or name it on the hub above",
    )
    if chosen in suites:
        return Base(adopted, answers_of(staging))
    return Base(files.get(chosen), NO_ANSWERS)


def _with_base() -> dict[str, str]:
    """Reference → label of the suites whose base is here."""
    found = {}
    for entry in state.suite_entries().values():
        if not entry.problem:
            suite = state.described_suite(entry.reference)
            if is_complete(suite.path(suite.base)):
                found[entry.reference] = entry.label
    return found


def _changed(staging: Staging, key: str, suites: dict[str, str]) -> None:
    """Callback: link the base of a suite that was chosen; throw the link away when another base was."""
    chosen = st.session_state[key]
    try:
        require_permission()
        if chosen in suites:
            suite = load_suite(suites[chosen])
            adopt(staging, suite, settings_of(suite))
        else:
            drop(staging)
    except MergingError as error:
        st.session_state[key] = _BY_NAME
        added.refuse(str(error))
