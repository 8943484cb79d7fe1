"""What is asked of whoever adds a suite, since no file says it, and what was understood of all files so far."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import streamlit as st

from merging.core.errors import MergingError
from merging.suites.architecture import ACTIVATIONS
from merging.suites.folder import look
from merging.suites.initialise import NO_ANSWERS, Answers, Proposal, propose
from merging.suites.trainings import several_of_one
from ui.look.figure import escape_markdown
from ui.shell.url import as_option


@dataclass(frozen=True)
class Wishes:
    """What somebody said of a folder, as :func:`merging.suites.initialise.propose` takes it.

    Attributes:
        base: the pre-trained weights; found by their name if not given.
        take: the tower to take of files with several.
        checkpoints: task → checkpoint of a training that left several.
        datasets: tasks that are called like a known data set and are on others.
        answers: what no file says.
    """

    base: Path | None = None
    take: str | None = None
    checkpoints: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, None] = field(default_factory=dict)
    answers: Answers = NO_ANSWERS


def ask(folder: Path, base: Path | None, key: str, known: Answers = NO_ANSWERS) -> Wishes:
    """Ask what nothing in a folder says; nothing is asked that files say.

    Args:
        folder: with the files.
        base: the pre-trained weights, if they were named.
        key: what the fields are called after.
        known: answers that need not be asked for.
    """
    wishes = of_several(folder, Wishes(base, answers=known), key)
    wishes = replace(wishes, datasets=refused_datasets(folder, wishes, key))
    return replace(wishes, answers=_answers(folder, wishes, key))


def understood(folder: Path, wishes: Wishes) -> tuple[Proposal | None, str]:
    """What the files of a folder are taken for; or nothing, and why."""
    return _understood(folder, wishes, _version(folder))


def of_several(folder: Path, wishes: Wishes, key: str) -> Wishes:
    """What is meant where a file holds several towers, or a training left several checkpoints."""
    trainings = several_of_one(folder, look(folder), wishes.base)
    with st.expander("Files and trainings with several models", icon=":material/stacks:", expanded=bool(trainings)):
        take = st.text_input(
            "Tower",
            key=f"take-{key}",
            placeholder="Only where a file holds several",
            help="Such as ema: whole parts, between dots, of what its tensors' names have in front and no other "
            "tower's have. Writing suite.yaml names the towers where this is needed",
        )
        chosen = {
            task: st.selectbox(
                f"Checkpoint of {escape_markdown(task)}",
                names,
                index=None,
                key=f"checkpoint-{key}-{task}",
                format_func=as_option,
                placeholder="What its training says",
                help="The training's folder holds several. Without a choice the finished model beside them is "
                "taken, or the one that trainer_state.json calls the best",
            )
            for task, names in trainings.items()
        }
    named = {task: name for task, name in chosen.items() if name is not None}
    return replace(wishes, take=take.strip() or None, checkpoints=named)


def refused_datasets(folder: Path, wishes: Wishes, key: str) -> dict[str, None]:
    """Tasks that are called like a known data set and that the reader says are on others; the rest are taken for it."""
    found, _ = understood(folder, wishes)
    tasks = found.content["tasks"] if found else []
    recognised = {task["name"]: task["dataset"] for task in tasks if "dataset" in task}
    if not recognised:
        return {}
    kept = st.pills(
        "Known data sets",
        list(recognised),
        selection_mode="multi",
        default=list(recognised),
        key=f"known-{key}",
        format_func=lambda task: as_option(task if task == recognised[task] else f"{task}: {recognised[task]}"),
        wrap=True,
        help="Tasks that are called like a data set of the published suites take class names, templates and images "
        "from its description. Turn off those that are on other data",
    )
    return {task: None for task in recognised if task not in kept}


def _answers(folder: Path, wishes: Wishes, key: str) -> Answers:
    """What nothing in a folder says of its models, from whoever knows it; nothing is asked that files say."""
    found, _ = understood(folder, wishes)
    unsaid = found.unsaid if found else {}
    if not unsaid:
        return wishes.answers
    left, right = st.columns(2)
    activation, heads = None, None
    if "activation" in unsaid:
        activation = left.selectbox(
            "Activation",
            list(ACTIVATIONS),
            index=None,
            key=f"activation-{key}",
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
            key=f"heads-{key}",
            placeholder="No file says it",
            help="As the models were trained; no published tower has their width and depth",
        )
    return replace(wishes.answers, activation=activation, heads=heads)


def _version(folder: Path) -> tuple[tuple[str, int], ...]:
    """Weights, heads, images and settings in a folder, and when they were changed."""
    found = look(folder)
    weights = [folder / path for path in found.weights]
    files = [*weights, *(file for place in {path.parent for path in weights} for file in place.glob("*.json"))]
    files += [folder / path for path in (*found.heads.values(), *found.images.values())]
    return tuple(sorted((str(path), path.stat().st_mtime_ns) for path in files))


@st.cache_data(max_entries=16, show_spinner="Looking at the files …")
def _understood(folder: Path, wishes: Wishes, version: tuple[tuple[str, int], ...]) -> tuple[Proposal | None, str]:
    try:
        return propose(
            folder,
            wishes.base,
            datasets=wishes.datasets,
            checkpoints=wishes.checkpoints,
            take=wishes.take,
            answers=wishes.answers,
        ), ""
    except MergingError as error:
        return None, str(error)
