"""``python -m studies.variants``: published choices beside others, on the embedded suite.

Which tensors count as layers, settings tied to the scale of CLIP's weights, how Fisher information is normalised, and
how many images AdaMerging takes a step: each method both ways, λ chosen on validation images where there is one.
Writes ``studies/results/variants.json``, of which :mod:`studies.docs` makes tables. Finished runs are never done again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from merging.core.files import atomic_path
from merging.core.progress import no_progress
from merging.methods.pair import Pair
from merging.methods.params import AUTO
from merging.runs.export.weights import require_done
from merging.runs.foreground import run_here
from merging.runs.jobs.merge import MergeSpec
from merging.runs.workspace import Workspace
from merging.suites.suite import load_suite

RESULTS = Path(__file__).parent / "results" / "variants.json"


@dataclass(frozen=True)
class Variant:
    """One way of running a method.

    Attributes:
        table: which table it is a row of.
        method: what the row is called.
        choice: which of the row's cells it is.
        settings: the method, as :meth:`merging.methods.pair.Pair.read` takes it.
    """

    table: str
    method: str
    choice: str
    settings: str

    @property
    def pair(self) -> Pair:
        """The method, its λ chosen on validation if it has one and none is given."""
        pair = Pair.read(self.settings)
        given = pair.scaling is None or "merge.scaling=" in self.settings
        return pair if given else pair.with_scaling(AUTO)


_WUDI, _CLOSED = "merge=wudi merge.units=published", "merge=wudi merge.solver=closed_form"
VARIANTS = (  # the published choices are those of the leaderboard
    Variant("layers", "WUDI, closed form", "all_linear", f"{_CLOSED} merge.layers=all_linear"),
    Variant("layers", "ACE-Merging", "all_linear", "merge=ace merge.layers=all_linear"),
    Variant("layers", "RegMean++", "all_linear", "merge=regmean_plus_plus merge.layers=all_linear"),
    Variant("layers", "RegMean", "all_linear", "merge=regmean merge.layers=all_linear"),
    Variant("layers", "TSV-M", "all_linear", "merge=tsv_m merge.layers=all_linear"),
    Variant("layers", "WUDI", "all_linear", f"{_WUDI} merge.layers=all_linear"),
    Variant("layers", "DOGE TA", "all_linear", "edit=doge edit.layers=all_linear edit.units=published"),
    Variant("layers", "Iso-C", "all_linear", "merge=iso_c merge.layers=all_linear"),
    Variant("layers", "Iso-CTS", "all_linear", "merge=iso_cts merge.layers=all_linear"),
    Variant("units", "WUDI", "relative", "merge=wudi merge.units=relative"),
    Variant("units", "DOGE TA", "relative", "edit=doge edit.units=relative"),
    Variant("units", "DOGE TA", "λ = 1", "edit=doge edit.units=published merge.scaling=1.0"),
    Variant("units", "DOGE TA", "relative, λ = 1", "edit=doge edit.units=relative merge.scaling=1.0"),
    Variant("fisher", "none", "λ = 1", "merge=fisher merge.scaling=1.0"),
    Variant("fisher", "length", "λ = 1", "merge=fisher merge.normalise=length merge.scaling=1.0"),
    Variant("fisher", "none", "validation", "merge=fisher merge.scaling=auto"),
    Variant("fisher", "length", "validation", "merge=fisher merge.normalise=length merge.scaling=auto"),
    Variant("batch", "AdaMerging", "16", "merge=adamerging merge.batch_size=16"),
)


def measure(variant: Variant, workspace: Workspace) -> dict[str, Any]:
    """Average test accuracy, 0 … 1, and the λ that was chosen."""
    tasks = load_suite("mini").mergeable()
    spec = MergeSpec.build(suite="mini", tasks=tasks, device="cpu", **variant.pair.fields)
    result = require_done(run_here(spec, workspace, None, no_progress))
    found = {"table": variant.table, "method": variant.method, "choice": variant.choice, "settings": variant.pair.text}
    return {**found, "average": result.average, "scaling": result.merge.scaling, "seconds": result.seconds["total"]}


@click.command()
@click.option("--home", type=click.Path(path_type=Path), default=Path(".merging"), help="Folder for runs and caches.")
@click.option("--table", "tables", multiple=True, help="Only these tables; the others stay as they are stored.")
def main(home: Path, tables: tuple[str, ...]) -> None:
    """Measure every variant and store what came out."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    wanted = [variant for variant in VARIANTS if not tables or variant.table in tables]
    rows = [row for row in stored if tables and row["table"] not in tables]
    for number, variant in enumerate(wanted):
        click.echo(f"{number + 1}/{len(wanted)} {variant.table}: {variant.method}, {variant.choice}", err=True)
        rows.append(measure(variant, Workspace(home)))
        with atomic_path(RESULTS) as temporary:
            temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
