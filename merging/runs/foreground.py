"""Carrying out a run here and now, as the command line does, with the same record as the worker's."""

import re
import time
import traceback
from collections import deque
from pathlib import Path

from merging.core.errors import Cancelled, MergingError, MissingPart, RunError, SpecError
from merging.core.files import atomic_path
from merging.core.progress import Progress, no_progress
from merging.runs.carrying import ATTEMPTS, Carrier, Ending, carry_out
from merging.runs.deleted import erase
from merging.runs.export.export import require_form, write_weights
from merging.runs.export.huggingface import config_beside
from merging.runs.export.weights import KEPT_WEIGHTS, keep_weights
from merging.runs.jobs import Job, MergeSpec, Site
from merging.runs.jobs.merge_result import MergeResult
from merging.runs.reporting import LOG_LINES, Reporter
from merging.runs.run import Run
from merging.runs.stopping import heartbeat, interruptible
from merging.runs.table import RunStore
from merging.runs.workspace import Workspace
from merging.suites.suite import Suite, load_suite
from merging.weights.files.writing import PLAIN, Form, require_writable

_POLL_SECONDS = 0.5


class Here:
    """Carries jobs out in this process, each at once; one that somebody else does already is left to them.

    Args:
        workspace: where runs and caches are.
        on_progress: called as the work goes on.
        output: file for the merged weights, ``.safetensors``; None if nobody wants them.

    Attributes:
        carried_out: ids of the runs that were done here.
    """

    def __init__(self, workspace: Workspace, on_progress: Progress = no_progress, output: Path | None = None) -> None:
        self._workspace = workspace
        self._on_progress = on_progress
        self._output = output
        self.carried_out: list[str] = []

    def submit(self, job: Job, fingerprint: str) -> None:
        """Carry a job out; raises what it raises, and its row says so too."""
        run = self._workspace.store.submit(job, fingerprint)
        if run.state == "queued" and self._workspace.store.claim(run.id):
            _carry_out(run, self._workspace, self._output, self._on_progress)
            self.carried_out.append(run.id)

    def look_after(self) -> None:
        """What was submitted has ended."""

    def close(self) -> None:
        """Nothing is under way."""


def have_done(job: Job, workspace: Workspace, carrier: Carrier, on_progress: Progress = no_progress) -> Run:
    """Have a job of any kind carried out, unless it was done before, and give the finished run.

    Args:
        job: what to do.
        workspace: where runs are.
        carrier: by whom.
        on_progress: called as the work goes on elsewhere.

    Raises:
        MergingError: the carrier refuses it, or the run failed or was cancelled; its row says so too.
    """
    store, fingerprint = workspace.store, job.fingerprint(workspace)
    known = store.find(fingerprint)
    if known is not None and known.state == "done" and not job.anew:
        return known
    if known is None or not known.active:
        store.forget(job)
    for _ in range(ATTEMPTS):
        carrier.submit(job, fingerprint)
        found = store.find(fingerprint)
        if found is None:
            raise RunError(f"the row of {job.label} was deleted while it was carried out; run it again")
        run = _followed(found.id, store, carrier, on_progress)
        if run.state != "lost":  # else whoever carried it out is gone, and it is asked for again
            break
    if run.state != "done":
        raise RunError(f"run {run.id} is {run.state}: {run.error or 'no reason was recorded'}")
    return run


def run_here(
    spec: MergeSpec,
    workspace: Workspace,
    output: Path | None,
    on_progress: Progress,
    form: Form = PLAIN,
    carrier: Carrier | None = None,
) -> Run:
    """Do what a specification says, unless it was done before, and give the finished run.

    Args:
        spec: what to do.
        workspace: where runs and caches are.
        output: file for the merged weights, ``.safetensors``.
        on_progress: called as the work goes on.
        form: how the file is written; any but the plain form once the run is finished. In Hugging Face's layout a file
            called ``model.safetensors`` gets the ``config.json`` with which transformers loads its folder.
        carrier: who does the work in place of this process; the file is written here in any case.

    Raises:
        SpecError: localised models were asked for in a form for one model.
        CheckpointError: the visual tower does not fit the layout, or the file can't be written.
        MergingError: the run failed; its row says so too.
        Cancelled: it was cancelled from elsewhere.
        KeyboardInterrupt: it was interrupted; its row says so, and no file is left half-written.
    """
    config = None
    _ = workspace.store  # makes the workspace's folder, which the file may be meant to lie in
    if output is not None:
        require_writable(output)
        suite = load_suite(spec.suite)
        _require_no_input(output, suite)
        require_form(spec, suite, form)
        config = config_beside(output, suite, form)
    here = Here(workspace, on_progress, output if form.plain else None)
    run = have_done(spec, workspace, carrier or here, on_progress)
    if output is not None and not (form.plain and run.id in here.carried_out):
        write_weights(run, workspace, output, form)
    if config is not None:
        with atomic_path(config[0]) as temporary:
            temporary.write_text(config[1], encoding="utf-8")
    return run


def _require_no_input(output: Path, suite: Suite) -> None:
    """Insist that the output, in one file or several, does not replace a model of the suite."""
    files = [suite.base, *(task.checkpoint for task in suite.tasks if task.checkpoint)]
    paths = {place for file in files for path in suite.weight_files(file) for place in (path, path.resolve())}
    several = re.compile(rf"{re.escape(output.stem)}(-\d{{5}}-of-\d{{5}})?\.safetensors(\.index\.json)?")
    folder = output.parent.resolve()
    beside = any(path.parent.resolve() == folder and several.fullmatch(path.name) for path in paths)
    if beside or output.resolve() in paths:
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
        with heartbeat(store, run.id) as cancelled, interruptible(cancelled.is_set) as stopped:
            site = Site(
                workspace,
                report,
                stopped,
                output=output,
                keep=kept,
                run_id=run.id,
                on_predicted=store.remember_predictions,
            )
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
        erase(store, run.id)  # nothing was tried, so there is nothing to look up later
        raise
    except BaseException as error:
        if not isinstance(error, MergingError):
            log.extend(traceback.format_exc().splitlines())
        ending = Ending.of(error)
        store.stop(run.id, ending.state, ending.reason, "\n".join(log))
        raise


def _followed(run_id: str, store: RunStore, carrier: Carrier, on_progress: Progress) -> Run:
    """A run once it has ended, whoever carries it out."""
    while (run := store.get(run_id)).active:
        carrier.look_after()
        on_progress(run.done, max(run.total, 1), run.message or "queued")
        time.sleep(_POLL_SECONDS)
    return run
