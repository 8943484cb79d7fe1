"""Charts of task vectors: cosines before and after an edit, per layer, norms, multipliers, the 2-D map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from merging.charts import theme
from merging.core.text import printed
from merging.weights.geometry import Geometry, block_of

_GAP = 0.03  # between heat maps, as a share of the width
MAX_NUMBERED = 12  # tasks up to which cells carry their number, and all points their names
_ROW = 17  # pixels that a name on an axis needs
_NARROW = 14  # letters of a name that a narrow screen has room for
_BETWEEN = 136  # pixels between heat maps below each other: the names of columns, and the next one's title


def cosine_limit(before: np.ndarray, after: np.ndarray, zoom: bool) -> float:
    """End of the symmetric colour scale: 1, or the largest |cos| between different tasks, rounded up to 0.05."""
    if not zoom or len(before) < 2:
        return 1.0
    off = ~np.eye(len(before), dtype=bool)
    largest = max(float(np.abs(m[off]).max()) for m in (before, after, after - before))
    return min(1.0, max(0.05, float(np.ceil(largest * 20 - 1e-9) / 20)))


def cosine_figure(
    before: np.ndarray,
    after: np.ndarray,
    tasks: Sequence[str],
    *,
    limit: float = 1.0,
    dark: bool = False,
    stacked: bool = False,
) -> go.Figure:
    """Cosines between tasks ``[T, T]`` before an edit, after it, and their difference, on one symmetric scale.

    Args:
        before: cosines of the task vectors.
        after: cosines of the edited ones.
        tasks: what to call them, in the order of the rows.
        limit: the scale runs from minus to plus this.
        dark: whether the page is dark.
        stacked: whether they stand one below the other, for a narrow screen.
    """
    hover = [theme.plain(task) for task in tasks]
    places = list(range(len(tasks)))
    pairs = [[f"{a} · {b}" for b in hover] for a in hover]
    gap = 1.5 if len(tasks) <= MAX_NUMBERED else 0.5  # on phones cells of many tasks are a few pixels wide
    maps = (("Before", before), ("After", after), ("Difference, after − before", after - before))
    layout = _below_each_other(tasks) if stacked else _beside_each_other(tasks)
    traces, titles = [], []
    for number, (title, matrix) in enumerate(maps):
        suffix = str(number + 1) if number else ""
        down = suffix if stacked else ""
        start, end = layout[f"xaxis{suffix}"]["domain"]
        titles.append({**theme.caption(title, (start + end) / 2), "y": layout[f"yaxis{down}"]["domain"][1]})
        traces.append(
            _trace(
                "heatmap",
                z=np.round(matrix, 4),
                x=places,
                y=places,
                xaxis=f"x{suffix}",
                yaxis=f"y{down}",
                xgap=gap,
                ygap=gap,
                coloraxis="coloraxis",
                text=_cell_texts(matrix, limit, dark) if len(tasks) <= MAX_NUMBERED else None,
                texttemplate="%{text}",
                textfont={"size": 11 if len(tasks) <= 8 else 9},
                customdata=pairs,
                hovertemplate="%{customdata}<br>%{z:.4f}<extra></extra>",
            )
        )
    scale = {"tickvals": [-limit, 0, limit], "ticktext": [printed(-limit), "0", printed(limit)]}
    colours = {"colorscale": theme.diverging_scale(dark), "cmin": -limit, "cmax": limit, "cmid": 0}
    bar = {"thickness": 8, "outlinewidth": 0, **layout.pop("colorbar"), **scale}
    return theme.compose(
        traces, legend=False, dragmode=False, annotations=titles, **layout, coloraxis={**colours, "colorbar": bar}
    )


def _beside_each_other(tasks: Sequence[str]) -> dict[str, Any]:
    """Height, axes and colour bar of three maps in a row, whose rows have their names on the left."""
    names = {**names_on_axis(tasks), "showgrid": False}
    across = {**names, "anchor": "y", "tickangle": -45 if len(tasks) <= MAX_NUMBERED else -90}
    starts = [number * (1 + _GAP) / 3 for number in range(3)]
    found: dict[str, Any] = {
        f"xaxis{suffix}": {**across, "domain": [start, start + (1 - 2 * _GAP) / 3]}
        for suffix, start in zip(("", "2", "3"), starts, strict=True)
    }
    return {
        **found,
        "yaxis": {**names, "domain": [0, 1], "autorange": "reversed"},
        "height": _height(tasks, 380, 170),
        "colorbar": {"xpad": 6},
    }


def _below_each_other(tasks: Sequence[str]) -> dict[str, Any]:
    """The same of three maps that each take the whole width, with all names at each and the colour bar on top."""
    names = {**names_on_axis(tasks, _NARROW), "showgrid": False}
    high = _ROW * max(len(tasks), 4)
    whole = 3 * high + 2 * _BETWEEN
    found: dict[str, Any] = {}
    for number, suffix in enumerate(("", "2", "3")):
        top = 1 - number * (high + _BETWEEN) / whole
        found[f"xaxis{suffix}"] = {**names, "domain": [0, 1], "anchor": f"y{suffix}", "tickangle": -60}
        below = max(0.0, top - high / whole)
        found[f"yaxis{suffix}"] = {**names, "domain": [below, top], "anchor": f"x{suffix}", "autorange": "reversed"}
    return {
        **found,
        "height": whole + 70 + _BETWEEN,
        "colorbar": {"orientation": "h", "y": 1, "yanchor": "bottom", "ypad": 26, "len": 0.8},
    }


def pair_table(before: np.ndarray, after: np.ndarray, tasks: Sequence[str]) -> pd.DataFrame:
    """Every pair of tasks as a row."""
    rows, columns = np.triu_indices(len(tasks), 1)
    return pd.DataFrame(
        {
            "task": [tasks[i] for i in rows.tolist()],
            "other task": [tasks[j] for j in columns.tolist()],
            "before": before[rows, columns],
            "after": after[rows, columns],
            "difference": (after - before)[rows, columns],
        }
    )


def _trace(kind: str, **settings: Any) -> dict[str, Any]:
    """A trace as plain values: plotly checks these ten times faster than its own trace objects."""
    return {"type": kind, **settings}


def names_on_axis(tasks: Sequence[str], length: int = 18) -> dict[str, Any]:
    """Settings of an axis on which task i stands at i: as categories, equal short forms would fall together."""
    names = [theme.plain(theme.shorten(task, length)) for task in tasks]
    return {"tickvals": list(range(len(names))), "ticktext": names, "zeroline": False}


def _height(tasks: Sequence[str], least: int = 340, besides: int = 120) -> int:
    """Height of a chart with a row a task: no less than the charts beside it, and room for every name."""
    return max(least, besides + _ROW * len(tasks))


def _cell_texts(matrix: np.ndarray, limit: float, dark: bool) -> list[list[str]]:
    """Two decimals without the leading zero, as there is little room: ``.12``, ``−.07``."""
    return [[theme.on_cell(_short_number(value), value / limit, dark) for value in row] for row in matrix]


def _short_number(value: float) -> str:
    text = f"{value:.2f}"
    if float(text) in (0, 1, -1):
        return printed(float(text) + 0.0, ".0f")  # no −0
    return printed(value, ".2f").replace("0.", ".", 1)


def layer_figure(
    labels: Sequence[str], before: np.ndarray, after: np.ndarray, *, chosen: str | None = None, dark: bool = False
) -> go.Figure:
    """Mean |cos| over pairs of tasks in every layer (or block), before and after, in the order of the tower."""
    positions = list(range(len(labels)))
    names = [theme.plain(name) for name in labels]
    traces = [_links(np.stack([positions, before], axis=1), np.stack([positions, after], axis=1), dark)]
    traces += [
        _trace(
            "scatter",
            x=positions,
            y=np.round(values, 5),
            name=label,
            mode="markers",
            customdata=names,
            marker={"symbol": style.symbol, "size": 6, "color": style.color},
            hovertemplate="%{customdata}<br>mean |cos| %{y:.4f}<extra>" + label + "</extra>",
        )
        for label, values, style in (("before", before, theme.BEFORE), ("after", after, theme.AFTER))
    ]
    marks = [_upright(list(labels).index(chosen), dark, "dot")] if chosen is not None and chosen in labels else []
    return theme.compose(
        traces,
        height=340,
        shapes=marks,
        xaxis=_blocks_on_axis(labels),
        yaxis={"title": {"text": "mean |cos|"}, "rangemode": "tozero"},
    )


def _upright(x: float, dark: bool, dash: str = "solid") -> dict[str, Any]:
    """A vertical reference line over the whole height."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": theme.neutral(dark), "width": 1, "dash": dash},
    }


