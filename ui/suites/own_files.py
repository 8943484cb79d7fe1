"""Files of one's own become a suite: dropped, typed in as paths, or named on the hub; nothing restarts."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from merging.core.errors import MergingError
from merging.core.text import counted, shortened
from merging.suites import load_suite
from merging.suites.incoming.arrival import Received
from merging.suites.incoming.staging import Staging
from merging.suites.initialise import Proposal, init_suite
from ui.look.figure import escape_markdown, show_table
from ui.shell import state
from ui.shell.url import run_again
from ui.suites import added, uploads
from ui.suites.base_choice import choose_base
from ui.suites.conversion import offer_conversion
from ui.suites.named_models import ask_for_names
from ui.suites.permission import require_permission
from ui.suites.preview import preview
from ui.suites.questions import Wishes, ask, understood

PARAMETER = "incoming"  # of the URL: which files wait
_RECEIVED, _PLACES = "_received", "_places"  # session state


def own_files() -> None:
    """Take files in, say what they are understood as, and add them as a suite when asked to."""
    st.write(
        "Checkpoints, adapters (adapter_config.json with adapter_model.safetensors), images in class folders, or a zip "
        "of all of it. They are copied into the folder for runs and caches and wait there, at most a day, until "
        "you add them as a suite. Models alone are enough for similarity and merging; accuracy needs images too."
    )
    left, right = st.columns(2)
    with left:
        dropped = uploads.ask("Drop files or a zip here", folder=False, key="files", help=_BOUND)
    with right:
        folder = uploads.ask("Or a whole folder", folder=True, key="folders", help="With the names that are in it")
    for files in filter(None, (dropped, folder)):
        with st.spinner(f"Taking in {counted(len(files), 'file')} …"):
            found = st.session_state[_RECEIVED] = _staging_or_new().receive(files)
        places = {file.file_id: found.places.get(file.name, []) for file in files}
        st.session_state[_PLACES] = st.session_state.get(_PLACES, {}) | places
        uploads.forget(files)
        run_again()
    _remove(uploads.crossed_out())
    ask_for_names(_take)
    _say(st.session_state.get(_RECEIVED))
    staging = _staging()
    if staging is not None and staging.listing():
        _waiting(staging)


_BOUND = (
    "While they arrive they are held in memory; a file that is larger than what is allowed below, or than half of the "
    "free memory, is refused: type its path instead, or use the folder that MERGING_SUITES names"
)


def _staging() -> Staging | None:
    """The files that wait in this tab; also after a reload, or after the server was started again."""
    token = st.query_params.get(PARAMETER) or st.session_state.get(PARAMETER, "")
    found = Staging.found(state.workspace().home, str(token))
    if found is not None:
        st.query_params[PARAMETER] = st.session_state[PARAMETER] = found.token
    elif PARAMETER in st.query_params:
        del st.query_params[PARAMETER]
    return found


def _staging_or_new() -> Staging:
    """The same, begun if there is none.

    Raises:
        SuiteError: whoever asks may not add suites, or there is no place for files.
    """
    require_permission()
    found = _staging() or Staging.begun(state.workspace().home)
    st.session_state[PARAMETER] = found.token
    return found


def _take(how: Callable[[Staging], Received]) -> None:
    """Callback: take something in that is on this machine, or keep the reason why not."""
    try:
        st.session_state[_RECEIVED] = how(_staging_or_new())
    except MergingError as error:
        added.refuse(str(error))


def _remove(crossed_out: set[str]) -> None:
    """Throw away the files whose names were taken off the page."""
    staging, places = _staging(), st.session_state.get(_PLACES, {})
    gone = [place for file in crossed_out for place in places.get(file, [])]
    if staging is not None and gone:
        staging.remove(gone)
        st.session_state.pop(_RECEIVED, None)


def _say(found: Received | None) -> None:
    """What became of what was handed in last."""
    if found is None:
        return
    if found.files:
        st.success(f"{counted(found.files, 'file')} taken in.", icon=":material/check:")
    if found.refused:
        reasons = (f"{name}: {why.removeprefix(f'{name}: ')}" for name, why in found.refused.items())
        st.error("\n".join(f"- {escape_markdown(line)}" for line in reasons), icon=":material/error:")
    said = list(found.remarks)
    if found.left_out:
        said.append(f"left out, as no suite is made of such files: {shortened(found.left_out, 5)}")
    for line in said:
        st.caption(escape_markdown(line))


def _waiting(staging: Staging) -> None:
    """The files that wait, what they are taken for, and what can be done with them."""
    files = staging.listing()
    size = sum(files.values()) / 2**20
    with st.expander(f"{counted(len(files), 'file')} waiting, {size:.1f} MiB", icon=":material/inbox:"):
        table = pd.DataFrame({"File": list(files), "MiB": [bytes_ / 2**20 for bytes_ in files.values()]})
        config = {"MiB": st.column_config.NumberColumn(format="%.1f")}
        show_table(table, key="waiting", file="files", placeholder="", column_config=config)
    st.button("Throw these files away", icon=":material/delete:", on_click=_discard, args=(staging,), key="discard")
    unnamed = staging.unnamed()
    if unnamed:
        _name(staging, unnamed)
    elif staging.is_described:
        _described(staging)
    else:
        _undescribed(staging)


def _name(staging: Staging, unnamed: list[str]) -> None:
    left, right = st.columns([0.7, 0.3], vertical_alignment="bottom")
    name = left.text_input(
        f"What is {escape_markdown(shortened(unnamed, 2))} called?",
        key="unnamed",
        placeholder="A task, such as cars; or base",
        help="Its name says no task, and it lies in no folder",
    )
    right.button("Name it", on_click=_call, args=(staging, name.strip()), disabled=not name.strip(), width="stretch")


def _described(staging: Staging) -> None:
    """A suite.yaml came with the files, and is taken as it is."""
    try:
        suite = load_suite(staging.files)
    except MergingError as error:
        st.error(
            escape_markdown(f"The suite.yaml that came with these files can't be used. {error}."),
            icon=":material/error:",
        )
        st.button(
            "Go on without it",
            key="without-description",
            on_click=_without_description,
            args=(staging,),
            help="What the other files are is found out then; a suite.yaml that was mended can be dropped instead",
        )
        return
    here = suite.mergeable()
    st.info(
        escape_markdown(
            f"A suite.yaml came with these files and is taken as it is: {suite.label}, {suite.architecture_label}, "
            f"{counted(len(suite.tasks), 'task')}, {len(here)} of them with weights here ({shortened(here)})."
        ),
        icon=":material/description:",
    )
    _add_button(staging, None, suite.name)


def _without_description(staging: Staging) -> None:
    """Callback: throw away the suite.yaml alone."""
    require_permission()
    staging.forget_description()
    st.session_state.pop(_RECEIVED, None)


def _undescribed(staging: Staging) -> None:
    base = choose_base(staging)
    wishes = ask(staging.files, base.path, staging.token, base.answers)
    made, problem = understood(staging.files, wishes)
    preview(made, problem, staging.files, key="own-preview")
    offer_conversion(staging)
    if made is not None:
        _add_button(staging, wishes, staging.called, disabled=bool(made.unsaid))


def _add_button(staging: Staging, wishes: Wishes | None, called: str, disabled: bool = False) -> None:
    left, right = st.columns([0.7, 0.3], vertical_alignment="bottom")
    proposed = "".join(letter for letter in called if letter.isalnum() or letter in " ._-").strip(" ._-")
    name = left.text_input("Name of the suite", value=proposed or "my-suite", key=f"name-{staging.token}", max_chars=80)
    right.button(
        "Add this suite",
        type="primary",
        icon=":material/library_add:",
        on_click=_add,
        args=(staging, wishes, name.strip()),
        disabled=disabled,
        width="stretch",
        help="All of it at once, or nothing; it is chosen then",
    )


def _add(staging: Staging, wishes: Wishes | None, name: str) -> None:
    """Callback: let the files be a suite and choose it, or keep the reason why not."""
    made: Proposal | None = None
    try:
        require_permission()
        staging.destination(name)
        if wishes is not None:
            made = init_suite(
                staging.files,
                wishes.base,
                name,
                force=True,
                datasets=wishes.datasets,
                checkpoints=wishes.checkpoints,
                take=wishes.take,
                answers=wishes.answers,
            )
        load_suite(staging.files)
        added.choose(staging.finish(name), made)
    except MergingError as error:
        added.refuse(str(error))
        return
    _forget()


def _call(staging: Staging, name: str) -> None:
    """Callback: put what says no task into a folder that does."""
    try:
        require_permission()
        staging.call(name)
    except MergingError as error:
        added.refuse(str(error))


def _discard(staging: Staging) -> None:
    """Callback: throw away what waits."""
    require_permission()
    staging.discard()
    _forget()


def _forget() -> None:
    uploads.clear()
    st.session_state.pop(_PLACES, None)
    st.session_state.pop(_RECEIVED, None)
    st.session_state.pop(PARAMETER, None)
    if PARAMETER in st.query_params:
        del st.query_params[PARAMETER]
