"""``python -m studies.shipped [SUITE ...]``: measures what comes with an embedded suite, and writes it beside it.

These are the results that pages show before anybody has run anything: accuracies of the unmerged models, the
leaderboard with what its runs predict, curves over λ, drop one out, a landscape, and the lesson; besides results on
corrupted images and unseen tasks, for the suite of the study those that it has stored. An hour or two of one core; what
the file has already of the same jobs on the same files is taken from it, and what the folder for runs has from there.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import torch

from merging.core.errors import MergingError
from merging.core.places import chosen_home
from merging.evaluation.evaluator import evaluation_key
from merging.methods.presets import PRESETS
from merging.runs import Run
from merging.runs.export.weights import KEPT_WEIGHTS
from merging.runs.foreground import Here, have_done
from merging.runs.jobs import Job, MergeSpec
from merging.runs.jobs.baselines import BaselinesJob
from merging.runs.jobs.interference import InterferenceJob
from merging.runs.jobs.landscape import LandscapeJob
from merging.runs.jobs.model_job import ModelResult
from merging.runs.jobs.predictions import evaluator_of, known_predictions, predictions_of
from merging.runs.leaderboard import cheapest_first, spec_of
from merging.runs.positions import Bench, Need
from merging.runs.shipped import FILE, write
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from studies.shipped_beyond import jobs_beyond, studied
from ui.accuracy.preset_runs import METHODS
from ui.lesson.adaptive import short_run
from ui.lesson.at_first import needs_at_first
from ui.what_if import scaling_view

_FIRST = [*METHODS, "overlap", "tsv_m", "ties"]  # the others follow them, those that need least first


def jobs_of(reference: str, tasks: Sequence[str]) -> list[Job]:
    """What pages ask for as they are first opened, as jobs on a CPU; merges in the order in which they are listed."""
    common = {"suite": reference, "tasks": tuple(tasks), "device": "cpu"}
    presets = [PRESETS[name] for name in _FIRST]
    presets += [preset for preset in cheapest_first(PRESETS.values()) if preset.name not in _FIRST]
    pair = {**common, "tasks": tuple(tasks[:2]), "split": "val", "edit": "awd", "edit_params": {"scope": "model"}}
    return [
        *(spec_of(preset, reference, tasks, "cpu") for preset in presets),
        *(BaselinesJob.build(**common, split=split) for split in ("test", "val")),
        *(scaling_view.job_of(PRESETS[name], reference, tuple(tasks), "cpu") for name in scaling_view.AT_FIRST),
        InterferenceJob.build(**common, split="val"),
        LandscapeJob.build(**pair),
        short_run(reference, tuple(tasks), "cpu"),
    ]


def predictions(run: Run, workspace: Workspace) -> Iterator[tuple[str, list[int]]]:
    """What a run predicts, under the keys by which it is found for a run that came with the suite.

    Nothing of a run whose weights were not kept and that is no table of coefficients.
    """
    evaluator = evaluator_of(run, workspace)
    answers = known_predictions(run, workspace, evaluator)
    kept = workspace.store.folder(run.id) / KEPT_WEIGHTS
    if not run.shipped and (run.coefficients is not None or kept.is_file()):
        answers = predictions_of(run, workspace, evaluator)
    for task, found in answers.items():
        yield evaluation_key([run.fingerprint[:12]], evaluator, task, run.spec.split), found.tolist()


def _done(job: Job, workspace: Workspace) -> Run:
    """A finished run of a job; what is done now is said to have taken as long as it had a core, which others share."""
    begun, before = time.time(), time.process_time()
    run = have_done(job, workspace, Here(workspace, lambda done, total, message: None, None))
    took = time.process_time() - before
    found = run.result_as(ModelResult)
    if found is None or run.started is None or run.finished is None or run.started < begun:
        return run
    share = min(1.0, took / (run.finished - run.started))
    seconds = {phase: share * wall for phase, wall in found.seconds.items()}
    result = found.model_copy(update={"seconds": seconds})
    return replace(run, started=run.finished - took, result_json=json.dumps(result.stored()))


def measure(reference: str, suite: Suite, home: Path, only_done: bool, anew: bool = False) -> Path:
    """Have everything done that the file beside the suite does not hold, and write it.

    Args:
        reference: of the suite.
        suite: the same.
        home: the folder for runs.
        only_done: whether what was never run is left out.
        anew: whether the file counts as empty.

    Raises:
        MergingError: a run failed.
        ValueError: the study is of other files or methods.
    """
    file, tasks = suite.folder / FILE, suite.task_names
    workspace = Workspace(home, shipped=(file,) if file.is_file() and not anew else ())
    before = workspace.store.shipped
    runs: list[Run] = []
    answers: dict[str, list[int]] = {}
    for job in (*jobs_of(reference, tasks), *jobs_beyond(reference, suite)):
        known = before.find(job.fingerprint(workspace)) or workspace.find(job)
        if only_done and (known is None or known.state != "done"):
            click.echo(f"left out, as it was never run: {job.label}", err=True)
            continue
        if known is None or not known.shipped:
            click.echo(job.label, err=True)
            known = _done(job, workspace)
        runs.append(known)
        if isinstance(job, MergeSpec):
            answers |= dict(predictions(known, workspace))
    runs += studied(reference, suite, workspace, runs)
    baselines = BaselinesJob.build(suite=reference, tasks=tasks, split="val", device="cpu").fingerprint(workspace)
    held = OrderedDict((Need.read(written), value) for written, value in before.accuracies(baselines))
    bench = Bench(workspace, suite, torch.device("cpu"), held)
    needs = needs_at_first(workspace.geometry(suite, tasks))
    bench.measure(sorted(needs, key=lambda need: str(need.position.weights_only)))
    write(file, runs, answers, {baselines: [(need.written(), bench.known[need]) for need in needs]})
    return file


@click.command()
@click.argument("suites", nargs=-1)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Folder for runs.")
@click.option("--only-done", is_flag=True, help="Take what was run before, and run no merge.")
@click.option("--anew", is_flag=True, help="Take nothing from the file that is there.")
def main(suites: tuple[str, ...], home: Path | None, only_done: bool, anew: bool) -> None:
    """Measure what comes with embedded suites (mini where none is named), and write it beside their suite.yaml."""
    torch.set_num_threads(1)
    for reference in suites or ("mini",):
        try:
            file = measure(reference, load_suite(reference), home or chosen_home(), only_done, anew)
        except (MergingError, ValueError) as error:
            raise click.ClickException(str(error)) from None
        click.echo(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
