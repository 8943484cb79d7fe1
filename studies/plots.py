"""Plots of the study as SVG files: plotly draws them in a Chromium without a window."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

from studies.cases import VARIANTS
from studies.tables import AWD_OF, Result, average, gains_by_count, merge_names, merge_title, only
from tests.dashboard import launch

WIDTH, HEIGHT = 860, 380
COLORS = {"none": "#7a808a", "model": "#2e93d1", "layer": "#cc7f00", "row": "#0a9a72"}
SYMBOLS = {"none": "line-ns", "model": "circle", "layer": "square", "row": "diamond"}


def merges_figure(study: Result) -> go.Figure:
    """Accuracy of every merge at its own best λ, without AWD and with each scope."""
    values: dict[str, dict[str, float]] = {variant: {} for variant in VARIANTS}
    for merge in merge_names(study):
        for variant in VARIANTS:
            found = {"section": "merges", "merge": merge, "variant": variant}
            result = only(study["cases"], best=True, **found) or only(study["cases"], best=False, **found)
            if result is not None:
                values[variant][merge] = average(result)
    order = sorted(values["none"], key=lambda merge: values["none"][merge])
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": AWD_OF[variant],
            "y": [merge_title(merge) for merge in order],
            "x": [values[variant].get(merge) for merge in order],
            "marker": {
                "symbol": SYMBOLS[variant],
                "size": 11 if variant == "none" else 9,
                "color": COLORS[variant],
                "line": {"width": 3 if variant == "none" else 0, "color": COLORS[variant]},
            },
        }
        for variant in VARIANTS
    ]
    return figure(traces, "average test accuracy (%)", "", height=60 + 34 * len(order))


def scaling_figure(study: Result) -> go.Figure:
    """Validation accuracy of Task Arithmetic over λ, without AWD and with each scope."""
    traces = []
    for variant in VARIANTS:
        result = only(study["cases"], section="merges", merge="task_arithmetic", variant=variant, best=True)
        if result is not None:
            search = result["search"]
            traces.append(
                _line(
                    AWD_OF[variant], variant, search["scalings"], [100 * value for value in search["average_accuracy"]]
                )
            )
    return figure(traces, "λ", "average validation accuracy (%)")


def counts_figure(study: Result) -> go.Figure:
    """What AWD adds to Task Arithmetic, by the number of tasks: mean over subsets, each subset a faint dot."""
    traces: list[dict[str, Any]] = []
    for variant in ("model", "layer"):
        for best in (False, True):
            gains = gains_by_count(study, variant, best)
            name = f"{AWD_OF[variant]}, {'best λ' if best else 'λ = 0.3'}"
            line = _line(name, variant, list(gains), [float(np.mean(values)) for values in gains.values()])
            line["line"]["dash"] = "solid" if best else "dot"
            dots = [(count, value) for count, values in gains.items() for value in values]
            traces += [
                line,
                {
                    "type": "scatter",
                    "mode": "markers",
                    "showlegend": False,
                    "x": [x for x, _ in dots],
                    "y": [y for _, y in dots],
                    "marker": {"color": COLORS[variant], "size": 5, "opacity": 0.35},
                },
            ]
    return figure(traces, "number of tasks", "gain over Task Arithmetic (points)", xaxis={"dtick": 1})


def _line(name: str, variant: str, x: list[float], y: list[float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": COLORS[variant], "width": 2},
        "marker": {"symbol": "circle" if variant == "none" else SYMBOLS[variant], "size": 6, "color": COLORS[variant]},
    }


def figure(traces: list[dict[str, Any]], x: str, y: str, height: int = HEIGHT, **layout: Any) -> go.Figure:
    """A figure in the studies' style, from traces, what the axes show, and further layout."""
    grid = {"gridcolor": "#e3e6ea", "zerolinecolor": "#b7bdc6", "automargin": True}
    return go.Figure(
        traces,
        {
            "width": WIDTH,
            "height": height,
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "font": {"family": "Helvetica, Arial, sans-serif", "size": 13, "color": "#24292f"},
            "margin": {"l": 8, "r": 16, "t": 44, "b": 8},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {"title": {"text": x}, **grid, **layout.pop("xaxis", {})},
            "yaxis": {"title": {"text": y}, **grid},
            **layout,
        },
    )


def write_svgs(figures: Mapping[str, go.Figure], folder: Path) -> None:
    """Write every figure as ``NAME.svg`` into a folder.

    Raises:
        RuntimeError: there is no Chromium on this machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.set_content("<div id='plot'></div>")
        page.add_script_tag(content=get_plotlyjs())
        for name, figure in figures.items():
            address = page.evaluate(
                "([figure, width, height]) => Plotly.toImage(JSON.parse(figure), {format: 'svg', width, height})",
                [figure.to_json(), WIDTH, figure.layout.height],
            )
            (folder / f"{name}.svg").write_bytes(_decoded(address))
        browser.close()


def _decoded(address: str) -> bytes:
    """The content of a ``data:`` address."""
    head, _, body = address.partition(",")
    return base64.b64decode(body) if head.endswith("base64") else unquote_to_bytes(body)
