"""Task models: what there is to merge, and the selection that all pages share."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from merging.charts.theme import shorten
from merging.core.errors import MergingError
from merging.evaluation.assumptions import assumptions
from merging.evaluation.clip import input_of
from merging.evaluation.sanity import Sanity
from merging.suites import Suite
from merging.suites.images.source import ClassOrigins
from merging.suites.images.suite_images import ClassCount, class_counts, sample_images
from merging.suites.images.thumbnails import picture
from ui.accuracy import measuring
from ui.accuracy import view as accuracy_view
from ui.look.figure import escape_markdown, offer_csv
from ui.runs import shipped
from ui.shell import state
from ui.shell.entry import through_app

through_app()

SHOWN = 64
MAX_STRIPS = 24


def model_table(suite: Suite, baselines: measuring.Baselines | None) -> pd.DataFrame:
    """One row a task that can be used."""
    norms = dict(zip(state.geometry().tasks, state.geometry().norms, strict=True))
    zero_shot = baselines.zero_shot.per_task if baselines else {}
    individual = baselines.individual.per_task if baselines else {}
    counts = baselines.zero_shot.counts if baselines else {}
    rows = []
    for name, label in accuracy_view.task_labels(state.usable_tasks()).items():
        rows.append(
            {
                "Task": label,
                "Name": name,
                "Norm of τ": norms[name],
                "Zero-shot": _percent(zero_shot.get(name)),
                "Fine-tuned": _percent(individual.get(name)),
                "Classes": len(suite.task(name).classes) or None,
                "Test images": counts.get(name),
                "Missing": ", ".join(measuring.missing_parts(name)),
            }
        )
    table = pd.DataFrame(rows)
    empty = {"Name": (table["Name"] == table["Task"]).all(), "Missing": not table["Missing"].any()}
    return table.drop(columns=[column for column, nothing_to_say in empty.items() if nothing_to_say])


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)  # as Python rounds, not the browser


def choose(table: pd.DataFrame) -> None:
    """The table with check boxes; what is checked there is what all pages work on."""
    names = state.usable_tasks()
    rows = [names.index(task) for task in state.checked_tasks()]
    st.session_state["task-table"] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.dataframe(  # type: ignore[call-overload]  # streamlit types a column only by its concrete class
        table,
        key="task-table",
        on_select=lambda: _take_over(names),
        selection_mode="multi-row",
        hide_index=True,
        width="stretch",
        height="content" if len(table) <= 24 else 600,
        row_height=38,
        placeholder="–",
        column_config={
            "Name": st.column_config.TextColumn(help="As it stands in suite.yaml, in the URL and on the command line"),
            "Norm of τ": st.column_config.NumberColumn(format="%.3f", width=80, help="How far fine-tuning moved"),
            "Zero-shot": _accuracy_column("Test accuracy of the base model, in percent"),
            "Fine-tuned": _accuracy_column("Test accuracy of this task's own model, in percent"),
            "Classes": st.column_config.NumberColumn(width=70),
            "Test images": st.column_config.NumberColumn(width=96),
            "Missing": st.column_config.TextColumn(help="Without these the task can be merged but not measured"),
        },
    )


def _accuracy_column(help: str) -> object:
    return st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100, help=help, width=130)


def _take_over(names: Sequence[str]) -> None:
    """Callback: the rows checked in the table become the selection."""
    state.set_selected_tasks([names[row] for row in st.session_state["task-table"]["selection"]["rows"]])


def buttons(table: pd.DataFrame) -> None:
    """All, none, how many, and the table as a file."""
    names = state.usable_tasks()
    checked = state.checked_tasks()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Select all",
            icon=":material/select_all:",
            on_click=state.set_selected_tasks,
            args=(names,),
            disabled=len(checked) == len(names),
        )
        st.button(
            "Select none",
            icon=":material/deselect:",
            on_click=state.set_selected_tasks,
            args=([],),
            disabled=not checked,
        )
        offer_csv(table, key="task-models", file="task-models")
        st.page_link(
            "pages/similarity.py",
            label=f"Compare {len(checked)} selected",
            icon=":material/grid_view:",
            disabled=len(checked) < 2,
            query_params=state.shared_query(),
        )


def not_usable() -> None:
    """The task models that can't be chosen, and why."""
    broken = state.broken_tasks()
    if not broken:
        return
    labels = accuracy_view.task_labels(tuple(broken))
    lines = [f"- {escape_markdown(f'{labels[task]}: {reason}')}" for task, reason in broken.items()]
    st.warning(
        "These models can't be used. Mend their files, or take the tasks out of suite.yaml; the others work without "
        "them.\n\n" + "\n".join(lines),
        icon=":material/error:",
    )


def samples(suite: Suite) -> None:
    """A strip of test images per checked task."""
    if not state.checked_tasks():
        st.info("Check tasks in the table to see their images, compare their task vectors and merge them.")
        return
    st.header("What the tasks look like")
    with_images = [task for task in state.checked_tasks() if "images" not in measuring.missing_parts(task)]
    without = len(state.checked_tasks()) - len(with_images)
    if without:
        st.info(
            f"{without} of the selected tasks have no images in this suite. Similarity and merging work without them; "
            "for pictures and accuracy add `data` to these tasks in suite.yaml.",
            icon=":material/image_not_supported:",
        )
    for task in with_images[:MAX_STRIPS]:
        strip(suite, task)
    if with_images:
        classes(with_images[:MAX_STRIPS])
    if len(with_images) > MAX_STRIPS:
        st.caption(f"Shown for the first {MAX_STRIPS} of {len(with_images)} selected tasks.")


