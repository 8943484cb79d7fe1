"""Add a suite, from a folder of checkpoints or from the Hugging Face hub; and look at every file of the chosen one."""

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from merging.core.errors import MergingError
from merging.core.text import in_a_row
from merging.runs.jobs.check import CheckedFile, CheckJob, CheckReport
from merging.suites.architecture import ACTIVATIONS
from merging.suites.folder import checkpoint_folders, look
from merging.suites.initialise import NO_ANSWERS, Answers, init_suite, propose
from merging.suites.trainings import several_of_one
from ui.look.columns import text_width
from ui.look.figure import escape_markdown, show_table
from ui.runs.file_jobs import ask_for, offer_conversion
from ui.runs.jobs import run_of, show_job
from ui.shell import state
from ui.shell.entry import through_app
from ui.shell.url import as_option, named_in_url
from ui.suites.hub_suites import PARAMETER, offer_download
from ui.suites.suite_report import class_folders_table, report_table, summary

through_app()

_BY_NAME = "found by its name"
_WRITTEN, _REFUSED = "_suite_written", "_suite_refused"


class Which(NamedTuple):
    """The tower to take of files with several, and task → checkpoint of a training that left several."""

    take: str | None
    checkpoints: tuple[tuple[str, str], ...]


def folders() -> dict[str, Path]:
    """Folders with checkpoints that belong to no suite yet, by what they are called on screen."""
    roots, used = state.suite_roots(), state.files_of_suites()
    found = [
        (root, folder)
        for root in roots
        for folder in checkpoint_folders(root)
        if not any(file.is_relative_to(folder.resolve()) for file in used)
    ]
    return {(Path(root.name) / folder.relative_to(root)).as_posix(): folder for root, folder in found}


def add() -> None:
    """Choose a folder and write its suite.yaml."""
    if not state.suite_roots():
        st.info(
            "The dashboard looks for folders below those named in the environment variable `MERGING_SUITES`, and it is "
            "not set. Start it with `MERGING_SUITES=/folder/with/checkpoints make app`.",
            icon=":material/folder_off:",
        )
        return
    choices = folders()
    if not choices:
        st.info(
            "There is no folder with checkpoints that has no suite.yaml yet. Put one below a folder of "
            "MERGING_SUITES, at most two levels down.",
            icon=":material/folder_off:",
        )
        return
    left, right = st.columns(2)
    chosen = choices[left.selectbox("Folder", list(choices), key="folder", help="Checkpoints without a suite.yaml")]
    weights = [path.as_posix() for path in look(chosen).weights]
    base = right.selectbox("Base model", [_BY_NAME, *weights], key="base", help="The one the others were tuned from")
    given = None if base == _BY_NAME else Path(base)
    which = of_several(chosen, given)
    refused, answers = refused_datasets(chosen, given, which), ask(chosen, given, which)
    st.button(
        "Write suite.yaml",
        type="primary",
        icon=":material/note_add:",
        on_click=_write,
        args=(chosen, given, which, refused, answers),
        help="Chooses the new suite too",
    )
    offer_conversion(chosen)


def of_several(folder: Path, base: Path | None) -> Which:
    """What is meant where a file holds several towers, or a training left several checkpoints."""
    trainings = several_of_one(folder, look(folder), base)
    with st.expander("Files and trainings with several models", icon=":material/stacks:", expanded=bool(trainings)):
        take = st.text_input(
            "Tower",
            key=f"take-{folder}",
            placeholder="Only where a file holds several",
            help="Such as ema: whole parts, between dots, of what its tensors' names have in front and no other "
            "tower's have. Writing suite.yaml names the towers where this is needed",
        )
        chosen = {
            task: st.selectbox(
                f"Checkpoint of {escape_markdown(task)}",
                names,
                index=None,
                key=f"checkpoint-{folder}-{task}",
                format_func=as_option,
                placeholder="What its training says",
                help="The training's folder holds several. Without a choice the finished model beside them is "
                "taken, or the one that trainer_state.json calls the best",
            )
            for task, names in trainings.items()
        }
    return Which(take.strip() or None, tuple((task, name) for task, name in chosen.items() if name is not None))


