"""Models that are not dropped but named: by a path on this machine, or by their id on the Hugging Face hub."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from merging.core.places import path_of
from merging.hub.cache import HubFile, id_in_address, is_hub_id, located
from merging.runs.jobs.download import DownloadReport
from merging.runs.jobs.download_models import DownloadModelsJob
from merging.suites.incoming.arrival import Received
from merging.suites.incoming.staging import Staging
from merging.weights.files.folders import is_complete
from ui.look.figure import escape_markdown
from ui.runs.file_jobs import ask_for
from ui.runs.jobs import run_of, show_job
from ui.suites.permission import sits_here

Take = Callable[[Callable[[Staging], Received]], None]


def ask_for_names(take: Take) -> None:
    """A field for a path or an id, and what can be done with what stands in it.

    Args:
        take: a callback that takes something in.
    """
    here = sits_here()
    text = st.text_input(
        "Or a file or folder of this machine, or a model of the hub" if here else "Or a model of the hub",
        key="named-model",
        placeholder="/models/cars, or owner/name" if here else "owner/name",
        help="Files of this machine are linked to, not copied, and nothing is written where they lie. Of the hub's, "
        "nothing is downloaded before you ask for it",
    ).strip()
    if not text:
        return
    hub = id_in_address(text) or (text if is_hub_id(text) else "")
    path = path_of(text)
    if here and (not hub or path.exists()):
        st.button("Take it in", key="take-path", icon=":material/link:", on_click=take, args=(_linking(path, ""),))
    elif hub:
        _of_hub(hub, take)
    else:
        st.error("Expected the id of a model on the hub, such as owner/name", icon=":material/error:")


def _of_hub(hub: str, take: Take) -> None:
    file = located(HubFile(hub=hub))
    if is_complete(file):
        linking = _linking(file, hub.split("/")[1])
        st.button("Take it in", key="take-hub", icon=":material/link:", on_click=take, args=(linking,))
        return
    job = DownloadModelsJob(hubs=(hub,))
    run = run_of(job)
    if run is None or run.state == "done":
        st.button(
            f"Download {escape_markdown(hub)}",
            icon=":material/download:",
            on_click=ask_for,
            args=(job,),
            key="download-model",
            help="Its weights and what belongs to them, by the worker; every file is compared with its checksum",
        )
    if run is not None and run.state != "done":
        show_job(run, DownloadReport, key="download-named")


def _linking(path: Path, name: str) -> Callable[[Staging], Received]:
    return lambda staging: staging.link(path, name)
