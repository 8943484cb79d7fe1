"""Commands about suites, their files, and what there is to run on them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merging.cli.group import main
from merging.cli.options import (
    PathAsTyped,
    dashboards_suites,
    device_option,
    home_option,
    json_option,
    open_workspace,
    progress_on_stderr,
    read_checkpoints,
    read_datasets,
    read_names,
    suite_argument,
    take_option,
)
from merging.cli.results import print_converted, print_downloaded, print_json, print_proposal, print_report
from merging.cli.text import print_methods
from merging.core.errors import MergingError
from merging.core.text import counted, visible


@main.command()
@json_option
def suites(as_json: bool) -> None:
    """List the suites that come with the package, those downloaded, and those below the folders of MERGING_SUITES.

    Each with how many of its models are here, and by the name that commands take.
    """
    from merging.suites.suite import DEFAULT, builtin_suites, downloaded_suites, load_suite, reading_order

    rows: list[dict[str, Any]] = []
    references = {name: name for name in sorted(builtin_suites(), key=reading_order)}
    for name, reference in (references | dashboards_suites() | {hub: hub for hub in downloaded_suites()}).items():
        try:
            suite = load_suite(reference)
        except MergingError as error:  # of one's own, which hides no other
            click.echo(visible(f"{name} can't be read: {error}"), err=True)
            continue
        missing = [str(each) for each in suite.missing_weights(suite.task_names)]
        rows.append(
            {
                "name": name,
                "title": suite.label,
                "architecture": suite.architecture_label,
                "tasks": list(suite.task_names),
                "groups": {name: list(tasks) for name, tasks in suite.task_groups.items()},
                "usual": suite.usual,
                "default": name == DEFAULT,
                "missing": missing,
                "missing_usual": [str(each) for each in suite.missing_weights(suite.usual_tasks)],
            }
        )
    if as_json:
        print_json({"suites": rows})
        return
    for row in rows:
        here = f"{counted(len(row['missing']), 'file')} missing" if row["missing"] else "all files here"
        if row["usual"] and row["missing"] and not row["missing_usual"]:
            here = f"all files of group:{row['usual']} here, {counted(len(row['missing']), 'other')} missing"
        what = f"{row['title']}, {row['architecture']}, {counted(len(row['tasks']), 'task')}"
        click.echo(f"{row['name']}  {what}, {here}")
        click.echo(f"  {', '.join(row['tasks'])}")
        if row["groups"]:
            groups = ", ".join(f"group:{name} ({counted(len(tasks), 'task')})" for name, tasks in row["groups"].items())
            click.echo(f"  {groups}; without --tasks: {'all' if row['usual'] is None else 'group:' + row['usual']}")


@main.command()
@json_option
def methods(as_json: bool) -> None:
    """List edits, merges and the published methods made of them, with their parameters."""
    from merging.methods.catalogue import catalogue

    found = catalogue()
    if as_json:
        print_json(found)
        return
    print_methods(found)


@main.command()
@suite_argument
@click.option("--accuracy", is_flag=True, help="Measure the fine-tuned models too: test far above validation is odd.")
@click.option("--deep", is_flag=True, help="Measure them under the other activation too, QuickGELU or GELU.")
@device_option
@home_option
@json_option
def check(suite: str, accuracy: bool, deep: bool, device: str, home: Path, as_json: bool) -> None:
    """Check every file of SUITE: weights, heads, images."""
    from merging.core import devices
    from merging.core.files import require_folder
    from merging.runs.jobs.check import check_suite
    from merging.suites.suite import load_suite

    workspace = open_workspace(home) if accuracy or home.is_dir() else None  # looking alone makes no folder
    if accuracy and workspace is not None:
        require_folder(workspace.home)
    where = devices.resolve(device)
    report = check_suite(load_suite(suite), progress_on_stderr(), workspace, where, accuracy, deep=deep)
    if as_json:
        print_json(_printed(report))
    else:
        print_report(report)
    if report.problems:
        sys.exit(1)


@main.command("init-suite")
@click.argument("folder", type=PathAsTyped(file_okay=False))
@click.option("--base", type=PathAsTyped(), help="The pre-trained weights (default: found by its name).")
@click.option("--name", help="Name of the suite (default: the folder's).")
@click.option("--force", is_flag=True, help="Replace a suite.yaml that is there.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="TASK=NAME",
    help="Task TASK is on the known data set NAME, such as SUN397; NAME none: on none of them.",
)
@click.option("--no-datasets", is_flag=True, help="Take no task for a known data set because of its name.")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="TASK=NAME",
    help="Which of several checkpoints of one training, such as sun397=checkpoint-500.",
)
@take_option
@click.option(
    "--activation", type=click.Choice(["quick_gelu", "gelu"]), help="Of the models, where no file and no name says it."
)
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads, where no file says and sizes are unusual.")
@click.option(
    "--image-size", type=click.IntRange(1, 2**14), help="Interpolate position embeddings of another size to N pixels."
)
@json_option
def init_suite_command(
    folder: Path,
    base: Path | None,
    name: str | None,
    force: bool,
    datasets: Sequence[str],
    no_datasets: bool,
    checkpoints: Sequence[str],
    take: str | None,
    activation: Any,
    heads: int | None,
    image_size: int | None,
    as_json: bool,
) -> None:
    """Write FOLDER/suite.yaml by looking at the checkpoints, heads and images in FOLDER, and check them.

    Tasks that are called like the data sets of the published suites (sun397, stanford-cars, …) get the class names,
    prompt templates and images of these.
    """
    from merging.runs.jobs.check import check_suite
    from merging.suites.initialise import Answers, init_suite
    from merging.suites.suite import load_suite

    answers, chosen = Answers(activation, heads, image_size), read_checkpoints(checkpoints)
    made = init_suite(folder, base, name, force, read_datasets(datasets), not no_datasets, chosen, take, answers)
    report = check_suite(load_suite(folder), progress_on_stderr())
    if as_json:
        print_json(
            {
                "written": str(folder / "suite.yaml"),
                "suite": made.content,
                "notes": made.notes,
                "missing": list(made.missing),
                "left_out": made.left_out,
                "check": _printed(report),
            }
        )
    else:
        click.echo(f"written: {folder / 'suite.yaml'}")
        print_proposal(made)
        print_report(report)
    if report.problems:
        sys.exit(1)


@main.command()
@click.argument("files", nargs=-1, required=True, type=PathAsTyped())
@click.option(
    "--output",
    "folder",
    required=True,
    type=PathAsTyped(file_okay=False),
    help="Folder for the .safetensors files; the tree of folders that FILES are in is kept.",
)
@take_option
@json_option
def convert(files: tuple[Path, ...], folder: Path, take: str | None, as_json: bool) -> None:
    """Take visual towers and heads out of FILES, whole pickled models too, without running what is in them.

    A file may also be the index of a sharded model, or a folder with one.
    """
    from merging.core.files import require_parent
    from merging.weights.convert import convert as converted
    from merging.weights.convert import targets

    require_parent(folder)
    rows, report = [], progress_on_stderr()
    for done, (file, target) in enumerate(targets(files, folder).items()):
        report(done, len(files), f"reading {file.name}")
        rows.append(converted(file, target, take))
        if not as_json:
            print_converted(rows[-1])
    if as_json:
        print_json({"files": [row.as_json() for row in rows]})
    if any(row.output is None for row in rows):
        sys.exit(1)


@main.command()
@suite_argument
@click.option("--tasks", help="Task names with commas, or group:NAME, kind:NAME (default: the usual ones, or all).")
@click.option("--data", is_flag=True, help="Get images too; those of all eight published tasks are many gigabytes.")
@json_option
def download(suite: str, tasks: str | None, data: bool, as_json: bool) -> None:
    """Get the missing files of SUITE from the Hugging Face hub, each compared with its checksum.

    SUITE may also be the id, owner/name, of a model repository that holds a suite.yaml. What broke off goes on where it
    stopped.
    """
    from merging.runs.jobs.download import download as downloaded

    names = None if tasks is None else list(read_names("--tasks", tasks))
    found = downloaded(suite, names, data, progress_on_stderr())
    if as_json:
        print_json(_printed(found))
    else:
        print_downloaded(found)
    if found.missing:
        click.get_current_context().exit(1)


@main.command()
@click.option("--family", help="task_arithmetic or fusion_bench: which published checkpoints (default: both, apart).")
@click.option("--architecture", help="ViT-B-32, ViT-B-16 or ViT-L-14 (default: all).")
@json_option
def published(family: str | None, architecture: str | None, as_json: bool) -> None:
    """Print published accuracies of merging methods on CLIP, by family of checkpoints and number of tasks."""
    from merging.suites.reported import reported_tables, to_markdown

    tables = reported_tables().select(family, architecture)
    if as_json:
        found = reported_tables().model_dump(mode="json", exclude={"tables"})
        print_json({**found, "tables": [table.model_dump(mode="json") for table in tables]})
    else:
        click.echo(to_markdown(tables), nl=False)


def _printed(report: Any) -> dict[str, Any]:
    """What a job on files found, without what the job is called in the table of runs."""
    values: dict[str, Any] = report.model_dump(mode="json", exclude={"label"})
    return values