def refused_datasets(folder: Path, base: Path | None, which: Which) -> dict[str, None]:
    """Tasks that are called like a known data set and that the reader says are on others; the rest are taken for it."""
    recognised, _ = _looked(folder, base, which, _version(folder))
    if not recognised:
        return {}
    kept = st.pills(
        "Known data sets",
        list(recognised),
        selection_mode="multi",
        default=list(recognised),
        key=f"known-{folder}",
        format_func=lambda task: as_option(task if task == recognised[task] else f"{task}: {recognised[task]}"),
        wrap=True,
        help="Tasks that are called like a data set of the published suites take class names, templates and images "
        "from its description. Turn off those that are on other data",
    )
    return {task: None for task in recognised if task not in kept}


def ask(folder: Path, base: Path | None, which: Which) -> Answers:
    """What nothing in a folder says of its models, from whoever knows it; nothing is asked that files say."""
    _, unsaid = _looked(folder, base, which, _version(folder))
    if not unsaid:
        return NO_ANSWERS
    left, right = st.columns(2)
    activation, heads = None, None
    if "activation" in unsaid:
        activation = left.selectbox(
            "Activation",
            list(ACTIVATIONS),
            index=None,
            key=f"activation-{folder}",
            format_func=ACTIVATIONS.__getitem__,
            placeholder="No file says it",
            help="What the models were trained with: QuickGELU in OpenAI's, MetaCLIP's and DFN's, GELU in LAION's and "
            "DataComp's. The wrong one lowers every accuracy",
        )
    if "heads" in unsaid:
        heads = right.number_input(
            "Attention heads",
            min_value=1,
            value=None,
            step=1,
            key=f"heads-{folder}",
            placeholder="No file says it",
            help="As the models were trained; no published tower has their width and depth",
        )
    return Answers(activation, heads)


def _version(folder: Path) -> tuple[tuple[str, int], ...]:
    """Weights and settings in a folder, and when they were changed."""
    weights = [folder / path for path in look(folder).weights]
    files = [*weights, *(file for place in {path.parent for path in weights} for file in place.glob("*.json"))]
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files))


