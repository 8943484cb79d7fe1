"""Pages with a suite of twenty tasks: they open, name every task, and draw what can still be told apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from merging.suites import Suite, load_suite
from tests.app.conftest import build_suite
from tests.app.finished_runs import finished
from ui.shell import state

Open = Callable[..., AppTest]
TASKS = tuple(f"task{number:02}" for number in range(20))


@pytest.fixture
def twenty(suites_folder: Path) -> Suite:
    return load_suite(build_suite(suites_folder / "twenty", tasks=TASKS))


def figures(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_every_page_of_results_opens_and_bars_become_dots(twenty: Suite, open_page: Open) -> None:
    app = open_page("task_models")
    assert not app.exception and len(app.multiselect(key="tasks").value) == 20
    runs = [finished(state.workspace(), twenty, 0.5), finished(state.workspace(), twenty, 0.6, edit="ties")]
    app = open_page("accuracy", runs=[run.id for run in runs])
    assert not app.exception and any("Bars of 20 tasks can't be told apart" in one.value for one in app.caption)
    chart = figures(app)[0]
    assert {trace["type"] for trace in chart["data"]} == {"scatter"}
    assert len(chart["layout"]["yaxis"]["ticktext"]) == 21
    app = open_page("runs", run=runs[1].id)
    assert not app.exception


def test_what_if_has_a_slider_a_task_and_similarity_a_name_a_row(twenty: Suite, open_page: Open) -> None:
    app = open_page("what_if")
    assert not app.exception and {f"c.{task}" for task in TASKS} <= {slider.key for slider in app.slider}
    app = open_page("similarity")
    assert not app.exception
    chart = figures(app)[0]
    assert len(chart["layout"]["xaxis"]["ticktext"]) == 20
    assert chart["layout"]["height"] >= 20 * 17
    narrow = figures(app)[1]["layout"]  # which the browser shows on phones in its place
    assert narrow["xaxis2"]["domain"] == [0, 1] and narrow["height"] >= 3 * 20 * 17