def _blocks_on_axis(labels: Sequence[str]) -> dict[str, Any]:
    """Settings of an axis on which tensor i stands at i, with the names of the blocks."""
    places, names = block_ticks(labels)
    return {"tickvals": places, "ticktext": names, "tickangle": 0, "showgrid": False, "zeroline": False}


_TICKS = {"output": "out"}  # beside the last block there is little room


def block_ticks(labels: Sequence[str]) -> tuple[list[float], list[str]]:
    """One tick in the middle of each run of tensors of the same block; a block's own label stays as it is."""
    blocks = [label if " " in label or label in ("stem", "output") else block_of(label) for label in labels]
    starts = [i for i, block in enumerate(blocks) if i == 0 or blocks[i - 1] != block]
    ends = [*starts[1:], len(blocks)]
    names = [_TICKS.get(blocks[start], blocks[start]) for start in starts]
    return [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)], names


def tower_order(geometry: Geometry) -> list[int]:
    """Indices of the tensors from the input to the output of the tower; names alone sort block 10 before block 2."""
    blocks = {label: place for place, label in enumerate(geometry.at("block")[0])}
    return sorted(range(len(geometry.names)), key=lambda index: (blocks[block_of(geometry.names[index])], index))


def multiplier_figure(multipliers: np.ndarray, tasks: Sequence[str], *, dark: bool = False) -> go.Figure:
    """What each task vector is multiplied by, 1 − T a ``[T]``, as bars from 1."""
    bars = _trace(
        "bar",
        x=np.round(multipliers - 1, 6),
        base=1.0,
        y=list(range(len(tasks))),
        orientation="h",
        marker={"color": theme.AFTER.color},
        customdata=_hover(tasks, multipliers),
        text=[printed(value, ".3f") for value in multipliers],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{customdata[0]}<br>× %{customdata[1]}<extra></extra>",
    )
    low, high = min(0.0, float(multipliers.min())), max(1.0, float(multipliers.max()))
    room = 0.15 * (high - low)  # for the numbers outside the bars
    limits = [low - room if low < 0 else 0.0, high + room]
    return theme.compose(
        [bars],
        height=_height(tasks),
        legend=False,
        shapes=[_upright(1, dark)],
        xaxis={"title": {"text": "multiplier of the task vector, 1 − T·a"}, "range": limits, "zeroline": False},
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
    )


