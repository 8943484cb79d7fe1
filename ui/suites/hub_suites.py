"""Suites of the Hugging Face hub on a page: which there are, what of them is here, and getting the rest."""

import streamlit as st

from merging.hub.cache import is_hub_id
from merging.runs.jobs.download import DownloadJob, DownloadReport, Missing, estimated_bytes, missing_parts
from merging.suites import Suite
from ui.look.figure import escape_markdown
from ui.runs.file_jobs import ask_for
from ui.runs.jobs import run_of, show_job
from ui.shell import state
from ui.shell.url import choice

PARAMETER = "published"  # of the URL: the label of the suite to get
_OTHER = "another repository"


def way_to(suite: Suite) -> None:
    """A link that opens the page Add a suite where this suite can be downloaded."""
    st.page_link(
        "pages/add_suite.py",
        label=f"Get {escape_markdown(suite.label)} on Add a suite",
        icon=":material/download:",
        query_params={PARAMETER: suite.label},
    )


def offer_download() -> None:
    """Choose a suite of published checkpoints or a repository, and download what is missing of it."""
    published = state.published_suites()
    left, right = st.columns(2)
    labels = {name: suite.label for name, suite in published.items()} | {_OTHER: _OTHER.capitalize()}
    name = choice(
        left.selectbox,
        "Published checkpoints",
        labels,
        key=PARAMETER,
        help="The models that papers on merging report on. None of them is downloaded before you ask for it",
    )
    if name == _OTHER:
        _other_repository(
            right.text_input(
                "Repository",
                key="repository",
                placeholder="owner/name",
                help="A model repository of the hub that holds a suite.yaml",
            )
        )
        return
    suite = published[name]
    together = suite.choices()
    usual = "All of them" if suite.usual is None else f"The {len(suite.usual_tasks)} usual ones"
    options = [*together, *suite.task_names]
    named = right.multiselect("Tasks to get", options, key="download-tasks", placeholder=usual)
    wanted = {task for name in named for task in together.get(name, (name,))}
    chosen = tuple(task for task in suite.task_names if task in wanted) or suite.usual_tasks
    images = st.checkbox("Images too", key="download-images", help="Of SUN397 alone they are more than ten gigabytes")
    missing = missing_parts(suite, chosen, images)
    _say_what_is_missing(name, suite, missing)
    _download(DownloadJob(suite=name, tasks=chosen, data=images), wanted=any(part.on_hub for part in missing))


def _other_repository(hub: str) -> None:
    hub = hub.strip()
    if not hub:
        st.caption("Its suite.yaml is fetched, and then what that names.")
    elif not is_hub_id(hub):
        st.error("Expected the id of a repository, such as owner/name", icon=":material/error:")
    else:
        _download(DownloadJob(suite=hub, data=st.checkbox("Images too", key="download-images")), wanted=True)


def _say_what_is_missing(name: str, suite: Suite, missing: list[Missing]) -> None:
    """What is not here: in numbers, with all places where somebody without a network can put things."""
    by_hand = [part for part in missing if not part.on_hub]
    on_hub = [part for part in missing if part.on_hub]
    if not missing:
        st.success("All of this is here.", icon=":material/check:")
        st.button(
            "Choose this suite", icon=":material/arrow_forward:", on_click=state.choose, args=(name, suite.mergeable())
        )
        return
    if by_hand:
        st.info(
            escape_markdown(
                f"Not on the hub: {counted(by_hand)}. The authors published pickled models in a folder on Google "
                f"Drive. The suite.yaml of {suite.name} says how to get and convert them."
            ),
            icon=":material/folder_open:",
        )
    if on_hub:
        size = _estimated(suite, name, tuple(part.what for part in on_hub), on_hub)
        about = f", about {in_bytes(size)} of weights" if size else ""
        st.caption(f"Missing here and on the hub: {counted(on_hub)}{about}.")
    with st.expander("Where the files belong, for a machine without a network", icon=":material/list:"):
        st.code("\n".join(part.place for part in missing), language=None)
        st.caption(
            "Below the Hugging Face hub's cache (`~/.cache/huggingface/hub`, moved by `HF_HOME`), or beside the "
            "suite's suite.yaml."
        )


@st.cache_data(max_entries=32, show_spinner=False)
def _estimated(_suite: Suite, name: str, what: tuple[str, ...], _missing: list[Missing]) -> int:
    """Bytes of what is missing of a published suite. Counting weights builds the model, though without memory."""
    return estimated_bytes(_suite, _missing)


def in_bytes(size: int) -> str:
    """A size for people, in the units of downloads.

    >>> in_bytes(3_410_000_000), in_bytes(351_000_000)
    ('3.4 GB', '351 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def counted(parts: list[Missing]) -> str:
    """How many models and how many data sets.

    >>> counted([Missing("a/b", "models--a--b", True), Missing("images c/d", "datasets--c--d", True)])
    '1 file of weights and the images of 1 data set'
    """
    images = sum(part.what.startswith("images ") for part in parts)
    weights = len(parts) - images
    words = [f"{weights} file{'' if weights == 1 else 's'} of weights"] if weights else []
    words += [f"the images of {images} data set{'' if images == 1 else 's'}"] if images else []
    return " and ".join(words)


def _download(job: DownloadJob, wanted: bool) -> None:
    """A button that queues the download, if there is anything to get, and how far it is."""
    run = run_of(job)
    if wanted and (run is None or run.state == "done"):
        st.button(
            "Download",
            type="primary",
            icon=":material/download:",
            on_click=ask_for,
            args=(job,),
            help="By the worker. Every file is compared with its checksum; what breaks off goes on where it stopped",
        )
    result = show_job(run, DownloadReport, key="download")
    if result is not None and result.files:
        what, were = ("1 file", "was") if len(result.files) == 1 else (f"{len(result.files)} files", "were")
        st.caption(escape_markdown(f"{what} of {result.suite} {were} downloaded, {result.bytes / 1e6:.1f} MB."))
