"""The package's public face: what it offers, what it promises, and that it costs nothing to import."""

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

import merging
from merging.runs.table import RunStore
from tests.random_models import TASKS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
FUNCTIONS = [name for name in merging.__all__ if name not in ("MergingError", "__version__")]
FIXED = ("none", "task_arithmetic")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test writes among the runs of whoever starts it."""
    monkeypatch.setenv("MERGING_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_what_is_offered_is_what_the_docs_list() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(set(merging.__all__) - {"__version__"})
    assert len(listed) == 12 and "`merging.__version__`" in PAGE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_types_and_an_example(name: str) -> None:
    function = getattr(merging, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(each.annotation is not inspect.Parameter.empty for each in signature.parameters.values())
    assert doctest.DocTestParser().get_examples(inspect.getdoc(function) or "")  # run where all docstrings are
    assert "Raises:" in function.__doc__


def test_a_merge_is_measured_on_unseen_tasks_and_on_corrupted_images(suite_file: Path) -> None:
    asked = {"tasks": TASKS[:2], "shift": "contrast:5"}
    named = merging.merge(suite_file, FIXED, unseen=TASKS[2:], **asked)
    assert set(named.accuracy) == set(TASKS[:2]) and set(named.unseen) == set(TASKS[2:])
    rest = merging.merge(suite_file, FIXED, unseen="rest", **asked)
    assert rest.id == named.id and rest.images == "test · Contrast, severity 5"
    clean = merging.merge(suite_file, FIXED, tasks=TASKS[:2])
    assert clean.unseen == {} and clean.images == clean.split == "test"
    with pytest.raises(merging.MergingError, match="accuracies on different images, test and test · Contrast"):
        merging.table(clean, named)
    for unseen, said in (
        ("rest", "no further task"),
        ("digits", "expected a list of names"),
        (["cats"], "no task 'cats'"),
    ):
        with pytest.raises(merging.MergingError, match=said):
            merging.merge(suite_file, FIXED, unseen=unseen)


def test_importing_it_loads_nothing_heavy() -> None:
    program = (
        "import sys, merging\n"
        "assert {'merge', 'figure'} <= set(dir(merging)) and not hasattr(merging, 'nothing')\n"
        "print(*({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"torch", "streamlit", "pandas", "plotly", "numpy", "pydantic", "open_clip", "tqdm", "yaml"}
    assert "merging" in done.stdout.split() and not heavy & set(done.stdout.split())


def test_a_name_that_is_not_offered_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        merging.nothing  # noqa: B018


def test_cosines_are_those_of_the_command_line(suite_file: Path) -> None:
    look = merging.similarity(suite_file, "awd", {"edit.solver": "exact"})
    assert list(look.before.index) == list(look.after.columns) == list(TASKS)
    vectors = merging.load_suite(suite_file).vectors()
    flat = np.stack(
        [
            np.concatenate(
                [
                    vectors.checkpoints[t][name].double().numpy().ravel() - vectors.base[name].double().numpy().ravel()
                    for name in vectors.names
                ]
            )
            for t in range(len(TASKS))
        ]
    )
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(look.before.to_numpy(), unit @ unit.T, atol=1e-5)
    np.testing.assert_allclose(look.norms_before, np.linalg.norm(flat, axis=1), rtol=1e-5)
    assert look.mean_abs_after <= look.mean_abs_before and look.report["coefficients"]
    frame = merging.table(look)
    assert frame["before"].tolist() == pytest.approx(look.before.to_numpy()[np.triu_indices(len(TASKS), 1)])
    figure: Any = merging.figure(look)
    np.testing.assert_allclose(figure.data[0].z, look.before, atol=1e-4)
    np.testing.assert_allclose(figure.data[1].z, look.after, atol=1e-4)


def test_a_merge_is_a_run_like_any_other(suite_file: Path, own_home: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    merged = merging.merge(
        suite_file,
        FIXED,
        {"merge.scaling": 0.4},
        output=tmp_path / "merged.safetensors",
        on_progress=lambda *told: seen.append(told),
    )
    assert seen and RunStore(own_home).get(merged.id).state == "done"
    assert sorted(merged.accuracy) == sorted(TASKS) and merged.split == "test"
    assert merged.average == pytest.approx(np.mean(list(merged.accuracy.values())))
    assert merged.scaling is None and merged.warnings == [] and merged.seconds > 0
    coefficients = merged.coefficients
    assert isinstance(coefficients, pd.DataFrame) and (coefficients == 0.4).all(axis=None)
    assert list(coefficients.columns) == list(TASKS)
    weights = load_file(tmp_path / "merged.safetensors")
    assert set(coefficients.index) == {name for name, tensor in weights.items() if tensor.is_floating_point()}
    again = merging.evaluate(suite_file, tmp_path / "merged.safetensors")
    assert again.accuracy == merged.accuracy and again.name == "merged"
    assert merging.merge(merging.load_suite(suite_file), FIXED, {"merge.scaling": 0.4}).id == merged.id


def test_a_published_method_and_its_pair_are_the_same_run(suite_file: Path) -> None:
    preset = merging.merge(suite_file, "ties")
    pair = merging.merge(suite_file, ("ties", "task_arithmetic"), {"merge.scaling": "auto"})
    assert preset.id == pair.id and preset.scaling is not None and preset.coefficients is None
    frame = merging.table(preset, of="search")
    best = frame.loc[frame[preset.label].idxmax(), "λ"]
    assert best == pytest.approx(preset.scaling)
    assert merging.figure(preset, of="search").data
    with pytest.raises(merging.MergingError, match="no weighted sum"):
        merging.table(preset, of="coefficients")


def test_tables_and_figures_hold_the_accuracies(suite_file: Path) -> None:
    models = [
        merging.evaluate(suite_file, "base"),
        merging.merge(suite_file, FIXED, {"merge.scaling": 0.4}),
        merging.evaluate(suite_file, "individual"),
    ]
    frame = merging.table(*models)
    assert frame["Method"].tolist() == ["Zero-shot", "Task Arithmetic", "Individual"]
    figure: Any = merging.figure(*models)
    for row, model in enumerate(models):
        expected = [100 * model.accuracy[task] for task in TASKS]
        assert frame.iloc[row, 2:].tolist() == pytest.approx(expected, abs=0.01)
        assert model.average is not None and frame["Average"][row] == pytest.approx(100 * model.average, abs=0.01)
        assert figure.data[row].name == frame["Method"][row]
        assert list(figure.data[row].y) == pytest.approx([100 * model.average, *expected])
    table = merging.table(models[1], of="coefficients")
    assert (table[list(TASKS)] == 0.4).all(axis=None)
    assert (np.array(merging.figure(models[1], of="coefficients").data[0].z) == 0.4).all()


def test_a_leaderboard_is_ranked(suite_file: Path) -> None:
    rows = merging.leaderboard(suite_file, ["average", "iso_c"])
    assert {row.method for row in rows} == {"Zero-shot", "Individual", "Weight averaging", "Iso-C"}
    frame = merging.table(rows)
    assert frame["Average (%)"].is_monotonic_decreasing and len(frame) == 4
    figure: Any = merging.figure(rows)
    drawn = {value for trace in figure.data for value in trace.x}
    assert {round(100 * row.average, 6) for row in rows if row.run} <= {round(value, 6) for value in drawn}


def test_an_export_is_replayed(suite_file: Path, tmp_path: Path) -> None:
    merged = merging.merge(suite_file, "average", evaluate=False)
    assert merged.accuracy == {} and merged.average is None
    files = merging.export(merged, tmp_path / "out")
    assert tmp_path / "out" / "model.safetensors" in files
    found = merging.replay(tmp_path / "out" / "recipe.yaml", tmp_path / "again.safetensors", suite_file)
    assert found.identical
    with pytest.raises(merging.MergingError, match="accuracy was not measured"):
        merging.table(merged)


def test_a_localised_file_gives_each_tasks_weights(suite_file: Path, tmp_path: Path) -> None:
    merging.merge(suite_file, ("none", "tall_masks"), {"merge.threshold": 0.4}, output=tmp_path / "tall.safetensors")
    base = merging.open_checkpoint(suite_file.parent / "base.safetensors")
    models = [merging.task_weights(base, tmp_path / "tall.safetensors", task) for task in TASKS]
    assert all(model.keys() == base.keys() for model in models)
    assert any((models[0][name] != models[1][name]).any() for name in base)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda suite: merging.load_suite("nowhere"), "no suite 'nowhere'"),
        (lambda suite: merging.merge(suite, "tiess"), "did you mean 'ties'"),
        (lambda suite: merging.merge(suite, ("ties",)), "a pair"),
        (lambda suite: merging.merge(suite, FIXED, {"scaling": 1}), "merge.NAME"),
        (lambda suite: merging.merge(suite, FIXED, {"merge.scalling": 1}), "scaling"),
        (lambda suite: merging.merge(suite, tasks="digits"), "a list of names"),
        (lambda suite: merging.merge(suite, tasks=[]), "at least one"),
        (lambda suite: merging.merge(suite, tasks=["nothing"]), "no task 'nothing'"),
        (lambda suite: merging.merge(suite, FIXED, split="train"), "split"),
        (lambda suite: merging.similarity(suite, "awd", {"merge.scaling": 1}), "edit only"),
        (lambda suite: merging.evaluate(suite, "nowhere.safetensors"), "nowhere.safetensors"),
        (lambda suite: merging.evaluate(suite, split="train"), "split"),
        (lambda suite: merging.leaderboard(suite, ["nothing"]), "nothing"),
        (lambda suite: merging.replay("nowhere.yaml", "out.safetensors"), "nowhere.yaml"),
        (lambda suite: merging.open_checkpoint("nowhere.safetensors"), "nowhere.safetensors"),
        (lambda suite: merging.load_suite(None), "a path or a name, got None"),
        (lambda suite: merging.load_suite(""), "got an empty text"),
        (
            lambda suite: merging.evaluate(suite, "bas"),
            r"or a weight file; got 'bas' \(did you mean 'base'",
        ),
        (lambda suite: merging.evaluate(suite, ""), "or a weight file; got ''"),
        (lambda suite: merging.merge(suite, ("awd", "ties")), "unknown merge 'ties', which is an edit; there are"),
        (lambda suite: merging.similarity(suite, "iso_c"), "unknown edit 'iso_c', which is a merge; there are"),
        (lambda suite: merging.export(3, "out"), "expected what merging.merge gives, got 3"),
        (lambda suite: merging.evaluate(suite, 3), "a path or a name, got 3"),
        (lambda suite: merging.merge(suite, FIXED, home=3), "a path or a name, got 3"),
        (lambda suite: merging.merge(suite, FIXED, ["scaling"]), "names with values"),
        (lambda suite: merging.merge(suite, FIXED, precision="int8"), "precision"),
        (lambda suite: merging.merge(suite, FIXED, output="out.safetensors", layout="hf"), "layout.*huggingface"),
        (lambda suite: merging.export(merging.merge(suite, FIXED), "out", dtype="int8"), "dtype.*bfloat16"),
        (lambda suite: merging.export(merging.merge(suite, FIXED), "out", shard_bytes="2GB"), "whole number.*'2GB'"),
        (lambda suite: merging.export(merging.merge(suite, FIXED), "out", shard_bytes=0), "1 or more"),
        (lambda suite: merging.leaderboard(suite, "average"), "methods: expected a list"),
        (lambda suite: merging.table(), "nothing to show"),
        (lambda suite: merging.figure("mini"), "got str"),
        (lambda suite: merging.figure([]), "empty"),
        (lambda suite: merging.table(merging.evaluate(suite), merging.evaluate(suite)), "given twice"),
        (lambda suite: merging.table(merging.evaluate(suite), merging.merge(suite, FIXED, split="val")), "different"),
        (lambda suite: merging.table(merging.evaluate(suite), of="search"), "no λ was chosen"),
        (lambda suite: merging.table(merging.evaluate(suite), of="coefficients"), "those of one merge"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(suite_file: Path, call: Any, reason: str) -> None:
    with pytest.raises(merging.MergingError, match=reason):
        call(suite_file)


@pytest.mark.parametrize("looked_at", [True, False])
def test_a_bar_is_shown_where_somebody_looks(
    suite_file: Path, looked_at: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: looked_at, raising=False)
    merging.merge(suite_file, FIXED, {"merge.scaling": 0.3})
    shown = capsys.readouterr()
    assert ("evaluating on" in shown.err) == looked_at and shown.out == ""


def test_the_lines_of_python_in_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite_file: Path) -> None:
    """As they stand, on the tiny suite."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code.count('"mini"') == 1
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"mini"', repr(str(suite_file))), {})
    assert (tmp_path / "accuracy.html").is_file() and (tmp_path / "awd" / "recipe.yaml").is_file()
