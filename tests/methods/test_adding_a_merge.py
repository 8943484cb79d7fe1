"""docs/design.md says that a merge is added by one file and one test: here that file is added, and that test is run."""

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from merging.charts import theme
from merging.cli import main
from merging.methods import merges as folder
from merging.methods import registry
from merging.methods.catalogue import catalogue
from merging.methods.context import Context
from merging.methods.estimate import estimate
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.methods.presets import PRESETS
from merging.runs.jobs import MergeSpec
from merging.runs.leaderboard import cheapest_first, data_looked_at, spec_of
from merging.weights.vectors import TaskVectors
from studies.docs import render
from tests.random_models import random_state, write_models
from tests.waiting import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "design.md").read_text(encoding="utf-8")
MODULE = "merging.methods.merges.median"


def code(path: str) -> str:
    """The block of the page that begins with a file's name."""
    found = re.search(rf"```python\n# {re.escape(path)}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None, path
    return found.group(1)


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[registry.Stage]:
    """The merge of the page, from a file in the folder of merges, for the time of one test."""
    registry.stages()
    monkeypatch.setattr(registry, "_MERGES", dict(registry._MERGES))
    (tmp_path / "median.py").write_text(code("merging/methods/merges/median.py"), encoding="utf-8")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    importlib.import_module(MODULE)
    yield registry.find("merge", "median")
    del sys.modules[MODULE]
    delattr(folder, "median")


def test_it_is_about_forty_lines() -> None:
    assert len(code("merging/methods/merges/median.py").splitlines()) <= 42


@pytest.mark.parametrize("tasks", [1, 2, 3, 8])
def test_its_own_test_passes(make_vectors: Callable[..., TaskVectors], tasks: int) -> None:
    names: dict[str, Any] = {}
    exec(code("tests/methods/merges/test_median.py"), names)
    names["test_the_median_is_that_of_numpy"](make_vectors, tasks)


def merged(vectors: TaskVectors, text: str) -> dict[str, torch.Tensor]:
    return dict(plan(vectors, Pair.read(text), Context()).tensors())


def test_it_has_the_properties_of_every_merge(make_vectors: Callable[..., TaskVectors], tmp_path: Path) -> None:
    alone = make_vectors(tasks=1)
    for name, tensor in merged(alone, "merge=median").items():
        torch.testing.assert_close(tensor, alone.checkpoints[0][name], rtol=1e-5, atol=1e-6)
    base, models = random_state(0), [random_state(task) for task in (1, 2, 3)]
    one = merged(write_models(tmp_path / "one", base, models), "edit=ties merge=median merge.scaling=0.4")
    other = merged(write_models(tmp_path / "other", base, models[::-1]), "edit=ties merge=median merge.scaling=0.4")
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-6)


def test_it_has_a_form_with_its_parameters() -> None:
    def page() -> None:
        import streamlit as st

        from merging.methods.registry import find
        from ui.look.forms import stage_form

        st.session_state["values"] = stage_form(find("merge", "median"), "form", {"digits": "Digits", "signs": "Signs"})

    app = AppTest.from_function(page, default_timeout=PATIENCE).run()
    assert not app.exception
    assert app.session_state["values"] == {"scaling": 1.0, "trim": 0.5}
    box = app.number_input(key="form.trim")
    assert (box.min, box.max) == (0, 0.5)


def test_the_command_line_lists_it_and_merges_with_it(suite_file: Path, tmp_path: Path) -> None:
    run, home = CliRunner(), ["--home", str(tmp_path / "home")]
    assert "  median " in run.invoke(main, ["methods"]).stdout
    assert "median" in [row["name"] for row in catalogue()["presets"]]
    for choice in (["--preset", "median"], ["--merge", "median"]):
        done = run.invoke(main, ["merge", str(suite_file), *choice, "--set", "merge.scaling=0.4", *home])
        assert done.exit_code == 0, done.output
        assert "Median merging, 4 tasks" in done.stdout
    wrong = run.invoke(main, ["merge", str(suite_file), "--merge", "median", "--set", "merge.trim=0.6", *home])
    assert "merge.trim = 0.6: must be at most 0.5" in wrong.output
    found = run.invoke(main, ["runs", "--json", *home])
    assert [(row["label"], row["scaling"]) for row in json.loads(found.stdout)["runs"]] == [("Median merging", 0.4)]


def test_the_leaderboard_has_a_row_of_it_with_lambda_chosen() -> None:
    assert "median" in [preset.name for preset in cheapest_first(PRESETS.values())]
    preset = PRESETS["median"]
    spec = spec_of(preset, "mini", ("digits", "signs"), "cpu")
    assert (spec.label, spec.method, spec.pair.scaling) == ("Median merging", "Median merging", "auto")
    assert data_looked_at(preset).chosen_words == "λ"
    assert Pair.of("ties", merge="median").label == "TIES + Median"


def test_the_tables_of_the_docs_get_its_rows() -> None:
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    made = render("docs/methods.md", page.read_text(encoding="utf-8"))
    for start in (
        "| `median` | Median: Add the median",
        "| `median` | Median merging | `none` |",
        "| `merge.trim` | `0.5` |",
    ):
        assert f"\n{start}" in made


def test_charts_draw_it_as_what_is_free_and_all_others_as_before() -> None:
    style = theme.style_of("Median merging")
    known = json.loads((Path(__file__).parents[1] / "charts/earlier_styles.json").read_text(encoding="utf-8"))
    found = {label: theme.style_of(label) for label in known}
    assert {label: [one.color, one.symbol, one.pattern] for label, one in found.items()} == known
    alike = [label for label, look in known.items() if look[:2] == [style.color, style.symbol]]
    assert not {preset.title for preset in PRESETS.values()} & {*alike}  # but pairs that nobody published may be
    for shown in ([preset.title for preset in PRESETS.values()], ["Median merging", *alike]):
        styles = theme.distinct_styles(shown)
        assert len({(style.color, style.symbol) for style in styles}) == len(shown)


def test_its_memory_is_estimated(vectors: TaskVectors) -> None:
    spec = MergeSpec.build(suite="any", tasks=vectors.tasks, merge="median")
    assert estimate(vectors, spec, True).total > 0
