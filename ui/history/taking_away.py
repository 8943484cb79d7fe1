"""Reports of chosen runs, and runs as a file for another machine."""

from collections.abc import Sequence

import streamlit as st

from merging.core.errors import MergingError
from merging.core.files import scratch_folder
from merging.runs import Run
from merging.runs.comparison.ranked import require_rankable
from merging.runs.comparison.runs_report import ENDINGS, ReportForm, report_runs
from merging.runs.listing import Facts
from merging.runs.moving import export_runs
from merging.runs.workspace import Workspace
from ui.accuracy import measuring
from ui.look.figure import escape_markdown
from ui.shell import state

_FORMS: dict[ReportForm, tuple[str, str]] = {
    "html": ("HTML", "text/html"),
    "latex": ("LaTeX", "text/x-tex"),
    "markdown": ("Markdown", "text/markdown"),
}


def offer_report(runs: Sequence[Run]) -> None:
    """A table of chosen runs with the protocol of its numbers, as a file of each form."""
    with st.popover("Report", icon=":material/docs:", key="report"):
        try:
            require_rankable(runs)
        except MergingError as error:
            st.caption(escape_markdown(f"No report of these: {error}."))
            return
        st.caption("The best of each column in bold, ties by a paired test, and how the numbers came about.")
        space, quick = state.workspace(), measuring.baselines_are_quick()  # no session is at hand when it is clicked
        for form, (title, mime) in _FORMS.items():
            st.download_button(
                title,
                lambda form=form: report_runs(runs, space, form, measure=quick),  # type: ignore[misc]
                f"runs{ENDINGS[form]}",
                mime,
                key=f"report-{form}",
                icon=":material/download:",
                on_click="ignore",
                width="stretch",
            )
        ids = " ".join(run.id for run in runs)
        st.code(f"merging runs report {ids} --format html --output runs.html", language=None, wrap_lines=True)


def offer_moving(facts: Sequence[Facts]) -> None:
    """The runs that are listed as one file for another machine, without weights."""
    with st.popover("Take along", icon=":material/move_up:", key="moving"):
        ended = [one for one in facts if one.state not in ("queued", "running") and not one.shipped]
        if not ended:
            st.caption("None of the runs listed was made here and has ended.")
            return
        space = state.workspace()  # no session is at hand when it is clicked
        st.caption(
            f"What is known of the {len(ended):,} runs listed that have ended here, in one file without weights and "
            "without paths of this machine. On another one, `merging runs import runs.zip` takes it over."
        )
        st.download_button(
            "Runs as a file",
            lambda: _packed(space, ended),
            "runs.zip",
            "application/zip",
            key="moving-file",
            icon=":material/download:",
            on_click="ignore",
        )


def _packed(space: Workspace, facts: Sequence[Facts]) -> bytes:
    with scratch_folder(space.home) as folder:
        file = folder / "runs.zip"
        export_runs(space.store, file, facts)
        return file.read_bytes()
