"""Carrying out a run here and now, as the command line does, with the same record as the worker's."""

import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merging.core.errors import Cancelled, MergingError, MissingPart, RunError, SpecError
from merging.core.progress import Progress
from merging.runs.carrying import Ending, carry_out
from merging.runs.export.export import write_weights
from merging.runs.export.weights import KEPT_WEIGHTS, keep_weights
from merging.runs.jobs import MergeSpec, Site
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.run import Run
from merging.runs.table import STALE_SECONDS, RunStore
from merging.runs.worker.reporting import LOG_LINES, Reporter
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from merging.weights.files.layouts import huggingface_names
from merging.weights.files.writing import WrittenLayout, require_writable


def run_here(
    spec: MergeSpec,
    workspace: Workspace,
    output: Path | None,
    on_progress: Progress,
    layout: WrittenLayout = "open_clip",
) -> Run:
    """Do what a specification says, unless it was done before, and give the finished run.

    Args:
        spec: what to do.
        workspace: where runs and caches are.
        output: file for the merged weights, ``.safetensors``.
        on_progress: called as the work goes on.
        layout: whose names and shapes the file has; anything but open_clip's is written once the run is finished.

    Raises:
        SpecError: localised models were asked for in a layout for one model.
        CheckpointError: the visual tower does not fit the layout, or the file can't be written.
        MergingError: the run failed; its row says so too.
        Cancelled: it was cancelled from elsewhere.
        KeyboardInterrupt: it was interrupted; its row says so, and no file is left half-written.
    """
    store = workspace.store
    if output is not None:
        require_writable(output)
        suite = load_suite(spec.suite)
        _require_no_input(output, suite)
        if layout == "huggingface":
            _require_one_clip(spec, suite)
    direct = output if layout == "open_clip" else None
    while True:
        run = workspace.submit(spec)
        if run.state == "queued" and store.claim(run.id):
            _carry_out(run, workspace, direct, on_progress)
            run, written = store.get(run.id), direct is not None
            break
        run, written = _wait(store, run.id, on_progress), False
        if run.state != "lost":  # else whoever carried it out is gone, and it is up to us
            break
    if output is not None and not written:
        write_weights(run, workspace, output, layout)
    return run


def _require_one_clip(spec: MergeSpec, suite: Suite) -> None:
    """Find out before long work whether its result can be written in Hugging Face's layout."""
    if spec.pair.localised:
        raise SpecError(
            f"{spec.merge} writes models for {len(spec.tasks)} tasks in one file; Hugging Face's layout "
            "holds one; leave out --layout"
        )
    huggingface_names(tuple(suite.base_checkpoint))


def _require_no_input(output: Path, suite: Suite) -> None:
    """Insist that the output does not replace a model of the suite."""
    files = [suite.base, *(task.checkpoint for task in suite.tasks if task.checkpoint)]
    if output.resolve() in {suite.path(file).resolve() for file in files}:
        raise SpecError(f"{output.name} is a model of suite {suite.name!r} and would be lost; choose another output")


def _carry_out(run: Run, workspace: Workspace, output: Path | None, on_progress: Progress) -> None:
    store = workspace.store
    log: deque[str] = deque(maxlen=LOG_LINES)
    to_row = Reporter(store, run.id, log.append)

    def report(done: int, total: int, message: str) -> None:
        on_progress(done, total, message)
        to_row(done, total, message)

    kept = store.folder(run.id) / KEPT_WEIGHTS
    try:
        with _heartbeat(store, run.id) as cancelled:
            site = Site(workspace, report, cancelled.is_set, output=output, keep=kept)
            result = carry_out(run.job, run.fingerprint, site)
        if isinstance(result, MergeResult) and result.coefficients is None and output is not None:
            result = result.model_copy(update={"kept": keep_weights(output, kept)})
        store.finish(run.id, result)
    except KeyboardInterrupt:
        store.stop(run.id, "cancelled", "interrupted on the command line")
        raise
    except Cancelled:
        store.stop(run.id, "cancelled", "cancelled on request")
        raise Cancelled(f"run {run.id} was cancelled; nothing was written") from None
    except (SpecError, MissingPart):
        store.stop(run.id, "failed", "refused")
        store.delete(run.id)  # nothing was tried, so there is nothing to look up later
        raise
    except BaseException as error:
        if not isinstance(error, MergingError):
            log.extend(traceback.format_exc().splitlines())
        ending = Ending.of(error)
        store.stop(run.id, ending.state, ending.reason, "\n".join(log))
        raise


@contextmanager
def _heartbeat(store: RunStore, run_id: str) -> Iterator[threading.Event]:
    """Keep a row alive from a thread; the event is set once cancelling was asked for."""
    ended, cancelled = threading.Event(), threading.Event()

    def beat() -> None:
        while not ended.wait(STALE_SECONDS / 10):
            if store.beat(run_id) is not None:
                cancelled.set()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        ended.set()
        thread.join()


def _wait(store: RunStore, run_id: str, on_progress: Progress) -> Run:
    """Follow a run that somebody else carries out, or that is done already."""
    while True:
        run = store.get(run_id)
        if not run.active:
            break
        on_progress(run.done, max(run.total, 1), run.message or "queued")
        time.sleep(0.5)
    if run.state not in ("done", "lost"):
        raise RunError(f"run {run.id} is {run.state}: {run.error or 'no reason was recorded'}")
    return run