def multiplier_table_figure(
    multipliers: np.ndarray, labels: Sequence[str], tasks: Sequence[str], *, dark: bool = False
) -> go.Figure:
    """Multipliers per layer and task ``[L, T]``; the colours' middle is 1, no change."""
    reach = max(0.01, float(np.abs(multipliers - 1).max()))
    cells = _trace(
        "heatmap",
        z=np.round(multipliers.T, 4),
        x=list(range(len(labels))),
        y=list(range(len(tasks))),
        colorscale=theme.diverging_scale(dark),
        zmin=1 - reach,
        zmax=1 + reach,
        colorbar={"thickness": 8, "outlinewidth": 0, "xpad": 6},
        customdata=[[f"{theme.plain(task)}<br>{theme.plain(label)}" for label in labels] for task in tasks],
        hovertemplate="%{customdata}<br>× %{z:.4f}<extra></extra>",
    )
    return theme.compose(
        [cells],
        height=_height(tasks),
        legend=False,
        xaxis=_blocks_on_axis(labels),
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
    )


def objective_figure(curve: np.ndarray, *, unit: str) -> go.Figure:
    """The objective over the iterations; ``unit`` names them."""
    line = _trace(
        "scatter",
        y=np.round(curve, 6),
        mode="lines+markers" if len(curve) < 30 else "lines",
        line={"color": theme.AFTER.color, "width": 2},
        hovertemplate=unit + " %{x}<br>L = %{y:.5f}<extra></extra>",
    )
    return theme.compose(
        [line],
        height=240,
        legend=False,
        yaxis={"title": {"text": "objective L"}},
        xaxis={**theme.step_axis(len(curve) - 1, unit), "showgrid": False, "rangemode": "tozero"},
    )


