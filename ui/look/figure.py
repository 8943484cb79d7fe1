"""A chart as every page shows it: takeaway line, the numbers as a table, downloads as CSV, HTML and SVG."""

import hashlib
import html
import json
import pickle
import re
from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import streamlit as st

from merging.charts.columns import MARK
from merging.methods import own

Chart = partial[go.Figure]  # a function of merging.charts with all that the figure is made of

_KEPT_CHARTS = 256  # some ten kilobytes each
_MOST_DIGITS, _SMALL = 4, 0.01  # behind the point, as browsers show by default; of what is smaller that is too few
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
# plotly.js draws with scripts and styles that stand in the page; from elsewhere it needs nothing.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_AXIS = "#5a6272"  # 6 : 1 on white, where streamlit's own grey has 3.7
# What streamlit looks for in text whose markup is read already, where no backslash helps: addresses, emoji and icons by
# their names, arrows made of letters. A character without width keeps them apart.
_JOINER = "\u2060"
_FOUND_LATER = re.compile(
    r"(?<=http:)(?=//)|(?<=https:)(?=//)|(?<=www)(?=\.)|(?<=[\w.+-])(?=@[\w-]+\.)|(?<=:)(?=material/|[\w+-]+:)"
    r"|(?<=(?<!\S)[<>~-])(?=[-=>]+(?!\S))",
    re.IGNORECASE,
)
_LINE_START = re.compile(r"^(\d{0,9})(?=-(?:[\s-]|$)|=|\.(?:\s|$))")
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]()#+!|~$<>:"})


def is_dark() -> bool:
    """Whether the reader's theme is dark."""
    return bool(st.context.theme.type == "dark")


class _Drawn(go.Figure):  # type: ignore[misc]
    """A figure that is drawn already: its JSON, what its panels are in words, and nothing else."""

    panels: str

    def __init__(self, text: str, panels: str) -> None:
        object.__setattr__(self, "_text", text)
        object.__setattr__(self, "panels", panels)

    def to_dict(self) -> dict[str, Any]:
        """All that Streamlit asks a figure for."""
        described: dict[str, Any] = json.loads(self._text)
        return described


def drawn(chart: Chart) -> _Drawn:
    """A chart in the page's theme, drawn once for all who look at the same and kept as text.

    It is found again by its function and by all that this is given, value by value, so what is in it is all that it
    can show: nothing of whoever looked first is in it that is not in what the next one gives, too.
    """
    content = hashlib.sha256(pickle.dumps((chart, own.stamp()))).hexdigest()
    return _Drawn(*_text_and_panels(content, is_dark(), chart))


@st.cache_resource(max_entries=_KEPT_CHARTS, show_spinner=False)
def _text_and_panels(content: str, dark: bool, _chart: Chart) -> tuple[str, str]:
    figure = _fit_theme(_chart(), dark)
    return plotly.io.to_json(figure, validate=False), panels_in_words(figure)


def show(
    chart: Chart,
    *,
    key: str,
    takeaway: str,
    table: pd.DataFrame,
    file: str,
    narrow: Chart | None = None,
    **plotly_chart_kwargs: Any,
) -> Any:
    """Draw a chart with its takeaway below, and its numbers behind a button.

    Args:
        chart: what to draw.
        key: unique on the page.
        takeaway: one plain sentence, also read out by screen readers; markdown in it is not interpreted.
        table: the numbers in the chart.
        file: name of the downloads, without suffix.
        narrow: what to draw in its place on phones, whose width the server does not know: the browser shows one.
        plotly_chart_kwargs: passed on to ``st.plotly_chart``.

    Returns:
        What ``st.plotly_chart`` returns: the selection if ``on_select`` is given.
    """
    config = {
        "displaylogo": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
        "toImageButtonOptions": {"format": "svg", "filename": file},
        **plotly_chart_kwargs.pop("config", {}),
    }
    figure, settings = drawn(chart), {"config": config, "alt": takeaway, **plotly_chart_kwargs}
    if narrow is None:
        event = st.plotly_chart(figure, width="stretch", key=key, **settings)
    else:
        with st.container(key=f"wide-{key}"):
            event = st.plotly_chart(figure, width="stretch", key=key, **settings)
        with st.container(key=f"narrow-{key}"):
            st.plotly_chart(drawn(narrow), width="stretch", key=f"{key}-narrow", **settings)
    if figure.panels and narrow is None:
        with st.container(key=f"panels-{key}"):  # on phones alone, where titles side by side have no room
            st.caption(escape_markdown(figure.panels))
    below = st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small")
    below.caption(escape_markdown(takeaway), width="stretch")
    # The table is built only while its popover is open: sliders redraw charts many times a second.
    popover = below.popover(
        "Data and files",
        icon=":material/table:",
        type="tertiary",
        key=f"{key}-data",
        on_change="rerun",
        width="content",
        help="The numbers in this chart as a table and as CSV; the chart as HTML and as SVG",
    )
    if popover.open:
        with popover:
            show_table(table, key=key, file=file)
            st.download_button(
                "Chart as HTML",
                lambda: to_html(_fit_theme(chart(), False), takeaway),
                f"{file}.html",
                "text/html",
                key=f"{key}-html",
                icon=":material/insert_chart:",
                on_click="ignore",
                help="Interactive, and needs no network",
            )
            st.caption("As SVG: the camera at the upper right of the chart, which shows when you point at it.")
    return event


