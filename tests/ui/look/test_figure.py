"""Downloads are data, not formulas; takeaways are text, not markup."""

import io
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from merging.charts.columns import MARK, mark
from merging.charts.theme import style_of
from tests.headings import levels_of_html
from ui.look.figure import escape_markdown, offer_csv, to_csv, to_html


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_formulas_are_defused_in_cells_and_headers(text: str) -> None:
    read = pd.read_csv(io.BytesIO(to_csv(pd.DataFrame({text: [text]}))), encoding="utf-8-sig", lineterminator="\n")
    assert str(read.columns[0]).startswith("'")
    assert read.iloc[0, 0].startswith("'")


def test_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"task": ["digits"], "difference": [-0.25], "images": [500]})
    read = pd.read_csv(io.BytesIO(to_csv(table)), encoding="utf-8-sig")
    pd.testing.assert_frame_equal(read, table)


def test_the_table_itself_is_not_changed() -> None:
    table = pd.DataFrame({"task": ["=1"]})
    to_csv(table)
    assert table["task"].tolist() == ["=1"]


def test_markdown_is_escaped() -> None:
    assert escape_markdown("a_b **c** [d](e)") == r"a\_b \*\*c\*\* \[d\]\(e\)"


# What streamlit's browser side looks for in text after markdown was read, when backslashes are gone already.
LATER = re.compile(
    r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(?:\.[-\w]+)+|:(\+1|-1|[\w-]+):|:material[/_]\w+:|:streamlit:"
    r"|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/b", "HTTP://a.example", "see www.a.example", "me@a.example", ":material/home:", "x:smile:y",
        ":+1:", "a -> b", "a -- b", "a <-> b", "a >= b", "- item", "1. item", "12) item", "    code", "===", "a\n# b",
        "<b>b</b>", "$a$", ":red[b]", "|a|b|", "![a](b)", "`a`",
    ],
)  # fmt: skip
def test_nothing_in_escaped_text_is_markup(text: str) -> None:
    escaped = escape_markdown(text)
    read = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped)  # as markdown reads it
    assert not LATER.search(read)
    assert " ".join(read.replace("\u2060", "").split()) == " ".join(text.split())
    assert not re.match(r"(\s{4}|[-+*=#>]|\d+[.)])", escaped) and not re.search(r"(?<!\\)[`*_\[\]<>$|!]", escaped)


@pytest.mark.parametrize("text", ["merging merge mini --set edit.alpha=0.1", "tcp://host:8786", "12:30", "0.5 is half"])
def test_what_people_copy_is_left_alone(text: str) -> None:
    assert "\u2060" not in escape_markdown(text)


def test_a_chart_as_html_holds_all_it_needs_and_names_stay_text() -> None:
    evil = "</script><script>alert(1)</script>"
    figure = go.Figure(go.Bar(x=[evil], y=[1.0], name=evil))
    page = to_html(figure, f"{evil} & more")
    assert "</script><script>alert" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert not re.findall(r"<(?:script|link|iframe)[^>]*\s(?:src|href)=", page)
    assert levels_of_html(page.rpartition("</script>")[2]) == [1] and page.count("<main>") == 1
    assert "default-src 'none'" in page and len(page) > 1_000_000  # plotly.js is in it
    assert '"paper_bgcolor":"white"' in page  # whatever the theme it was drawn in
    assert figure.layout.template.layout.paper_bgcolor == go.Figure().layout.template.layout.paper_bgcolor


def test_markers_are_in_no_download_and_streamlits_own_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit's holds whatever a cell does: the images of markers, and text that spreadsheets take for formulas."""
    given: list[Callable[[], bytes]] = []
    monkeypatch.setattr("ui.look.figure.st.download_button", lambda label, data, *rest, **more: given.append(data))
    table = pd.DataFrame({MARK: [mark(style_of("TIES"))], "Method": ["TIES"], "Average (%)": [75.6]})
    offer_csv(table, key="k", file="f")
    assert given[0]().decode("utf-8-sig").split() == ["Method,Average", "(%)", "TIES,75.6"]
    config = tomllib.loads((Path(__file__).parents[3] / ".streamlit" / "config.toml").read_text())
    assert config["client"]["disableDataExport"] is True
