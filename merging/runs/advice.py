"""What to do about a run that failed, where its error does not say so itself."""

from merging.runs.run import Run


def what_to_do(run: Run) -> str:
    """A sentence or two; empty where the run did not fail, or its error says what to do.

    Errors that are raised on purpose do. Others are those that nobody foresaw, and processes that died.
    """
    error = run.error or ""
    if run.state != "failed":
        return ""
    if error.startswith("unexpected "):
        return (
            "Nobody foresaw this error. The last lines of the log say where it came up: try again, and if it comes up "
            "again, with other settings or fewer tasks; those lines belong into a report of it."
        )
    if "died (signal" in error:
        return (
            "Something outside ended its process, most often for want of memory: end other programs, or try again "
            "with fewer tasks, a method that needs less memory, or on another device."
        )
    if "died (exit status" in error:
        return "Its process ended without a word of its own; the last lines of the log may say why. Try again."
    return ""
