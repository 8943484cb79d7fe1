"""What came of adding a suite: what was found, assumed and left out, or why nothing was written."""

from pathlib import Path

import streamlit as st

from merging.core.places import suite_places
from merging.core.text import counted, in_a_row
from merging.suites import load_suite
from merging.suites.initialise import Proposal
from ui.look.figure import escape_markdown
from ui.runs.file_jobs import offer_conversion
from ui.shell import state
from ui.suites.words import on_page

_WRITTEN, _REFUSED = "_suite_written", "_suite_refused"  # session state


def refuse(reason: str) -> None:
    """Keep the reason why nothing was written; to be called in a callback."""
    st.session_state[_REFUSED] = reason


def choose(file: Path, made: Proposal | None) -> None:
    """Choose a suite that is new; to be called in a callback.

    Args:
        file: its ``suite.yaml``.
        made: what that says and why; None where it came with the files.
    """
    state.choose(str(file), load_suite(file).task_names)
    st.session_state[_WRITTEN] = (str(file), made)


def show() -> None:
    """What came of the last button pressed."""
    refused = st.session_state.pop(_REFUSED, None)
    if refused:
        st.error(escape_markdown(on_page(refused)), icon=":material/error:")
    reference, made = st.session_state.get(_WRITTEN, (None, None))
    if reference is None or reference != state.suite_reference():
        return
    if made is None:
        st.success("The suite is added with the suite.yaml that came with its files.", icon=":material/check:")
        return
    tasks = [task["name"] for task in made.content["tasks"]]
    base = made.content["base"]
    base = base if isinstance(base, str) else base["hub"]
    count = counted(len(tasks), "task")
    st.success(
        escape_markdown(f"suite.yaml is written: base {base}, {count} ({', '.join(tasks)})."),
        icon=":material/check:",
    )
    known = [f"{task['name']} on {task['dataset']}" for task in made.content["tasks"] if "dataset" in task]
    lines = [f"known data sets: {in_a_row(known)}"] if known else []
    lines += [f"{field}: {note}" for field, note in made.notes.items()]
    lines += [f"missing: {sentence}" for sentence in made.missing]
    lines += [f"left out: {file}: {reason}" for file, reason in made.left_out.items()]
    st.markdown("\n".join(f"- {escape_markdown(on_page(line))}" for line in lines))
    folder = Path(reference).parent
    if made.left_out and any(folder.is_relative_to(root) for root in suite_places()):
        offer_conversion(folder)