def norm_figure(before: np.ndarray, after: np.ndarray, tasks: Sequence[str], *, dark: bool = False) -> go.Figure:
    """Norm of every task vector before and after, as two dots on a line."""
    rows = np.arange(len(tasks))
    traces = [_links(np.stack([before, rows], axis=1), np.stack([after, rows], axis=1), dark)]
    traces += [
        _trace(
            "scatter",
            x=np.round(values, 5),
            y=rows,
            name=label,
            mode="markers",
            customdata=_hover(tasks, values),
            marker={"symbol": style.symbol, "size": 10, "color": style.color},
            hovertemplate="%{customdata[0]}<br>norm %{customdata[1]}<extra>" + label + "</extra>",
        )
        for label, values, style in (("before", before, theme.BEFORE), ("after", after, theme.AFTER))
    ]
    return theme.compose(
        traces,
        height=_height(tasks),
        xaxis={"title": {"text": "norm of the task vector"}, "rangemode": "tozero", "zeroline": False},
        yaxis={**names_on_axis(tasks), "autorange": "reversed", "showgrid": False},
    )


def _hover(tasks: Sequence[str], values: np.ndarray) -> list[tuple[str, str]]:
    """Full name and value of each task, for hover texts."""
    return [(theme.plain(task), printed(value, ".4f")) for task, value in zip(tasks, values, strict=True)]


def _links(starts: np.ndarray, ends: np.ndarray, dark: bool) -> dict[str, Any]:
    """Thin lines from each start to its end, ``[N, 2]`` both, as one trace with gaps."""
    path = np.stack([starts, ends, np.full_like(starts, np.nan, dtype=float)], axis=1).reshape(-1, 2)
    return _trace(
        "scatter",
        x=path[:, 0],
        y=path[:, 1],
        mode="lines",
        line={"color": theme.neutral(dark), "width": 1, "dash": "dot"},
        hoverinfo="skip",
        showlegend=False,
    )


@dataclass(frozen=True)
class PlanarMap:
    """Projections on the two principal axes of the unedited task vectors, with the base model at the origin.

    Attributes:
        before: of τ_t, ``[T, 2]``.
        after: of φ_t = τ_t − δ, ``[T, 2]``.
        redundant: of δ, ``[2]``.
        shown: share of Σ‖τ_t‖² that lies in the plane.
    """

    before: np.ndarray
    after: np.ndarray
    redundant: np.ndarray
    shown: float


