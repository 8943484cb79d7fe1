"""What the files of a folder are taken for, before anything is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from merging.core.errors import MergingError
from merging.core.text import counted, shortened
from merging.suites.initialise import Proposal
from merging.suites.known_datasets import known_datasets
from merging.weights.files import open_checkpoint
from ui.look.figure import escape_markdown, show_table
from ui.suites.words import on_page

_KINDS = {"arrays": "arrays", "imagefolder": "class folders", "huggingface": "parquet files"}


def preview(made: Proposal | None, problem: str, folder: Path, key: str) -> None:
    """Base, tasks with classes and images, architecture, and what is wrong or missing.

    Args:
        made: what was understood.
        problem: why nothing was, if so.
        folder: with the files.
        key: unique on the page.
    """
    st.markdown("**What was understood**")
    if made is None:
        st.error(escape_markdown(on_page(problem)), icon=":material/error:")
        return
    base = made.content["base"]
    said = [f"base: {base if isinstance(base, str) else base['hub']}"]
    said += [f"{field}: {note}" for field, note in made.notes.items()]
    show_table(task_table(made, folder), key=f"{key}-tasks", file="tasks", placeholder="–")
    st.markdown("\n".join(f"- {escape_markdown(on_page(line))}" for line in said))
    st.info(escape_markdown(possible(made)), icon=":material/rule:")
    odd = [*made.missing, *(f"left out: {file}: {_reason(file, why)}" for file, why in made.left_out.items())]
    if odd:
        st.warning("\n".join(f"- {escape_markdown(line)}" for line in odd), icon=":material/warning:")
    for question in made.unsaid.values():
        st.error(escape_markdown(f"Asked for: {on_page(question)}"), icon=":material/help:")


def task_table(made: Proposal, folder: Path) -> pd.DataFrame:
    """A row a task: its model, classes, images and head."""
    return pd.DataFrame([_row(task, folder) for task in made.content["tasks"]])


def possible(made: Proposal) -> str:
    """What can be done with such a suite.

    >>> from merging.suites.initialise import Proposal
    >>> possible(Proposal({"tasks": [{"name": "cars", "checkpoint": "cars.pt"}]}, {}, (), {}, {}))
    '1 task: similarity and merging. Accuracy for none: that needs images, and a head or class names.'
    """
    tasks = made.content["tasks"]
    measurable = [task["name"] for task in tasks if _is_measurable(task, "text_tower" in made.content)]
    count = counted(len(tasks), "task")
    if len(measurable) == len(tasks):
        return f"{count}: similarity, merging and accuracy, once the images are here."
    if not measurable:
        return f"{count}: similarity and merging. Accuracy for none: that needs images, and a head or class names."
    return f"{count}: similarity and merging; accuracy for {shortened(measurable)}. The others lack images, or a head."


def _is_measurable(task: Mapping[str, Any], has_text: bool) -> bool:
    has_images = "data" in task or "dataset" in task
    return has_images and ("head" in task or (has_text and bool({"classes", "dataset"} & task.keys())))


def _row(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    dataset = task.get("dataset")
    classes = task.get("classes") or (known_datasets()[dataset]["classes"] if dataset else [])
    images = _KINDS[task["data"]["kind"]] if "data" in task else f"of {dataset}, on the hub" if dataset else None
    return {
        "Task": task["name"],
        "Model": task["checkpoint"],
        "Classes": len(classes) or _rows(task, folder),
        "Names": shortened([str(name) for name in classes], 3) if classes else None,
        "Images": images,
        "Head": task.get("head"),
        "Data set": dataset,
    }


def _rows(task: Mapping[str, Any], folder: Path) -> int | None:
    """How many classes a task's head has, if there is one that can be read."""
    if "head" not in task:
        return None
    try:
        return open_checkpoint(folder / task["head"], part="all").infos["weight"].shape[0]
    except (MergingError, LookupError):
        return None


def _reason(file: str, why: str) -> str:
    """A reason without the file's name in front, which stands there already."""
    return why.removeprefix(f"{file}: ").removeprefix(f"{file.split('/')[-1]}: ")
