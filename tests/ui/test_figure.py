"""Downloads are data, not formulas; takeaways are text, not markup."""

import io

import pandas as pd
import pytest

from ui.figure import escape_markdown, to_csv


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