def planar_map(before: np.ndarray, after: np.ndarray, redundant_norm: float) -> PlanarMap:
    """Both sets of vectors and δ in the same plane, from their Gram matrices ``[T, T]`` and ‖δ‖ alone.

    As one δ is subtracted from all, ‖φ_i‖² = ‖τ_i‖² − 2⟨τ_i, δ⟩ + ‖δ‖² gives ⟨τ_i, δ⟩, whatever the scope and the
    solver; an axis of the plane is a combination of the τ_i, so δ's coordinates follow.
    """
    values, axes = np.linalg.eigh(before)
    top = np.argsort(values)[::-1][:2]
    roots = np.sqrt(np.clip(values[top], 0, None))
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 1e-9 * max(1e-30, float(roots.max())))
    signs = np.where(axes[:, top].sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors come with either sign: point right and up
    plane = axes[:, top] * signs
    points = _two_columns(plane * roots)
    along = (np.diagonal(before) + redundant_norm**2 - np.diagonal(after)) / 2  # ⟨τ_i, δ⟩
    delta = _two_columns((along @ plane * inverse)[None])[0]
    total = float(np.trace(before))
    shown = float(np.clip(values[top], 0, None).sum() / total) if total > 0 else 0.0
    return PlanarMap(points, points - delta, delta, shown)


def _two_columns(points: np.ndarray) -> np.ndarray:
    """With a column of zeros if there is only one task, and so one axis."""
    return points if points.shape[1] == 2 else np.hstack([points, np.zeros_like(points)])


_FAR = 1e5  # pixels
_AROUND = {  # plotly's text positions, and where the middle of the text is then, in half widths and heights
    "top center": (0, 1),
    "bottom center": (0, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top right": (1, 1),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "bottom left": (-1, -1),
}


def _label_places(
    plane: PlanarMap, names: Sequence[str], pixels: tuple[float, float] = (250, 230), marker: float = 6
) -> tuple[list[str], list[str]]:
    """A text position for every point after the edit, such that texts hide each other and the points least; the texts.

    One after the other, each text takes the place around its point that overlaps least with what is there already. Of
    more than :data:`MAX_NUMBERED` points those without room get an empty text.

    Args:
        plane: the points.
        names: their texts.
        pixels: width and height of the plot on a narrow screen, to know the size of texts in the units of the points,
            which are the same on both axes. Texts are cut off beyond the outermost points.
        marker: half the size of a marker in pixels.
    """
    everything = np.concatenate([plane.before, plane.after, plane.redundant[None], np.zeros((1, 2))])
    unit = float(np.min(np.array(pixels) / np.maximum(1e-12, np.ptp(everything, axis=0))))
    taken = [np.concatenate([point * unit - marker, point * unit + marker]) for point in everything]
    (left, _), (right, _) = everything.min(axis=0) * unit, everything.max(axis=0) * unit
    taken += [np.array([end, -_FAR, end + _FAR, _FAR]) for end in (right + 2 * marker, left - 2 * marker - _FAR)]
    places, texts = [], []
    for point, name in zip(plane.after * unit, names, strict=True):
        half = np.array([3.5 * len(name) + 2, 8.0])
        middles = {place: point + np.array(side) * (half + marker) for place, side in _AROUND.items()}
        boxes = {place: np.concatenate([middle - half, middle + half]) for place, middle in middles.items()}
        hidden = {place: _shared_area(box, np.array(taken)) for place, box in boxes.items()}
        best = min(hidden, key=hidden.__getitem__)
        room = len(names) <= MAX_NUMBERED or hidden[best] == 0
        places.append(best)
        texts.append(name if room else "")
        taken += [boxes[best]] if room else []
    return places, texts


def _shared_area(box: np.ndarray, others: np.ndarray) -> float:
    """Area that a box ``[left, bottom, right, top]`` has in common with others ``[N, 4]``, added up."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(np.clip(sides, 0, None).prod(axis=1).sum())


_SIZES = {"base": 18, "δ": 9}  # pixels: where they coincide, δ lies within the outline of the base


def map_figure(plane: PlanarMap, tasks: Sequence[str], *, dark: bool = False) -> go.Figure:
    """The base model, the task models before and after, and the redundant vector, as points of one plane."""
    names = [theme.plain(theme.shorten(task)) for task in tasks]
    places, texts = _label_places(plane, names)
    groups: tuple[tuple[str, np.ndarray, theme.Style, list[str]], ...] = (
        ("before", plane.before, theme.BEFORE, names),
        ("after", plane.after, theme.AFTER, names),
        ("base", np.zeros((1, 2)), theme.BASE, ["base model"]),
        ("δ", plane.redundant[None], theme.REDUNDANT, ["δ"]),  # last, so on top: it is often close to the base
    )
    traces = [_links(plane.before, plane.after, dark), _links(np.zeros((1, 2)), plane.redundant[None], dark)]
    traces += [
        _trace(
            "scatter",
            x=np.round(points[:, 0], 5),
            y=np.round(points[:, 1], 5),
            name=label,
            text=texts if label == "after" else None,
            customdata=called,
            mode="markers+text" if label == "after" else "markers",
            textposition=places if label == "after" else None,
            cliponaxis=False,
            marker={"symbol": style.symbol, "size": _SIZES.get(label, 10), "color": style.color},
            hovertemplate="%{customdata}<br>(%{x:.3f}, %{y:.3f})<extra>" + label + "</extra>",
        )
        for label, points, style, called in groups
    ]
    return theme.compose(
        traces,
        height=340,
        xaxis={"title": {"text": "first principal axis"}, "zeroline": True},
        yaxis={"title": {"text": "second principal axis"}, "zeroline": True, "scaleanchor": "x", "scaleratio": 1},
    )