@st.cache_data(max_entries=16, show_spinner="Looking at the folder …")
def _looked(
    folder: Path, base: Path | None, which: Which, version: tuple[tuple[str, int], ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Task → known data set that it is called like, and what nothing says of the models.

    Nothing of both if the folder can't become a suite, which writing says.
    """
    try:
        found = propose(folder, base, checkpoints=dict(which.checkpoints), take=which.take)
    except MergingError:
        return {}, ()
    tasks = found.content["tasks"]
    return {task["name"]: task["dataset"] for task in tasks if "dataset" in task}, tuple(found.unsaid)


def _write(folder: Path, base: Path | None, which: Which, refused: dict[str, None], answers: Answers) -> None:
    """Callback: write a folder's suite.yaml and choose that suite, or keep the reason why not."""
    try:
        made = init_suite(
            folder, base, datasets=refused, checkpoints=dict(which.checkpoints), take=which.take, answers=answers
        )
    except MergingError as error:
        st.session_state[_REFUSED] = str(error)
        return
    reference = str(folder / "suite.yaml")
    state.choose(reference, [task["name"] for task in made.content["tasks"]])
    st.session_state[_WRITTEN] = (reference, made)


def written() -> None:
    """What came of the last button pressed: what was found, assumed and left out, or why nothing was written."""
    refused = st.session_state.pop(_REFUSED, None)
    if refused:
        st.error(escape_markdown(refused), icon=":material/error:")
    reference, made = st.session_state.get(_WRITTEN, (None, None))
    if made is None or reference != state.suite_reference():
        return
    tasks = [task["name"] for task in made.content["tasks"]]
    count = f"{len(tasks)} task" + ("s" if len(tasks) != 1 else "")
    base = made.content["base"]
    base = base if isinstance(base, str) else base["hub"]
    st.success(
        escape_markdown(f"suite.yaml is written: base {base}, {count} ({', '.join(tasks)})."),
        icon=":material/check:",
    )
    known = [f"{task['name']} on {task['dataset']}" for task in made.content["tasks"] if "dataset" in task]
    lines = [f"known data sets: {in_a_row(known)}"] if known else []
    lines += [f"{field}: {note}" for field, note in made.notes.items()]
    lines += [f"missing: {sentence}" for sentence in made.missing]
    lines += [f"left out: {file}: {reason}" for file, reason in made.left_out.items()]
    st.markdown("\n".join(f"- {escape_markdown(line)}" for line in lines))
    if made.left_out:
        offer_conversion(Path(reference).parent)


def _sentence(row: CheckedFile) -> str:
    whose = f" ({row.task})" if row.task else ""
    return f"{row.file}{whose}: {'; '.join(row.warnings) or row.detail}"


def check() -> None:
    """Look at every file of the chosen suite, when asked to, and show what was found."""
    st.subheader(f"Files of {escape_markdown(state.suite().label)}")
    deep = st.checkbox(
        "With the other activation too",
        key="check-deep",
        help="Measures each task's own model with QuickGELU and with GELU: the wrong one does worse",
    )
    job = CheckJob(suite=state.suite_reference(), measured_on=str(state.device()), deep=deep, seen=state.stamp())
    run = run_of(job)
    if run is None:
        st.button(
            "Check all files",
            icon=":material/fact_check:",
            on_click=ask_for,
            args=(job,),
            help="Reads every weight file and counts images; the worker does it",
        )
        st.caption(
            "Layout, type, size and fingerprint of each weight file, its difference from the base, and what is "
            "wrong or odd: equal to the base, listed twice, another architecture, NaN."
        )
    report = show_job(run, CheckReport, key="check")
    if report is None:
        return
    said, button = st.columns([0.8, 0.2], vertical_alignment="center")
    said.write(summary(report))
    if run is not None:
        button.button(
            "Check again",
            icon=":material/replay:",
            on_click=_check_again,
            args=(run.id, job),
            width="stretch",
            help="Reads every file anew, also those that look unchanged",
        )
    for status, box in (("error", st.error), ("warning", st.warning)):
        rows = [row for row in report.files if row.status == status]
        if rows:
            box("\n".join(f"- {escape_markdown(_sentence(row))}" for row in rows), icon=f":material/{status}:")
    table = report_table(report)
    show_table(
        table,
        key="suite-report",
        file=f"files-of-{state.suite().name}",
        placeholder="",
        column_config={
            "Status": st.column_config.TextColumn(width=62),
            "File": st.column_config.TextColumn(width=min(180, text_width(max(table["File"], key=len)))),
            "Task": st.column_config.TextColumn(width=min(110, text_width(max(table["Task"], key=len)))),
            "Detail": st.column_config.TextColumn(width=215),
            "MiB": st.column_config.NumberColumn(format="%.1f", width=60),
            "Norm of τ": st.column_config.NumberColumn(format="%.3g", width=76),
            "% of base": st.column_config.NumberColumn(format="%.2f", width=78, help="‖τ‖ / ‖θ₀‖"),
            "SHA-256": st.column_config.TextColumn(width=112, help="The first 12 digits of the file's"),
        },
    )
    folders = class_folders_table(report)
    if not folders.empty:
        st.markdown("**Which folder is which class**")
        show_table(folders, key="class-folders", file=f"class-folders-of-{state.suite().name}", placeholder="–")


def _check_again(done: str, job: CheckJob) -> None:
    """Callback: forget a report and queue the check once more."""
    state.workspace().store.delete(done)
    ask_for(job)


st.title("Add a suite")
TABS = ["Folder of checkpoints", "Hugging Face hub"]
with named_in_url("way", {title: title for title in TABS}):
    from_folder, from_hub = st.tabs(TABS, default=TABS[PARAMETER in st.query_params], key="way", bind="query-params")
with from_folder:
    st.write(
        "A folder of checkpoints becomes a suite by a file suite.yaml, which is written here by looking at the folder. "
        "Nothing else in it is changed, and a suite.yaml that is there is never replaced."
    )
    add()
    written()
with from_hub:
    offer_download()
check()
