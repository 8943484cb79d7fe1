"""What people wrote about a run, and the form in which they do."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from merging.core.errors import RunError
from merging.runs import Run
from merging.runs.annotations import MAX_NAME, MAX_NOTE, annotate, note_as_markdown
from ui.look.figure import escape_markdown
from ui.shell import session, state
from ui.shell.rights import Act

_POPOVER, _PROBLEM = "notes-", "notes-problem-"  # session state, with the run's id: whether it is open; what is wrong


def show_notes(run: Run) -> None:
    """Tags and note of a run, as far as there are any; Markdown, in which HTML stays text."""
    if run.tags:
        st.markdown(" ".join(f":gray-badge[{escape_markdown(tag)}]" for tag in run.tags))
    if run.note:
        with st.container(border=True, key=f"note-{run.id}"):
            st.markdown(note_as_markdown(run.note))


def offer_notes(run: Run) -> None:
    """The star, and a form for name, tags and note; a run that came with its suite has neither."""
    if run.shipped or not session.may(Act.RENAME, run):
        return
    st.button(
        "Starred" if run.star else "Star",
        icon=":material/star:",
        key=f"star-{run.id}",
        type="secondary" if run.star else "tertiary",
        help="Take the star off" if run.star else "Mark this run; the filter finds it",
        on_click=_star,
        args=(run,),
    )
    with _popover(run), st.form(f"notes-form-{run.id}"):
        st.text_input("Name", run.name, max_chars=MAX_NAME, key=f"name-{run.id}", placeholder=run.label)
        st.text_input("Tags", ", ".join(run.tags), key=f"tags-{run.id}", placeholder="With commas between them")
        st.text_area("Note", run.note, max_chars=MAX_NOTE, key=f"text-{run.id}", help="Markdown, without HTML")
        problem = st.session_state.pop(f"{_PROBLEM}{run.id}", "")
        if problem:
            st.error(escape_markdown(problem), icon=":material/error:")
        st.form_submit_button("Save", type="primary", on_click=_save, args=(run,))


def _popover(run: Run) -> DeltaGenerator:
    return st.popover("Notes", icon=":material/edit_note:", key=f"{_POPOVER}{run.id}", on_change="rerun")


def _save(run: Run) -> None:
    """Callback: keep what was written and close the form, or keep it open with the reason why not."""
    session.require(Act.RENAME, run)
    name, tags, note = (str(st.session_state.get(f"{field}-{run.id}") or "") for field in ("name", "tags", "text"))
    try:
        annotate(state.workspace().store, run.id, name=name, note=note, tags=[tags])
    except RunError as error:
        st.session_state[f"{_PROBLEM}{run.id}"] = str(error)
    else:
        st.session_state[f"{_POPOVER}{run.id}"] = False


def _star(run: Run) -> None:
    session.require(Act.RENAME, run)
    with session.told_of_errors():
        annotate(state.workspace().store, run.id, star=not run.star)
