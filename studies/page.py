"""``python -m studies.page``: the page ``docs/awd-study.md`` and its plots, from the results in ``studies/results``."""

import json
import string
from pathlib import Path

import click
import numpy as np

from merging.core.files import atomic_path
from merging.weights.geometry import mean_abs_cosine
from studies import tables
from studies.awd import RESULTS
from studies.related import cosine_after, stronger_table
from studies.tables import Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "awd-study.md"
TEMPLATE = Path(__file__).parent / "awd-study.template.md"
PLOTS = ROOT / "docs" / "images" / "study"


def load(name: str) -> Result:
    """Results as :mod:`studies.awd` wrote them."""
    study: Result = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return study


def render(first: Result, second: Result, related: Result) -> str:
    """The page: the template with every table and number filled in.

    Args:
        first: results on the embedded suite.
        second: results on the same suite trained once more from another seed; only some sections of the study.
        related: what :mod:`studies.related` stored of both embedded suites.
    """
    numbers: dict[str, str] = {}
    for key, study in (("", first), ("_again", second)):
        numbers |= {
            f"zero_shot{key}": _mean(study["zero_shot"]),
            f"individual{key}": _mean(study["individual"]),
            f"cosine{key}": f"{mean_abs_cosine(np.array(study['before'])):.3f}",
            f"combinations{key}": tables.markdown(*tables.combinations_table(study, 10)),
            f"subsets{key}": tables.markdown(*tables.subsets_table(study)),
        }
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        numbers,
        solvers=tables.markdown(*tables.solvers_table(first)),
        merges_best=tables.markdown(*tables.merges_table(first, best=True)),
        merges_fixed=tables.markdown(*tables.merges_table(first, best=False)),
        counts=tables.markdown(*tables.counts_table(first)),
        **{
            f"ta_{name}again": f"{tables.average(result):.1f}"
            for name, label in (("", ""), ("model_", "AWD + "), ("layer_", "AWD (layer) + "), ("row_", "AWD (row) + "))
            for result in tables.pick(second["combinations"], label=f"{label}Task Arithmetic", tasks=second["tasks"])
        },
        **{
            f"{kind}_{key}": made
            for key, name in (("orthogonal", "mini"), ("related", "mini-related"))
            for kind, made in (
                ("stronger", tables.markdown(*stronger_table(related[name]))),
                ("cosine", f"{mean_abs_cosine(np.array(related[name]['before'])):.3f}"),
                ("cosine_row", f"{cosine_after(related[name], 'row'):.3f}"),
            )
        },
        pairs=str(sum(len(one["tasks"]) == len(first["tasks"]) for one in first["combinations"])),
    )


def _mean(accuracy: dict[str, float]) -> str:
    return f"{100 * float(np.mean(list(accuracy.values()))):.1f}"


@click.command()
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the plots anew; needs Chromium.")
def main(plots: bool) -> None:
    """Write the page from the results of `python -m studies.awd`."""
    first, second, related = load("mini"), load("mini-1"), load("related")
    with atomic_path(PAGE) as temporary:
        temporary.write_text(render(first, second, related), encoding="utf-8")
    if plots:
        from studies.plots import counts_figure, merges_figure, scaling_figure, write_svgs

        figures = {"merges": merges_figure, "scaling": scaling_figure, "counts": counts_figure}
        write_svgs({name: draw(first) for name, draw in figures.items()}, PLOTS)
    click.echo(f"{PAGE.relative_to(ROOT)} is written", err=True)


if __name__ == "__main__":
    main()
