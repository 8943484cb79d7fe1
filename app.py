"""Entry point of the dashboard: ``streamlit run app.py``. Navigation, and the sidebar shared by all pages."""

from collections.abc import Sequence
from pathlib import Path

from ui.shell import serve

serve.wait_until_loaded()  # before anything else is imported

# ruff: noqa: E402
import streamlit as st

from merging.core.errors import MergingError
from merging.methods import own
from merging.runs.worker.serve import elsewhere
from merging.suites import Suite
from ui.beyond import corrupted_view, many_view, unseen_view
from ui.beyond.measuring import METHODS
from ui.history import finding
from ui.history.details import TAB
from ui.lesson import phones, prepare, steps
from ui.look.figure import escape_markdown
from ui.look.theme_watch import watch_theme
from ui.merge import form as merge_form
from ui.merge import sweep_form
from ui.runs.choice import RUN_PARAMETERS
from ui.runs.panel import ensure_worker
from ui.shell import session, state, ticks
from ui.shell.url import drop_unknown, not_found, said_before, unknown_page, warn
from ui.similarity import awd
from ui.suites import hub_suites, own_files, uploads
from ui.what_if import coefficients_view, interference_view, landscape_view, scaling_view

# Section of the sidebar → its pages, in the order in which they stand there. A page's URL is the name of its file.
PAGES = {
    "": [
        st.Page("pages/start.py", title="Start", icon=":material/home:", default=True),
        st.Page("pages/learn.py", title="Learn", icon=":material/school:"),
    ],
    "Explore": [
        st.Page("pages/task_models.py", title="Task models", icon=":material/view_list:"),
        st.Page("pages/similarity.py", title="Similarity", icon=":material/grid_view:"),
        st.Page("pages/what_if.py", title="What if", icon=":material/tune:"),
    ],
    "Merge": [
        st.Page("pages/merge.py", title="Merge", icon=":material/merge:"),
        st.Page("pages/sweeps.py", title="Sweeps", icon=":material/travel_explore:"),
    ],
    "Results": [
        st.Page("pages/accuracy.py", title="Accuracy", icon=":material/bar_chart:"),
        st.Page("pages/leaderboard.py", title="Leaderboard", icon=":material/leaderboard:"),
        st.Page("pages/beyond.py", title="Beyond the benchmark", icon=":material/explore:"),
        st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/history:"),
    ],
    "Suites": [
        st.Page("pages/add_suite.py", title="Add a suite", icon=":material/create_new_folder:"),
    ],
}
_ACCURACY = ("baselines", "scale", "view")
# What a page's URL can hold besides suite and tasks.
PARAMETERS = {
    "Learn": (*steps.PARAMETERS, phones.PARAMETER),
    "Similarity": (*awd.PARAMETERS, "level", "block", "layer", "zoom"),
    "Merge": (*merge_form.PARAMETERS, "run", merge_form.VARIED),
    "What if": (
        "what",
        "what-split",
        *coefficients_view.PARAMETERS,
        *interference_view.PARAMETERS,
        *scaling_view.PARAMETERS,
        *landscape_view.PARAMETERS,
    ),
    "Accuracy": (*RUN_PARAMETERS, *_ACCURACY),
    "Leaderboard": ("data", "checkpoints"),
    "Beyond the benchmark": (
        *("beyond", METHODS),
        *(*unseen_view.PARAMETERS, *corrupted_view.PARAMETERS, *many_view.PARAMETERS),
    ),
    "Sweeps": sweep_form.PARAMETERS,
    "Runs": (*RUN_PARAMETERS, "trials", *finding.PARAMETERS),
    "Compare": (*RUN_PARAMETERS, "task", "other"),
    "Add a suite": (hub_suites.PARAMETER, "way", own_files.PARAMETER),
}
PREFIXES = {
    "Learn": steps.PREFIXES,
    "Merge": merge_form.PREFIXES,
    "What if": (*coefficients_view.PREFIXES, *interference_view.PREFIXES),
    "Sweeps": sweep_form.PREFIXES,
    "Leaderboard": ("architecture.", "checkpoints."),
    "Runs": (TAB,),
}
# Names and beginnings of names of settings that stay while other pages are looked at.
KEPT = {
    "What if": (PARAMETERS["What if"], PREFIXES["What if"]),
    "Similarity": (awd.PARAMETERS, ()),
    "Accuracy": (_ACCURACY, ()),
    "Beyond the benchmark": (PARAMETERS["Beyond the benchmark"], ()),
    "Runs": (finding.PARAMETERS, ()),
}

