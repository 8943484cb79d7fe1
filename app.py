"""Entry point of the dashboard: ``streamlit run app.py``. Navigation, and the sidebar shared by all pages."""

from pathlib import Path

import streamlit as st

from merging.errors import MergingError
from ui import state
from ui.figure import escape_markdown
from ui.url_choice import not_found, warn

PAGES = [
    st.Page("pages/start.py", title="Start", icon=":material/home:", default=True),
    st.Page("pages/task_models.py", title="Task models", icon=":material/view_list:"),
    st.Page("pages/similarity.py", title="Similarity", icon=":material/grid_view:"),
    st.Page("pages/merge.py", title="Merge", icon=":material/merge:"),
    st.Page("pages/what_if.py", title="What if", icon=":material/tune:"),
    st.Page("pages/accuracy.py", title="Accuracy", icon=":material/bar_chart:"),
    st.Page("pages/leaderboard.py", title="Leaderboard", icon=":material/leaderboard:"),
    st.Page("pages/runs.py", title="Runs", icon=":material/history:"),
    st.Page("pages/add_suite.py", title="Add a suite", icon=":material/create_new_folder:"),
]


def sidebar() -> list[str]:
    """Suite, tasks, device and queue; gives sentences on what the URL asks for in vain."""
    entries = state.catalogue()
    if not entries:
        return []
    in_vain = []
    unknown = not_found("suite", entries)
    st.selectbox(
        "Suite", list(entries), key="suite", bind="query-params",
        help="A base model and the models fine-tuned from it, described by a suite.yaml",
    )  # fmt: skip
    suite = state.suite()
    st.caption(escape_markdown(f"{suite.label} · {suite.architecture_label}"))
    if unknown:
        in_vain.append(f"There is no suite {', '.join(unknown)} here. {suite.label} is shown instead.")
    mergeable = suite.mergeable()
    if mergeable:
        with st.expander("Tasks", icon=":material/checklist:"):
            missing = state.choose_tasks()
        selected = state.checked_tasks()
        st.caption(f"{len(selected)} of {len(mergeable)} tasks selected")
        if missing:
            rest = "All tasks are selected instead." if selected == mergeable else "Only the others are selected."
            in_vain.append(f"{suite.label} has no task {', '.join(missing)} with weights. {rest}")
    state.device_badge()
    queue_badge()
    return in_vain


def queue_badge() -> None:
    """How many runs are going on or wait; looks again by itself while there are any."""
    st.fragment(_queue_badge, run_every=3 if state.workspace().store.active() else None)()


def _queue_badge() -> None:
    active = state.workspace().store.active()
    running = sum(run.state == "running" for run in active)
    if not active:
        st.badge("no active runs", icon=":material/check:", color="gray")
        return
    text = f"{running} running" + (f", {len(active) - running} queued" if len(active) > running else "")
    st.badge(text, icon=":material/progress_activity:", color="blue", help="The page Runs shows them")


def no_suite() -> None:
    """What to do when there is nothing to merge yet."""
    st.title("No suite yet")
    st.write("A suite is a base model with the models fine-tuned from it. Build the embedded one, or name your own:")
    st.code(
        "python -m merging.suites.mini.build            # trains the embedded suite\n"
        "MERGING_SUITES=/folder/with/suites make app    # finds suite.yaml up to two folders below it",
        language=None,
    )


# Local files: a material icon or an emoji as page icon would be fetched from the internet.
IMAGES = Path(__file__).parent / "ui" / "images"
st.set_page_config(
    page_title="Model merging", page_icon=str(IMAGES / "icon.svg"), layout="wide", initial_sidebar_state="expanded"
)
st.html(IMAGES.parent / "style.css")
st.logo(str(IMAGES / "logo.svg"), size="large", icon_image=str(IMAGES / "icon.svg"))
page = st.navigation(PAGES)
# The one place where errors raised on purpose become text on screen: never a traceback for bad input.
try:
    with st.sidebar:
        in_vain = sidebar()
    for sentence in in_vain:
        warn(sentence)
    if state.catalogue():
        page.run()
    else:
        no_suite()
except state.NoTaskSelected as error:
    st.info(escape_markdown(str(error)), icon=":material/checklist:")
    st.page_link("pages/task_models.py", label="Choose task models", icon=":material/view_list:")
except MergingError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