def panels_in_words(figure: go.Figure) -> str:
    """What the panels of a chart are that stand side by side; empty if there are not several.

    >>> panels_in_words(go.Figure(layout={"xaxis2": {}, "annotations": [{"text": "Before"}, {"text": "a &lt; b"}]}))
    'From left to right: Before; a < b.'
    """
    if "xaxis2" not in figure.layout:
        return ""
    titles = [html.unescape(one.text) for one in figure.layout.annotations if one.text]
    return f"From left to right: {'; '.join(titles)}." if titles else ""


def _fit_theme(figure: go.Figure, dark: bool) -> go.Figure:
    """Give a chart the page's ground, as what the camera saves has the page's letters, and axes that can be read."""
    figure.layout.paper_bgcolor = st.get_option(f"theme.{'dark' if dark else 'light'}.backgroundColor")
    if dark:
        return figure
    for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
        if axis.tickfont.color is None:  # an axis is set as a whole: each property of its own takes plotly milliseconds
            figure.layout[axis.plotly_name] = _readable(axis.to_plotly_json())
    return figure


def _readable(axis: dict[str, Any]) -> dict[str, Any]:
    """Settings of an axis, with a colour for its letters."""
    title = axis.get("title", {})
    title = {**title, "font": {**title.get("font", {}), "color": _AXIS}}
    return {**axis, "tickfont": {**axis.get("tickfont", {}), "color": _AXIS}, "title": title}


def to_html(figure: go.Figure, takeaway: str) -> str:
    """A page of its own with an interactive chart. All it needs is in it, and a browser lets it fetch nothing.

    Args:
        figure: the chart.
        takeaway: one plain sentence, its title and caption.
    """
    drawn = go.Figure(figure).update_layout(
        template="plotly_white", paper_bgcolor="white", font={"family": "system-ui, sans-serif"}
    )
    config = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}
    chart = drawn.to_html(full_html=False, include_plotlyjs=True, config=config)
    said = html.escape(takeaway)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>{said}</title></head>'
        f'<body style="font-family: system-ui, sans-serif"><main>{chart}<h1 style="font: inherit">{said}</h1></main>'
        "</body></html>\n"
    )


def show_table(table: pd.DataFrame, *, key: str, file: str, **dataframe_kwargs: Any) -> None:
    """A table with its CSV download; further arguments are passed on to ``st.dataframe``."""
    choices = {"height": "auto" if len(table) < 12 else 400, **dataframe_kwargs}
    choices["column_config"] = {**as_many_digits(table), **choices.get("column_config", {})}
    st.dataframe(table, hide_index=True, width="stretch", **choices)
    offer_csv(table, key=key, file=file)


def as_many_digits(table: pd.DataFrame) -> dict[str, Any]:
    """How to show columns of numbers, each with as many digits all the way down, so that 81.0 stands over 84.5.

    As many as the longest has, four at most; p-values, and columns of small numbers alone, have three that count.

    >>> table = pd.DataFrame({"Average (%)": [81.0, 84.5], "cos": [1 / 3, 2e-5], "p": [2e-9, 0.5], "Runs": [1.0, None]})
    >>> {name: one["type_config"]["format"] for name, one in as_many_digits(table).items()}
    {'Average (%)': '%.1f', 'cos': '%.4f', 'p': '%.3g'}
    """
    found: dict[str, Any] = {}
    for name in table.select_dtypes("float"):
        values = table[name].dropna()
        digits = next((some for some in range(_MOST_DIGITS) if values.equals(values.round(some))), _MOST_DIGITS)
        by_size = str(name).partition(",")[0] == "p" or values.abs().max() < _SMALL
        if digits:
            found[str(name)] = st.column_config.NumberColumn(format="%.3g" if by_size else f"%.{digits}f")
    return found


def offer_csv(table: pd.DataFrame, *, key: str, file: str) -> None:
    """A button that downloads a table as CSV, without its column of markers, which are images.

    The file is made once it is asked for: a page that draws itself again would take one away that a browser looks for.
    """
    st.download_button(
        "Download CSV",
        lambda: to_csv(table.drop(columns=MARK, errors="ignore")),
        f"{file}.csv",
        "text/csv",
        key=f"{key}-csv",
        icon=":material/download:",
        on_click="ignore",
    )


def to_csv(table: pd.DataFrame) -> bytes:
    """CSV that spreadsheets read as data: text that would be taken for a formula gets a leading apostrophe.

    >>> to_csv(pd.DataFrame({"task": ["=1+1"], "value": [-1.0]})).decode("utf-8-sig").split()
    ['task,value', "'=1+1,-1.0"]
    """
    safe = table.rename(columns=_defused)
    for position, column in enumerate(safe.columns):
        if safe.dtypes.iloc[position].kind not in "biufcmM":
            safe[column] = safe[column].map(_defused)
    # The byte order mark makes spreadsheets read λ and α as such.
    return safe.to_csv(index=False).encode("utf-8-sig")


def _defused(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def escape_markdown(text: str) -> str:
    """Text in which streamlit's markdown finds nothing to interpret, such as task names from a file; on one line.

    >>> print(escape_markdown("a_b"))
    a\\_b
    """
    line = re.sub(r"^\s\s+|^\t", " ", " ".join(text.splitlines()))
    return _LINE_START.sub(r"\1\\", _FOUND_LATER.sub(_JOINER, line).translate(_MARKDOWN))
