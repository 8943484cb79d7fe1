"""Results of commands as text for a terminal of 100 columns: aligned, as complete as their JSON."""

import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from merging.cli.results import print_result
from merging.core.text import counted, printed, visible

if TYPE_CHECKING:
    from merging.runs import Run
    from merging.runs.beyond import Generalisation, Robustness
    from merging.runs.jobs.generalisation import GeneralisationResult
    from merging.runs.run import UnreadableRun
    from merging.runs.task_counts import ByCount
    from merging.suites.images.shifts import Shift
    from merging.sweeps.progress import Snapshot

WIDTH = 100
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[str] = ()) -> None:
    """Columns as wide as what is in them, two spaces apart; those that are empty everywhere are left out.

    Args:
        header: names of the columns.
        rows: as many cells each.
        right: columns whose cells end flush, as numbers do.
    """
    ends = set(right)
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        aligned = [
            cell.rjust(width) if column[0] in ends else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        ]
        click.echo("  ".join(aligned).rstrip())


def print_matrix(title: str, names: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """A square matrix with the names of its rows; columns are numbered where names would make it too wide."""
    cell = max(7, *(len(name) + 1 for name in names))
    heads, labels = list(names), list(names)
    if max(map(len, names)) + cell * len(names) > WIDTH:
        cell, heads = 7, [str(number) for number in range(1, len(names) + 1)]
        labels = [f"{number:>{len(heads[-1])}} {name}" for number, name in zip(heads, names, strict=True)]
    first = max(map(len, labels))
    click.echo(title)
    click.echo(" " * first + "".join(f"{head:>{cell}}" for head in heads))
    for label, row in zip(labels, rows, strict=True):
        click.echo(f"{label:<{first}}" + "".join(printed(value, ".3f").rjust(cell) for value in row))


def print_similarity(report: Mapping[str, Any], edit: str) -> None:
    """What :func:`merging.runs.similarity.similarity_report` found: cosines, norms, and what AWD came down to."""
    tasks, before, after = report["tasks"], report["before"], report["after"]
    print_matrix(f"cosine, mean |cos| {before['mean_abs']:.4f}", tasks, before["cosine"])
    columns = {"task": tasks, "norm": [f"{norm:.4f}" for norm in report["norms"]]}
    awd = report.get("awd")
    if edit != "none":
        print_matrix(f"after {edit}, mean |cos| {after['mean_abs']:.4f}", tasks, after["cosine"])
        columns["norm after"] = [f"{norm:.4f}" for norm in after["norms"]]
    if awd and awd["task_multipliers"]:
        columns["× in a sum"] = _multipliers(awd["task_multipliers"])
    click.echo()
    print_table(list(columns), list(zip(*columns.values(), strict=True)), right=list(columns)[1:])
    if awd:
        click.echo(
            f"objective {awd['objective_before']:.4f} → {awd['objective_after']:.4f}, "
            f"norm of the redundant vector {awd['redundant_norm']:.4f}"
        )
        from merging.methods.edits.awd import ADAM_BETA, rose

        if rose(awd["objective_before"], awd["objective_after"]):
            step = f"edit.beta (for adam about {ADAM_BETA:g})"
            click.echo(f"the objective rose: take a smaller step size, {step}, or solver exact")
        if awd["task_multipliers"]:
            each = "task by task" + (" and tensor by tensor" if awd["scope"] == "layer" else "")
            click.echo(f"× in a sum: AWD + Task Arithmetic is Task Arithmetic with λ times this, {each}")
        for warning in awd.get("warnings", ()):
            click.echo(f"warning: {warning}", err=True)


def _multipliers(values: Sequence[Any]) -> list[str]:
    """One number a task ``[T]``, or the range over the tensors ``[L][T]``."""
    if not isinstance(values[0], list):
        return [printed(value, ".4f") for value in values]
    return [f"{printed(min(column), '.3f')} … {printed(max(column), '.3f')}" for column in zip(*values, strict=True)]


def print_methods(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What :func:`merging.methods.catalogue.catalogue` gives."""
    for kind in ("edits", "merges"):
        click.echo(f"{kind}:")
        for row in found[kind]:
            _paragraph(f"  {row['name']:<16} {row['title']}: {row['summary']}", 19)
            _paragraph(" " * 19 + _origin(row), 19)
            names = max((len(parameter["name"]) for parameter in row["parameters"]), default=0)
            for parameter in row["parameters"]:
                _print_parameter(parameter, names)
    click.echo("presets (merge SUITE --preset NAME):")
    for row in found["presets"]:
        _paragraph(f"  {row['name']:<16} {row['title']}: {_pair(row)}", 19)
        _paragraph(" " * 19 + "; ".join(filter(None, [_origin(row), row["note"].rstrip(".")])), 19)


def _paragraph(text: str, indent: int) -> None:
    lines = textwrap.wrap(
        text,
        WIDTH,
        subsequent_indent=" " * indent,
        drop_whitespace=True,
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo("\n".join(lines))


def _origin(row: Mapping[str, Any]) -> str:
    """The data that a method needs by itself, what is chosen on more, and its paper or that it has none."""
    chosen = row.get("chosen")
    on_validation = f"{' and '.join(chosen)} chosen on labelled validation images" if chosen else ""
    source = "this project's own" if row.get("own") else row["paper"]
    return ", ".join(filter(None, [f"data needed: {row['needs']}", on_validation, source]))


def _print_parameter(parameter: Mapping[str, Any], width: int) -> None:
    bounds = [f"{words} {printed(parameter[bound])}" for bound, words in _BOUNDS.items() if bound in parameter]
    default = _value(parameter["default"])
    click.echo(f"      {parameter['name']:<{width}} = {default:<10}  {', '.join([parameter['type'], *bounds])}")
    if parameter["description"]:
        _paragraph(" " * (width + 9) + parameter["description"], width + 9)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _pair(row: Mapping[str, Any]) -> str:
    """Edit and merge of a preset with what differs from their defaults."""
    parts = []
    for kind in ("edit", "merge"):
        parts.append(_with_values(row[kind], row[f"{kind}_params"]))
    return " + ".join(parts)


def _with_values(method: str, params: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name} = {_value(value)}" for name, value in params.items())
    return method + (f" ({given})" if given else "")


def print_runs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs as :func:`merging.cli.results.run_row` gives them, one a line."""
    lines = []
    machines = len({row["machine"] for row in rows}) > 1
    for row in rows:
        average = _average(row)
        lines.append(
            [
                row["run"] + (" ★" if row["star"] else ""),
                minute(row["created"]),
                row["state"],
                row["label"],
                row["suite"],
                str(len(row["tasks"])),
                _coefficient(row),
                average,
                row["machine"] if machines else "",
                row["person"],
                visible(row["name"]),
                visible(", ".join(row["tags"])),
            ]
        )
    header = ["run", "queued at", "state", "method", "suite", "tasks", "λ", "average", "machine", "who", "name", "tags"]
    print_table(header, lines, right=("tasks", "average"))
    if any(cells[7].endswith("*") for cells in lines):
        click.echo("* over the tasks that are not to be forgotten")


def print_unreadable(broken: "Sequence[UnreadableRun]") -> None:
    """Runs that can't be read, one a line, with as much of the reason as it has room for."""
    for one in broken:
        begin = f"{one.id}  unreadable  "
        click.echo(begin + textwrap.shorten(visible(one.reason), WIDTH - len(begin), placeholder=" …"))
    if broken:
        click.echo("`merging runs show ID` says all of why one can't be read, and what to do")


def minute(seconds: float) -> str:
    """A time on this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _average(row: Mapping[str, Any]) -> str:
    """Average accuracy; of a run that forgets, over all other tasks that were measured, with a star."""
    if row["remaining"] is not None:
        return f"{100 * row['remaining']['after']:.1f} %*"
    return "" if row["average"] is None or row["forgets"] else f"{100 * row['average']:.1f} %"


def print_run(run: "Run") -> None:
    """All of a :class:`merging.runs.table.Run` that is read by people; its JSON has every number."""
    from merging.runs.advice import what_to_do

    spec, result = run.spec, run.merged
    click.echo(f"run {run.id}  {run.state}{'  ★' if run.star else ''}")
    if run.name or run.tags:
        _paragraph(visible(run.name + (f" [{', '.join(run.tags)}]" if run.tags else "")).strip(), 2)
    if run.note:
        click.echo(textwrap.indent(visible(run.note), "  "))
    _paragraph(f"{run.label}, {spec.suite_name}, {counted(len(spec.tasks), 'task')}: {', '.join(spec.tasks)}", 2)
    sources = (result.sources if result else None) or {}
    for part in spec.pair.parts:
        own = f", a method of your own, SHA-256 {sources[part.stage.kind][:12]}" if part.stage.kind in sources else ""
        _paragraph(f"{part.stage.kind} {_with_values(part.name, part.values)}{own}", 2)
    click.echo(f"{spec.split} split, seed {spec.seed}, {result.device if result else spec.device}, {spec.dtype}")
    _paragraph(_times(run), 2)
    click.echo(f"fingerprint {run.fingerprint}")
    if run.state == "running":
        click.echo(f"{run.message} ({run.done}/{run.total})")
    for warning in run.warnings:
        _paragraph(f"warning: {warning}", 2)
    if run.error:
        _paragraph(f"error: {run.error}", 2)
        if advice := what_to_do(run):
            _paragraph(advice, 2)
    if run.log:
        click.echo("last lines of its output:")
        click.echo(textwrap.indent(run.log, "  "))
    if run.state in ("failed", "cancelled", "lost"):
        click.echo(f"`merging runs again {run.id[:6]}` queues it again")
    if result is not None:
        print_result(result, len(spec.tasks))


def _times(run: "Run") -> str:
    """When a run was asked for, how long each phase took, and the most memory it held."""
    asked = " ".join(filter(None, [run.person and f"by {run.person}", run.machine and f"on {run.machine}"]))
    parts = [
        f"queued {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(run.created))}",
        *filter(None, [visible(asked)]),
    ]
    result = run.merged
    seconds = dict(result.seconds) if result else {}
    if result and seconds:
        total = seconds.pop("total")
        phases = ", ".join(f"{phase} {spent:.1f}" for phase, spent in seconds.items())
        parts.append(f"took {total:.1f} s ({phases})")
        if result.peak_bytes is not None:
            parts.append(f"peak memory {result.peak_bytes / 1e6:.0f} MB")
    elif run.started and run.finished:
        parts.append(f"ended after {run.finished - run.started:.1f} s")
    return ", ".join(parts)


def _coefficient(row: Mapping[str, Any]) -> str:
    """λ as chosen on validation, or as it was asked for."""
    if row["scaling_chosen"] is not None:
        return f"{printed(row['scaling_chosen'])} (val)"
    asked = row["scaling"]
    if isinstance(asked, list):
        return "per task"
    return "" if asked is None else _value(asked)


def print_robustness(
    rows: "Sequence[Robustness]", zero_shot: "Robustness", shifts: "Sequence[Shift]", images: int
) -> None:
    """Methods × corruptions, a table for each severity: mean accuracy over the tasks, and relative to clean images."""
    from merging.runs.beyond import mean
    from merging.suites.images.corruptions import CORRUPTIONS, READY

    for severity in sorted({shift.severity for shift in shifts}):
        texts = [shift.text for shift in shifts if shift.severity == severity]
        titles = [CORRUPTIONS[shift.corruption].short for shift in shifts if shift.severity == severity]
        header = ["method", "clean", *titles, "mean", "rel."]
        table = []
        for row in (zero_shot, *rows):
            middle, clean = row.over(texts), row.on_average
            each = [mean(row.accuracy[text]) for text in texts]
            cells = [f"{100 * value:.1f}" for value in (clean, *each, middle)]
            table.append([row.title, *cells, f"{100 * middle / clean:.1f}" if clean else ""])
        click.echo(f"severity {severity}" if severity != READY else "as the data sets have them")
        print_table(header, table, right=header[1:])
    click.echo(
        f"Mean accuracy over the tasks in percent, {images} test images; rel.: the mean of the corrupted over clean.\n"
        "λ is chosen on clean validation images. What adapts on test images adapts on the corrupted ones;\n"
        "(on clean): on clean ones."
    )


def print_generalisation(rows: "Sequence[Generalisation]", result: "GeneralisationResult") -> None:
    """Methods with their means over seen and unseen tasks, gains over zero-shot, and the spread over the splits."""
    from merging.core.text import signed
    from merging.runs.beyond import average, base_on, gains, spread

    base = base_on(result)
    header = ["method", "seen", "± seen", "vs zero-shot", "unseen", "± unseen", "vs zero-shot "]
    table = []
    for row in (base, *rows):
        cells = [row.title]
        for values, reference in ((row.seen, base.seen), (row.unseen, base.unseen)):
            deviation, gained = spread(values), gains(values, reference)
            gain, paired = signed(100 * average(gained)), spread(gained)
            if paired is not None:
                gain = f"{gain} ± {100 * paired:.1f}"
            said = "" if deviation is None else f"{100 * deviation:.1f}"
            cells += [f"{100 * average(values):.1f}", said, "" if row is base else gain]
        table.append(cells)
    print_table(header, table, right=header[1:])
    ways = "; ".join(", ".join(one.unseen) for one in result.splits)
    _paragraph(f"Unseen in {counted(len(result.splits), 'split')}: {ways}", 2)
    click.echo(
        "Mean accuracy in percent on test images; ± is the standard deviation over the splits, that of\n"
        "vs zero-shot of the differences within them."
    )


def print_task_counts(rows: "Sequence[ByCount]", images: int) -> None:
    """Methods with their means over subsets of each number of tasks, normalised ones behind, and the spread."""
    from merging.runs.beyond import average, spread

    sizes = list(rows[0].averages)
    header = ["method", *(f"{counted(size, 'task')}" for size in sizes)]
    for relative, title in ((False, "mean accuracy"), (True, "normalised accuracy")):
        table = []
        for row in rows:
            cells = [row.title]
            for size in sizes:
                values = row.values(relative).get(size, [])
                deviation = spread(values) if values else None
                width = "" if deviation is None else f" ± {100 * deviation:.1f}"
                cells.append(f"{100 * average(values):.1f}{width}" if values else "")
            table.append(cells)
        click.echo(f"{title} in percent")
        print_table(header, table, right=header[1:])
    counts = ", ".join(f"{len(values)} of {size}" for size, values in rows[0].averages.items())
    click.echo(f"Subsets: {counts} tasks; {images} test images of all. ± is the standard deviation over subsets.")


def print_published(titles: Sequence[str], rows: Mapping[str, Sequence[float]], about: str = "") -> None:
    """A table of the literature below one's own, and never in it."""
    from merging.suites.protocols import SOURCE

    click.echo("\npublished by others for the same checkpoints, in percent as printed")
    table = [[name, *(f"{value:.1f}" for value in values)] for name, values in rows.items()]
    print_table(["method", *titles], table, right=titles)
    click.echo(f"{about}Source: {SOURCE}.")


def print_sweeps(rows: Sequence[Mapping[str, Any]]) -> None:
    """Sweeps as :func:`merging.cli.results.sweep_row` gives them, one a line."""
    lines = [
        [
            row["sweep"],
            minute(row["created"]),
            row["state"],
            row["label"],
            f"{row['finished']}/{row['total']}",
            "" if row["best"] is None else f"{100 * row['best']:.1f} %",
        ]
        for row in rows
    ]
    print_table(
        ["sweep", "started at", "state", "what", "trials", "best on val"], lines, right=("trials", "best on val")
    )


def print_sweep(found: "Snapshot") -> None:
    """How far a sweep is, all its trials, the best first: a :class:`merging.sweeps.progress.Snapshot`."""
    from merging.sweeps.progress import trial_in_words

    definition = found.sweep.definition
    objective = "average" if definition.objective == "average" else "normalised average"
    failed = f", {found.failed} failed" if found.failed else ""
    state = "" if found.sweep.state == "done" else f", {found.sweep.state}"
    click.echo(f"sweep {found.sweep.id}: {found.finished} of {definition.total} trials{failed}{state}")
    if found.sweep.error:
        _paragraph(f"error: {found.sweep.error}", 2)
    for subset, tasks in enumerate(definition.tasks):
        best, test = found.best(subset), found.test(subset)
        click.echo(textwrap.fill(f"tasks {', '.join(tasks)}", WIDTH, subsequent_indent="  "))
        trials = sorted(found.of_subset(subset), key=lambda one: (one.value is None, -(one.value or 0)))
        rows = [
            [str(one.number), one.state if one.value is None else f"{100 * one.value:.1f} %", trial_in_words(one)]
            for one in trials
        ]
        print_table(["trial", "validation", "method"], rows, right=("trial", "validation"))
        if best is None or best.value is None or test is None or test.state == "open":
            continue
        said = f"{100 * test.value:.1f} % (run {test.run})" if test.value is not None else f"not measured: {test.error}"
        click.echo(f"best {objective} on validation: trial {best.number}, {100 * best.value:.1f} %; on test {said}")
