"""Published accuracies beside a suite's own, always in a table of their own and of one family of checkpoints."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from merging.suites import Suite
from merging.suites.reported import Family, PublishedTable, published_architecture, reported_tables
from ui.look.figure import escape_markdown, show_table
from ui.shell.url import choice, said_below

_APART = (
    "Several families of fine-tuned checkpoints are published for the same tasks. Their weights differ, so no "
    "number of one can be compared with a number of another."
)


def published_section(suite: Suite, tasks: Sequence[str]) -> None:
    """What is published about a suite's architecture and checkpoints, as far as anything is.

    Args:
        suite: the suite at hand.
        tasks: the tasks chosen in it.
    """
    architecture = published_architecture(suite.architecture)
    st.header("Published results")
    if architecture is None:
        st.write(
            escape_markdown(
                f"There are no published numbers for {suite.label}. Those below are for other models and tasks, "
                "as orientation: they can't be compared with the numbers above."
            )
        )
        with st.expander("Published results for CLIP", icon=":material/menu_book:"):
            elsewhere()
        return
    family = suite.checkpoints or ask_family(suite)
    if family is None:
        return
    if architecture not in reported_tables().architectures(family):
        title = reported_tables().families[family].title
        st.info(f"No table is published for {architecture} and the {title} checkpoints.")
        return
    tables = sorted(reported_tables().select(family, architecture), key=lambda one: abs(len(one.tasks) - len(tasks)))
    sizes = [len(table.tasks) for table in tables]
    if len(tasks) not in sizes:
        st.caption(
            f"Published for {' and for '.join(map(str, sorted(sizes)))} tasks; {len(tasks)} are chosen here. Fewer "
            "tasks are easier to merge, so averages of other numbers of tasks can't be compared."
        )
    for table in tables:
        one_table(table)


def ask_family(suite: Suite) -> Family | None:
    """A control that asks which family a suite's checkpoints are of; None until it is answered."""
    known = reported_tables().families
    st.write(_APART + " Which are these?")
    titles, key = {name: info.title for name, info in known.items()}, f"checkpoints.{suite.name}"
    family: Family | None = choice(
        st.segmented_control,
        "Checkpoints",
        titles,
        key=key,
        help=f"With `checkpoints:` in suite.yaml nobody is asked again; known are {', '.join(known)}",
    )
    if family is None:
        st.caption("; ".join(f"{info.title}: {info.description}" for info in known.values()) + ".")
    return family


def elsewhere() -> None:
    """Tables of any family and architecture, one at a time."""
    known = reported_tables()
    st.write(_APART)
    titles = {name: info.title for name, info in known.families.items()}
    with said_below(), st.container(horizontal=True):
        family = choice(
            st.segmented_control, "Checkpoints", titles, default=next(iter(titles)), required=True, key="checkpoints"
        )
        architectures = known.architectures(family)
        architecture = choice(
            st.segmented_control,
            "Architecture",
            architectures,
            default=architectures[0],
            required=True,
            key=f"architecture.{family}",
        )
    for table in known.select(family, architecture):
        one_table(table)


def one_table(table: PublishedTable) -> None:
    """One published table with its source."""
    family = reported_tables().families[table.checkpoints]
    st.markdown(f"**{table.architecture}, {family.title} checkpoints, {len(table.tasks)} tasks**")
    show_table(
        frame(table),
        key=f"published-{len(table.tasks)}",
        file=f"published-{table.checkpoints}-{table.architecture}-{len(table.tasks)}",
        height="content",
        column_config={
            "Average (%)": st.column_config.ProgressColumn(
                min_value=0, max_value=100, format="%.1f", color="#868686", help="As printed in the source"
            ),
            **{task: st.column_config.NumberColumn(format="%.1f") for task in table.tasks},
        },
    )
    st.caption(escape_markdown(f"Accuracy in percent, as printed, on {family.description}. Source: {table.source}."))


def frame(table: PublishedTable) -> pd.DataFrame:
    """A row per method, best average first, in percent."""
    rows = [
        {
            "Method": row.method,
            "Average (%)": round(100 * row.average, 1),
            **{task: round(100 * row.accuracy[task], 1) for task in table.tasks},
        }
        for row in table.ranked()
    ]
    return pd.DataFrame(rows)
