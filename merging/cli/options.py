"""What the commands share: options, reading what was typed, printing results."""

import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from merging.errors import MissingPart, SpecError

INTERRUPTED = 130  # exit status of what Ctrl-C ended: 128 + SIGINT
DEFAULT_HOME = Path(__file__).resolve().parents[2] / ".merging"


def home_option(function: Any) -> Any:
    """``--home``: the workspace."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_HOME,
        envvar="MERGING_HOME",
        help="Folder for runs and caches (default: .merging in the project).",
    )(function)


def image_limit_option(function: Any) -> Any:
    """``--image-cache-gb``, in bytes as ``image_limit``; stands before the command, since it concerns all of them."""
    return click.option(
        "--image-cache-gb",
        "image_limit",
        type=click.FloatRange(min=0, max=2**20),
        envvar="MERGING_IMAGE_CACHE_GB",
        callback=lambda _, __, value: None if value is None else int(value * 2**30),
        help="Room for prepared images in GiB (default: 20); those that were not used for longest are removed first.",
    )(function)


def open_workspace(home: Path) -> Any:
    """The workspace in a folder, with the room for images that the command line allows."""
    from merging.images.cache import DEFAULT_LIMIT
    from merging.workspace import Workspace

    limit = click.get_current_context().find_root().params["image_limit"]
    return Workspace(home, DEFAULT_LIMIT if limit is None else limit)


def json_option(function: Any) -> Any:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def device_option(function: Any) -> Any:
    """``--device``."""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")(function)


def scheduler_option(function: Any) -> Any:
    """``--scheduler``."""
    return click.option(
        "--scheduler",
        help="A Dask scheduler whose workers do the runs, such as tcp://host:8786 (default: this machine).",
    )(function)


def layout_option(function: Any) -> Any:
    """``--layout``."""
    return click.option(
        "--layout",
        type=click.Choice(["open_clip", "huggingface"]),
        default="open_clip",
        show_default=True,
        help="Names and shapes of the weights: open_clip's visual tower or transformers' CLIPVisionModel.",
    )(function)


def tasks_option(function: Any) -> Any:
    """``--tasks``, as :func:`read_tasks` reads them."""
    return click.option(
        "--tasks",
        help="Comma-separated task names (default: all with a checkpoint).",
    )(function)


def split_option(function: Any) -> Any:
    """``--split``."""
    return click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)(function)


def set_option(function: Any) -> Any:
    """``--set``, as :func:`read_settings` reads them."""
    return click.option(
        "--set", "settings", multiple=True, metavar="STAGE.NAME=VALUE", help="A parameter, such as edit.alpha=0.1."
    )(function)


def progress_on_stderr() -> Any:
    """A progress callback that rewrites one line of a terminal, or prints a line every few seconds elsewhere."""
    terminal = sys.stderr.isatty()
    shown_phase, shown_at = "", 0.0

    def report(done: int, total: int, message: str) -> None:
        nonlocal shown_phase, shown_at
        phase, now = message.split(" ", 1)[0], time.monotonic()
        if phase == shown_phase and done < total and now - shown_at < (0.1 if terminal else 5.0):
            return
        shown_phase, shown_at = phase, now
        line = f"{message} ({done}/{total})"
        click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal or done == total)

    return report


def end_with(sentence: str, status: int = 1) -> NoReturn:
    """Say why the command ends, on a line of its own even where progress was being written, and end it."""
    click.echo(f"\r\x1b[K{sentence}" if sys.stderr.isatty() else sentence, err=True)
    click.get_current_context().exit(status)


def read_method(
    preset: str | None, edit: str | None, merge: str | None, parameters: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Edit, merge and their parameters: those of a preset or given by name, with ``--set`` on top."""
    from merging.presets import find_preset

    chosen: dict[str, Any] = {"edit": edit or "none", "merge": merge or "task_arithmetic"}
    if preset is not None:
        chosen = find_preset(preset).spec_fields()
    for kind, given in parameters.items():
        chosen[f"{kind}_params"] = {**chosen.get(f"{kind}_params", {}), **given}
    return chosen


def read_datasets(given: Sequence[str]) -> dict[str, str | None]:
    """``TASK=NAME`` … → task → name of a known data set, None for ``none``. Names of data sets hold no ``=``."""
    datasets: dict[str, str | None] = {}
    for each in given:
        task, equals, name = each.rpartition("=")
        if not equals or not task.strip() or not name.strip():
            raise SpecError(f"--dataset {each!r}: expected TASK=NAME, such as scenes=SUN397, or TASK=none")
        datasets[task.strip()] = None if name.strip() == "none" else name.strip()
    return datasets