_DRAWN = "page-drawn"  # session state


def unknown_parameters(page: str) -> list[str]:
    """Sentences on what the URL holds that a page does not know; it is taken out of the URL."""
    known = ("suite", "tasks", *PARAMETERS.get(page, ()))
    return drop_unknown(page, known, PREFIXES.get(page, ()))


def sidebar() -> list[str]:
    """Suite, tasks, device and queue; gives sentences on what the URL asks for in vain."""
    entries = state.suite_entries()
    if not entries:
        return []
    in_vain = []
    unknown = not_found("suite", entries)
    st.selectbox(
        "Suite",
        list(entries),
        key="suite",
        bind="query-params",
        help="A base model and the models fine-tuned from it, described by a suite.yaml",
    )
    suite = state.suite()
    st.caption(escape_markdown(f"{suite.label} · {suite.architecture_label}"))
    to_get = state.published_suites()
    for name in unknown:
        why = f"{to_get[name].label} is not here yet" if name in to_get else f"There is no suite {name} here"
        in_vain.append(f"{why}. {suite.label} is shown instead.")
    usable = state.usable_tasks()
    if usable:
        with st.expander("Tasks", icon=":material/checklist:"):
            missing = state.choose_tasks()
        selected = state.checked_tasks()
        st.caption(f"{len(selected)} of {len(usable)} tasks selected")
        in_vain += not_selectable(
            missing, "All tasks are selected instead." if selected == usable else "Only the others are selected."
        )
    broken_models()
    broken_methods()
    shared_folder()
    state.device_badge()
    queue_badge()
    return in_vain


def keep_choices(page: str) -> None:
    """Let suite and tasks live on when another page is opened.

    Streamlit tells a browser what the widgets of the sidebar hold only where a run assigned it. Whoever opens another
    page before theirs has been drawn has a browser that knows no values yet: it would show the first suite, and answer
    with it. Until a page was drawn to its end once, nobody knows what the browser knows.
    """
    if st.session_state.get(_DRAWN) != page:
        keys = [key for key in ("suite", "tasks") if key in st.session_state and key not in st.query_params]
        st.session_state.update({key: st.session_state[key] for key in keys})


def keep_settings(page: str) -> None:
    """Let what was set on pages whose settings stand in the URL live on while another page is shown.

    Streamlit forgets widgets that a run did not draw, unless their values were assigned in it.
    """
    known = [str(key) for key in st.session_state]
    for title, (names, beginnings) in KEPT.items():
        keys = [key for key in known if key in names or key.startswith(beginnings or ("\0",))]
        if title != page:
            st.session_state.update({key: st.session_state[key] for key in keys})


def not_downloaded() -> list[Suite]:
    """The suites of published checkpoints that the URL asks for and of which no model is here."""
    published = state.published_suites()
    return [published[name] for name in not_found("suite", state.suite_entries()) if name in published]


def not_selectable(missing: Sequence[str], instead: str) -> list[str]:
    """Why tasks that were asked for are not selected, and what is instead."""
    broken = state.broken_tasks()
    sentences = [f"{task} can't be used: {broken[task]}. {instead}" for task in missing if task in broken]
    unknown = ", ".join(task for task in missing if task not in broken)
    if unknown:
        sentences.append(f"{state.suite().label} has no task {unknown} with weights. {instead}")
    return sentences


def broken_models() -> None:
    """The task models that can't be used, and why."""
    broken = state.broken_tasks()
    if broken:
        title = "1 broken model" if len(broken) == 1 else f"{len(broken)} broken models"
        with st.expander(title, icon=":material/error:"):
            for reason in broken.values():
                st.caption(escape_markdown(reason))


