"""Commands for methods of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merging.cli.group import main
from merging.cli.options import PathAsTyped, json_option, read_settings, set_option
from merging.cli.results import print_json
from merging.core.errors import SpecError
from merging.core.places import method_places


@main.command("new-method")
@click.argument("name")
@click.option("--edit", "is_edit", is_flag=True, help="An edit of the task vectors (default: a merge).")
@click.option(
    "--folder",
    type=PathAsTyped(file_okay=False, exists=True),
    help="Where (default: the first folder of MERGING_METHODS, else the one you are in).",
)
def new_method(name: str, is_edit: bool, folder: Path | None) -> None:
    """Write NAME.py, a method of your own to begin with, and test_NAME.py."""
    from merging.methods.template import write_template

    if folder is None:
        folder = next((place for place in method_places() if place.is_dir()), Path())
    files = write_template("edit" if is_edit else "merge", name, folder)
    for file in files:
        click.echo(f"written: {file}")
    stage = f"--{'edit' if is_edit else 'merge'} {name}"
    there = folder.resolve() in {place.resolve() for place in method_places()}
    options = "" if there else f" --methods {files[0]}"
    click.echo(f"try it: merging check-method {name}{options}")
    click.echo(f"        merging merge mini {stage} --evaluate{options}")
    if not there:
        click.echo(f"to have it everywhere: export MERGING_METHODS={folder.resolve()}")


@main.command("check-method")
@click.argument("name")
@set_option
@json_option
def check_method(name: str, settings: Sequence[str], as_json: bool) -> None:
    """Try the edit or merge NAME on small random models: which properties that every method should have hold?

    One may be missing for a reason (Iso-C does not give one task's model back); the exit status is 1 then, too.
    """
    from merging.methods import own, registry
    from merging.methods.properties import check, few

    values = read_settings(settings)
    tables: dict[Any, Any] = {"edit": registry.edits(), "merge": registry.merges()}
    kinds = [kind for kind, table in tables.items() if name in table]
    if not kinds:
        raise SpecError(f"there is neither an edit nor a merge {name!r}; see `methods`{own.aside()}")
    found = {kind: check(kind, name, values[kind]) for kind in kinds}
    if as_json:
        print_json({kind: [vars(one) for one in findings] for kind, findings in found.items()})
    else:
        for kind, findings in found.items():
            source = tables[kind][name].source
            click.echo(f"{kind} {name}" + (f", from {source.name}, SHA-256 {source.sha256[:12]}" if source else ""))
            if fewer := few(kind, name, values[kind]):
                taken = ", ".join(f"{kind}.{each}={value}" for each, value in fewer.items())
                click.echo(f"on random images, with {taken} (--set tries others)")
            for one in findings:
                word = "holds" if one.holds else "FAILS" if one.fault else "not tried"
                click.echo(f"{word:<11}{one.name}" + f": {one.fault or one.left_out}" * (not one.holds))
    if any(one.fault for findings in found.values() for one in findings):
        click.get_current_context().exit(1)
