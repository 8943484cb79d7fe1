"""What a chart says when somebody points at it, as plotly.js makes it of a trace's template and data."""

import re
from collections.abc import Iterator
from typing import Any

import plotly.graph_objects as go

_FIELD = re.compile(r"%\{(?P<what>[\w.]+)(?:\[(?P<index>\d+)\])?(?::(?P<form>[^}]+))?\}")


def hover_texts(trace: Any) -> list[str]:
    """The text at every point of a trace that has a value, heat maps row by row; its box's text in brackets."""
    return [_text(trace, place) for place in _places(trace)]


def all_hover_texts(figure: go.Figure) -> list[list[str]]:
    """Those of every trace that answers at all."""
    return [hover_texts(trace) for trace in figure.data if trace.hovertemplate]


def _places(trace: Any) -> Iterator[tuple[int, ...]]:
    if trace.type in ("heatmap", "contour"):
        cells = ((i, j) for i, row in enumerate(trace.z) for j in range(len(row)))
        yield from (place for place in cells if trace.z[place[0]][place[1]] is not None)
        return
    first, second = (trace.r, trace.theta) if trace.type == "scatterpolar" else (trace.x, trace.y)
    first = range(len(second)) if first is None else first  # plotly counts where no x is given
    yield from ((i,) for i, (x, y) in enumerate(zip(first, second, strict=True)) if x is not None and y is not None)


def _text(trace: Any, place: tuple[int, ...]) -> str:
    def field(match: re.Match[str]) -> str:
        value = _value(trace, match["what"], place)
        value = value if match["index"] is None else value[int(match["index"])]
        return format(value, match["form"] or "").replace("-", "−") if match["form"] else str(value)

    text, box = re.fullmatch(r"(?s)(.*?)(?:<extra>(.*)</extra>)?", trace.hovertemplate).groups()
    said = _FIELD.sub(field, f"{text} [{box}]" if box else text)
    assert "%{" not in said, said  # a field that is not understood here
    return said


def _value(trace: Any, what: str, place: tuple[int, ...]) -> Any:
    if what == "fullData.name":
        return trace.name
    values = trace[what]
    if what in ("x", "y") and trace.type in ("heatmap", "contour"):
        return (range(10**6) if values is None else values)[place[1] if what == "x" else place[0]]
    if values is None and what == "x":
        return place[0]
    if isinstance(values, str):
        return values
    for index in place:
        values = values[index]
    return values