def strip(suite: Suite, name: str) -> None:
    """Title, description and one image of each class."""
    task = suite.task(name)
    with st.container(border=True, gap="small"):
        about = f" · {escape_markdown(task.description)}" if task.description else ""
        st.markdown(f"**{escape_markdown(task.label)}**{about}")
        origin = " · ".join(part for part in (task.source, task.licence) if part)
        if origin:
            st.caption(escape_markdown(origin))
        try:
            found = thumbnails(state.suite_reference(), state.stamp(), name)
        except MergingError as error:
            st.caption(escape_markdown(str(error)))
            return
        with st.container(horizontal=True, gap="xsmall"):
            for class_name, image in found:
                with st.container(width=SHOWN + 12, gap="xxsmall"):
                    st.image(image, width=SHOWN, alt=f"{task.label}: {class_name}")
                    st.caption(escape_markdown(shorten(class_name, 20)))


def classes(tasks: Sequence[str]) -> None:
    """Which folder or label is which class of these tasks, with its test images, and what is left out."""
    rows, said = [], []
    labels = accuracy_view.task_labels(tasks)
    for task in tasks:
        try:
            origin, found = class_counts_of(state.suite_reference(), state.stamp(), task)
        except MergingError as error:
            said.append(f"{labels[task]}: {error}")
            continue
        rows += [_class_row(labels[task], one) for one in found]
        how = [f"{len(found)} folders, {origin.how}"] if origin.folders else []
        sentences = [*how, *origin.said, *origin.odd]
        if sentences:
            said.append(f"{labels[task]}: {'. '.join(map(_capital, sentences))}.")
    with st.expander("Which folder or label is which class", icon=":material/folder_open:"):
        st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch")
        st.caption("\n".join(f"- {escape_markdown(sentence)}" for sentence in said))


def _class_row(task: str, one: ClassCount) -> dict[str, str | int]:
    folder = str(one.label) if one.folder is None else one.folder
    return {"Task": task, "Folder or label": folder, "Class": one.name, "Test images": one.images}


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


@st.cache_data(max_entries=256, show_spinner=False)
def class_counts_of(reference: str, version: state.Stamp, name: str) -> tuple[ClassOrigins, list[ClassCount]]:
    """Of a task's test images."""
    return class_counts(state.suite(), name, "test")


def doubtful(measured: measuring.Baselines) -> None:
    """The tasks whose own model is hardly right on them, which shows classes in the wrong order and the like."""
    evaluator, lines = measuring.evaluator(), []
    labels = accuracy_view.task_labels(tuple(measured.individual.per_task))
    for task, right in measured.individual.per_task.items():
        found = Sanity(right, measured.individual.counts[task], len(evaluator.head(task)))
        if found.warning:
            lines.append(f"- {escape_markdown(f'{labels[task]}: {found.text}. {_capital(found.warning)}.')}")
    if lines:
        st.warning("Something is likely wrong with these tasks.\n\n" + "\n".join(lines), icon=":material/warning:")


@st.cache_data(max_entries=256, show_spinner=False)
def thumbnails(reference: str, version: state.Stamp, name: str) -> list[tuple[str, str]]:
    """Class names and pictures."""
    suite = state.suite()
    samples = sample_images(suite, name, input_of(suite).size, limit=10)
    return [(class_name, picture(pixels)) for class_name, pixels in samples]


def missing_accuracy() -> None:
    """Why there are no accuracies, and what to do."""
    if not measuring.measurable_tasks():
        st.info(
            "Accuracies can't be shown: no task of this suite has weights, images and a head. Add `data` and `head` "
            "(or `classes` and a `text_tower`) to its suite.yaml.",
            icon=":material/info:",
        )
    else:
        accuracy_view.offer_baselines(measuring.measurable_tasks())


def say_what_is_taken() -> None:
    """The activation, the heads and the images wanted, with who says so; or what contradicts what."""
    try:
        found = assumptions(state.suite())
    except MergingError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return
    st.caption(escape_markdown(f"What no tensor shows: {found.text}."))
    for warning in found.warnings:
        st.warning(escape_markdown(warning), icon=":material/warning:")


st.title("Task models")
current = state.suite()
st.write(
    f"Models fine-tuned from one base, {escape_markdown(current.architecture_label)}. "
    "Those checked here are compared and merged on all pages."
)
if not state.usable_tasks():
    state.selected_tasks()  # raises, and says which files are missing or broken
state.geometry()  # before anything is measured with it: a broken base is named here
measured = measuring.baseline_accuracy()
listed = model_table(current, measured)
buttons(listed)
choose(listed)
say_what_is_taken()
not_usable()
if measured is None:
    missing_accuracy()
else:
    shipped.say([measuring.shipped_baselines("test")], "task-models")
    doubtful(measured)
samples(current)
