"""Carrying out a run here and now, as the command line does, with the same record as the worker's."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merging.checkpoints.writing import require_writable
from merging.context import Progress
from merging.errors import Cancelled, MergingError, MissingPart, RunError, SpecError
from merging.pipeline import MergeSpec
from merging.runs.execute import execute
from merging.runs.export import KEPT_WEIGHTS, keep_weights, write_weights
from merging.runs.reporting import Reporter
from merging.runs.store import STALE_SECONDS, Run, RunStore
from merging.workspace import Workspace


def perform(spec: MergeSpec, workspace: Workspace, output: Path | None, on_progress: Progress) -> Run:
    """Do what a specification says, unless it was done before, and give the finished run.

    Args:
        spec: what to do.
        workspace: where runs and caches are.
        output: file for the merged weights, ``.safetensors``.
        on_progress: called as the work goes on.

    Raises:
        MergingError: the run failed; its row says so too.
        Cancelled: it was cancelled from elsewhere, or interrupted.
    """
    store = workspace.store
    if output is not None:
        require_writable(output)
    while True:
        run = workspace.submit(spec)
        if run.state == "queued" and store.claim(run.id):
            _carry_out(run, workspace, output, on_progress)
            return store.get(run.id)
        run = _wait(store, run.id, on_progress)
        if run.state != "lost":  # else whoever carried it out is gone, and it is up to us
            break
    if output is not None:
        write_weights(run, workspace, output)
    return run


def _carry_out(run: Run, workspace: Workspace, output: Path | None, on_progress: Progress) -> None:
    store = workspace.store
    to_row = Reporter(store, run.id)

    def report(done: int, total: int, message: str) -> None:
        on_progress(done, total, message)
        to_row(done, total, message)

    kept = store.folder(run.id) / KEPT_WEIGHTS
    try:
        with _heartbeat(store, run.id) as cancelled:
            result = execute(run.spec, workspace, output, kept, report, cancelled.is_set, run.fingerprint)
        if result["coefficients"] is None and output is not None:
            result["kept"] = keep_weights(output, kept)
        store.finish(run.id, result)
    except (Cancelled, KeyboardInterrupt):
        store.stop(run.id, "cancelled", "cancelled on the command line")
        raise Cancelled(f"run {run.id} was cancelled; nothing was written") from None
    except (SpecError, MissingPart):
        store.stop(run.id, "failed", "refused")
        store.delete(run.id)  # nothing was tried, so there is nothing to look up later
        raise
    except MergingError as error:
        store.stop(run.id, "failed", str(error))
        raise
    except BaseException as error:
        store.stop(run.id, "failed", f"unexpected {type(error).__name__}: {error}")
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
