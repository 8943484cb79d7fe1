"""Progress as a bar, for those who call the package from a terminal or a notebook."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from merging.core.progress import Progress, no_progress, phase_of


@contextmanager
def shown(on_progress: Progress | None) -> Iterator[Progress]:
    """The callback that was given; without one a bar where somebody looks, and none elsewhere.

    Args:
        on_progress: as everywhere; None for a bar on a terminal or in a notebook.
    """
    if on_progress is not None:
        yield on_progress
    elif _somebody_looks():
        with _bar() as report:
            yield report
    else:
        yield no_progress


def _somebody_looks() -> bool:
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """Whether this is a kernel of Jupyter, whose standard error is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _bar() -> Iterator[Progress]:
    """One line on standard error, or a widget where there are any; it starts anew with every phase."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no widgets: the line serves as well
        from tqdm.auto import tqdm
    phase = ""
    with tqdm(total=1, leave=False, bar_format="{desc} {bar} {n_fmt}/{total_fmt} {elapsed}") as bar:

        def report(done: int, total: int, message: str) -> None:
            nonlocal phase
            if phase_of(message) != phase or total != bar.total or done < bar.n:
                phase = phase_of(message)
                bar.set_description_str(message, refresh=False)
                bar.reset(total)
            bar.set_description_str(message, refresh=False)
            bar.update(done - bar.n)

        yield report