def broken_methods() -> None:
    """The files of methods of one's own that can't be used, and why."""
    for problem in own.problems():
        st.warning(escape_markdown(str(problem)), icon=":material/code_off:")


def shared_folder() -> None:
    """That the folder for runs is one that several machines reach, and what that means."""
    note = state.workspace().store.journal.note
    if note:
        with st.expander("Runs on a shared folder", icon=":material/lan:"):
            st.caption(escape_markdown(note))


def queue_badge() -> None:
    """How many runs are going on or wait; looks again by itself while there are any."""
    st.fragment(_queue_badge, run_every=3 if state.workspace().store.active() else None)()


def _queue_badge() -> None:
    active = state.workspace().store.active()
    running = sum(run.state == "running" for run in active)
    if running < len(active):
        ensure_worker()  # that of who asked may have been killed, with the server or alone
    if not active:
        st.badge("no active runs", icon=":material/check:", color="gray")
        return
    text = f"{running} running" + (f", {len(active) - running} queued" if len(active) > running else "")
    st.badge(text, icon=":material/progress_activity:", color="blue", help="The page Runs shows them")
    machine = elsewhere(state.workspace().home)
    if machine:
        st.caption(escape_markdown(f"Carried out by the worker of machine {machine}."))


def no_suite() -> None:
    """What to do when there is nothing to merge yet."""
    st.title("No suite yet")
    st.write("A suite is a base model with the models fine-tuned from it. Build the embedded one, or name your own:")
    st.code(
        "python -m studies.mini_suite.build            # trains the embedded suite\n"
        "MERGING_SUITES=/folder/with/suites make app    # finds suite.yaml up to two folders below it",
        language=None,
    )


ticks.say_nothing()
# Local files: a material icon or an emoji as page icon would be fetched from the internet.
IMAGES = Path(__file__).parent / "ui" / "look" / "images"
st.set_page_config(page_title="Model merging", page_icon=str(IMAGES / "icon.svg"), layout="wide")
no_page = unknown_page([one.url_path for section in PAGES.values() for one in section])
page = st.navigation(PAGES, expanded=True)  # after the page's icon is set, else it would set its own
st.set_page_config(initial_sidebar_state="collapsed" if page.title == "Learn" else "auto")  # a class needs the room
st.html(IMAGES.parent / "style.css")
watch_theme()
st.logo(str(IMAGES / "logo.svg"), size="large", icon_image=str(IMAGES / "icon.svg"))
# The one place where errors raised on purpose become text on screen: never a traceback for bad input.
try:
    refused = session.arrive()
    with state.workspace().store.kept_open():
        uploads.bound()
        state.look_again()
        not_here = not_downloaded()
        # Said in the page itself, which is empty until then: reading large models for the first time takes long.
        keep_choices(page.title)
        if page.title == "Learn":
            prepare.take_up()
        with st.spinner("Opening the suite …"), st.sidebar:
            in_vain = [refused] if refused else []
            if no_page.casefold() not in ("", page.title.casefold()):  # that page itself has no name in the URL
                in_vain.append(f"There is no page {no_page}. {page.title} is shown.")
            in_vain += sidebar()
            session.say_who()
        for sentence in [*said_before(), *in_vain, *unknown_parameters(page.title)]:
            warn(sentence)
        for missing in not_here:
            hub_suites.way_to(missing)
        keep_settings(page.title)
        if state.suite_entries():
            page.run()
        else:
            no_suite()
        st.session_state[_DRAWN] = page.title
except session.NotLoggedIn as error:
    st.title("Model merging")
    session.log_in_or_out(str(error))
except state.NoTaskSelected as error:
    st.info(escape_markdown(str(error)), icon=":material/checklist:")
    st.page_link("pages/task_models.py", label="Choose task models", icon=":material/view_list:")
except MergingError as error:
    st.error(escape_markdown(str(error)), icon=":material/error:")