def read_settings(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``edit.alpha=0.1`` … → parameters by stage. Values are read as JSON, else as text; commas make lists."""
    parameters: dict[str, dict[str, Any]] = {"edit": {}, "merge": {}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        stage, dot, name = key.partition(".")
        if not equals or not dot or stage not in parameters or not name:
            raise SpecError(f"--set {setting!r}: expected edit.NAME=VALUE or merge.NAME=VALUE")
        parameters[stage][name] = [_value(v) for v in value.split(",")] if "," in value else _value(value)
    return parameters


def _value(text: str) -> Any:
    try:
        return json.loads(text.strip().strip("[]"))
    except ValueError:
        return text


def read_tasks(suite: Any, tasks: str | None) -> tuple[str, ...]:
    """Names after ``--tasks``, checked; without them all tasks that name a checkpoint."""
    if tasks is None:  # a file that is named but missing is an error, not a task less
        chosen = tuple(task.name for task in suite.tasks if task.checkpoint)
        if not chosen:
            raise MissingPart(f"suite {suite.name!r} names no checkpoint for any task; add them in its suite.yaml")
        return chosen
    names = tuple(name.strip() for name in next(csv.reader([tasks], skipinitialspace=True), []) if name.strip())
    if not names:
        raise SpecError(f"--tasks {tasks!r} names no task; the suite has {', '.join(suite.task_names)}")
    for name in names:
        suite.task(name)
    return names


def suite_reference(suite: str) -> str:
    """How a suite stands in a specification: its built-in name, the id that it was downloaded by, or its whole path."""
    from merging.suites.suite import is_name

    return suite if is_name(suite) else str(Path(suite).resolve())


def run_row(run: Any) -> dict[str, Any]:
    """A run in a few JSON-ready values; ``scaling_chosen`` is the λ that was chosen on validation, if it was.

    ``remaining``, of a run that forgets, is what to look at in place of ``average``, see
    :func:`merging.forgetting.remaining`.
    """
    from merging.forgetting import remaining

    result = run.result or {}
    return {
        "run": run.id,
        "fingerprint": run.fingerprint,
        "state": run.state,
        "label": run.spec.label,
        "suite": run.spec.suite_name,
        "tasks": list(run.spec.tasks),
        "scaling": run.spec.merge_params.get("scaling"),
        "scaling_chosen": (result.get("merge") or {}).get("scaling"),
        "created": run.created,
        "average": result.get("average"),
        "forgets": list(run.spec.forgotten),
        "remaining": remaining(result["forgetting"]) if result.get("forgetting") else None,
    }


def sweep_row(found: Any) -> dict[str, Any]:
    """A :class:`merging.sweeps.progress.Snapshot` in a few JSON-ready values; ``best`` is the best on validation."""
    values = [trial.value for trial in found.trials if trial.value is not None]
    sweep = found.sweep
    return {
        "sweep": sweep.id, "state": sweep.state, "label": sweep.definition.label, "created": sweep.created,
        "total": sweep.definition.total, "finished": found.finished, "failed": found.failed,
        "best": max(values, default=None), "scheduler": sweep.scheduler, "error": sweep.error,
    }  # fmt: skip


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_report(report: dict[str, Any]) -> None:
    """What :func:`merging.suites.report.check_suite` found, a line a file."""
    for row in report["files"]:
        word = ("warn" if row["warning"] else "ok") if row["ok"] else "ERROR"
        click.echo(f"{word:<5}  {row['file']}  {row['detail']}")
    counts = f"{counted(report['problems'], 'problem')}, {counted(report['warnings'], 'warning')}"
    click.echo(f"{counts} in {counted(len(report['files']), 'check')}")


def print_proposal(proposal: Any) -> None:
    """What :func:`merging.suites.initialise.init_suite` wrote, what it assumed, and what is missing."""
    content = proposal.content
    named = isinstance(content["architecture"], str)
    click.echo(f"base: {content['base']}")
    click.echo(f"architecture: {content['architecture'] if named else json.dumps(content['architecture'])}")
    for task in content["tasks"]:
        files = [task["checkpoint"], task.get("head"), task.get("data", {}).get("path")]
        known = [f"data set {task['dataset']}"] if "dataset" in task else []
        click.echo(f"task {task['name']}: {', '.join([*filter(None, files), *known])}")
    for key, note in proposal.notes.items():
        click.echo(f"{key}: {note}")
    for sentence in proposal.missing:
        click.echo(f"missing: {sentence}")
    for file, reason in proposal.left_out.items():
        click.echo(f"left out: {file}: {reason}")


def print_accuracy(per_task: dict[str, float], average: float, split: str, images: int) -> None:
    """Accuracy per task and on average."""
    width = max(len(name) for name in per_task) + 2
    for name, value in per_task.items():
        click.echo(f"{name:<{width}}{100 * value:6.1f} %")
    click.echo(f"{'average':<{width}}{100 * average:6.1f} %   ({split} split, {images} images)")


def print_comparison(found: Any) -> None:
    """Runs against the first of them: a line a task, and what it comes to."""
    from merging.paired import HOW, VERDICTS, in_words

    names = found.names
    width = max(len(task) for task in (*found.tasks, "average")) + 2
    for name, pair in zip(names[1:], found.pairs, strict=True):
        click.echo(in_words(pair, name, names[0]))
        for task, one in [*pair.tasks.items(), ("average", pair)]:
            numbers = f"{100 * one.reference:6.1f} % → {100 * one.accuracy:5.1f} %  {100 * one.difference:+6.1f}"
            numbers += f"  ({100 * one.low:+.1f} to {100 * one.high:+.1f})"
            test = "" if one is pair else f"p {one.p:.2g}, corrected {one.adjusted:.2g}: {VERDICTS[one.verdict]}"
            click.echo(f"{task:<{width}}{numbers:<46}{test}".rstrip())
    click.echo(f"{found.split} split, {found.images} images. {HOW}")


def print_storage(storage: dict[str, int], tasks: int) -> None:
    """How much localised models take, in megabytes of 10⁶ bytes."""
    sizes = {name: f"{bits / 8e6:.1f} MB" for name, bits in storage.items()}
    click.echo(
        f"{tasks} models, one a task: base {sizes['base']}, shared vector {sizes['vector']}, masks {sizes['masks']} "
        f"(compressed {sizes['masks_compressed']})"
    )
    click.echo(f"together {sizes['localised']}; the base and {tasks} fine-tuned models take {sizes['models']}")


def print_scaling(report: dict[str, Any]) -> None:
    """λ as it was chosen, and whether a larger one than those tried may do better."""
    search = report.get("scaling_search") or report["forgetting_search"]
    edge = "; it is the largest that was tried, so a larger one may do better" if search.get("at_edge") else ""
    click.echo(f"λ = {report['scaling']:g}, chosen on the validation split{edge}")


def print_result(result: dict[str, Any], tasks: int) -> None:
    """What came of a merge of so many tasks: λ, sizes, accuracies, as far as there are any."""
    if "scaling" in result["merge"]:
        print_scaling(result["merge"])
    if "storage" in result["merge"]:
        print_storage(result["merge"]["storage"], tasks)
    if result.get("forgetting"):
        print_forgetting(result["forgetting"])
    elif result["accuracy"]:
        print_accuracy(result["accuracy"], result["average"], result["split"], result["images"])


def print_forgetting(report: dict[str, Any]) -> None:
    """Accuracy before and after, of the tasks that are forgotten, added and kept, and the mean without the first."""
    from merging.forgetting import GROUPS, in_words, remaining

    click.echo(f"forgetting: {in_words(report['weights'])}")
    width = max(len(name) for group in GROUPS for name in report[group]) + 2
    width = max(width, len("forgotten, mean") + 2)
    click.echo(f"{'':<{width}}{'zero-shot':>10}{'after':>10}")
    for group in GROUPS:
        mean = report["means"][group]
        rows = {**report[group], **({f"{group}, mean": mean} if mean else {})}
        for name, values in rows.items():
            click.echo(f"{name:<{width}}{_before_and_after(values)}")
    rest, images = remaining(report), sum(row["images"] for group in GROUPS for row in report[group].values())
    measured = f"{report['split']} split, {images} images"
    if rest is not None:
        click.echo(f"{'average':<{width}}{_before_and_after(rest)}   (without tasks to be forgotten; {measured})")
    else:
        click.echo(f"no average, as all tasks are to be forgotten ({measured})")


def _before_and_after(values: dict[str, float]) -> str:
    return "".join(f"{100 * values[key]:8.1f} %" for key in ("before", "after"))


def print_converted(row: Any) -> None:
    """What a file held, what was written and what was left out."""
    if row.output is None:
        lines = [f"ERROR  {row.file}  {row.detail}"]
    else:
        lines = [f"{row.kind:<5}  {row.file} → {row.output}", f"       {row.held}: {row.detail}"]
    if row.classes:
        shown = ", ".join(row.classes[:3]) + (f" and {len(row.classes) - 3} more" if len(row.classes) > 3 else "")
        lines.append(f"       named in it, not imported: {shown}")
    for line in lines:  # names from a file must not move a terminal's cursor
        click.echo("".join(letter if letter.isprintable() else "?" for letter in line))


def print_downloaded(found: dict[str, Any]) -> None:
    """What was downloaded, and what has to be got in other ways."""
    for row in found["files"]:
        click.echo(f"{row['file']}  {row['bytes'] / 2**20:.1f} MiB, digest {row['digest'][:12]}")
    if found["files"] or not found["missing"]:
        total = f", {found['bytes'] / 2**20:.1f} MiB" if found["files"] else "; all that the suite names are here"
        click.echo(f"{counted(len(found['files']), 'file')} downloaded{total}")
    for row in found["missing"]:
        click.echo(f"missing: {row['what']}: put it where suite.yaml says, at {row['place']} beside it")


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "task"), counted(8, "task")
    ('1 task', '8 tasks')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
