"""A look at every file of the chosen suite."""

import streamlit as st

from merging.runs.deleted import erase
from merging.runs.jobs.check import CheckedFile, CheckJob, CheckReport
from ui.look.columns import text_width
from ui.look.figure import escape_markdown, show_table
from ui.runs.file_jobs import ask_for
from ui.runs.jobs import run_of, show_job
from ui.shell import state
from ui.suites.permission import may_add
from ui.suites.suite_report import class_folders_table, report_table, summary


def _sentence(row: CheckedFile) -> str:
    whose = f" ({row.task})" if row.task else ""
    return f"{row.file}{whose}: {'; '.join(row.warnings) or row.detail}"


def check() -> None:
    """Look at every file of the chosen suite, when asked to, and show what was found."""
    st.header(f"Files of {escape_markdown(state.suite().label)}")
    deep = may_add() and st.checkbox(
        "With the other activation too",
        key="check-deep",
        help="Measures each task's own model with QuickGELU and with GELU: the wrong one does worse",
    )
    job = CheckJob(suite=state.suite_reference(), measured_on=str(state.device()), deep=deep, seen=state.stamp())
    run = run_of(job)
    if not may_add():  # guests can have nothing checked, so they see the most that was
        thorough = run_of(job.model_copy(update={"deep": True}))
        run = thorough if thorough is not None and (run is None or thorough.state == "done") else run
    if run is None and not may_add():
        st.caption("Nobody has checked these files yet. The owner of this dashboard can have it done.")
    elif run is None:
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
    if run is not None and may_add():
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
    erase(state.workspace().store, done)
    ask_for(job)
