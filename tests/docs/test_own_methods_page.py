"""docs/own-methods.md, done as it says by somebody who begins with an empty folder."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from merging.cli import main
from merging.methods import own
from merging.methods.context import Context
from merging.methods.pair import Pair
from merging.methods.plan import plan
from merging.sweeps.definition import parse_definition
from merging.weights.vectors import TaskVectors
from tests.methods.test_plan import assert_same

PAGE = (Path(__file__).parents[2] / "docs" / "own-methods.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


def call(line: str, suite_file: Path) -> Result:
    """A line of the page, on the tiny suite."""
    assert f"merging {line}" in PAGE, line
    words = [str(suite_file) if word == "mini" else word for word in line.split()]
    return CliRunner().invoke(main, words)


def test_from_an_empty_folder_to_the_leaderboard(
    tmp_path: Path, suite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERGING_HOME", str(tmp_path / "home"))
    assert call("new-method tempered", suite_file).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"tempered.py", "test_tempered.py"}
    code = block("python")
    assert len(code.splitlines()) <= 36
    (tmp_path / "tempered.py").write_text(code, encoding="utf-8")

    checked = call("check-method tempered --methods tempered.py", suite_file)
    assert checked.exit_code == 1  # two do not hold, as the page says and explains
    words = {line[11:].split(":")[0]: line[:11].strip() for line in checked.stdout.splitlines()[1:-1]}
    lines = [line for line in PAGE.splitlines() if re.match(" {4}(holds|FAILS|not tried)", line)][:-1]  # but the device
    shown = {line[15:].split(":")[0]: line[4:15].strip() for line in lines}
    assert words == shown and list(words.values()).count("FAILS") == 2

    merged = call("merge mini --merge tempered --set merge.power=0.5 --evaluate --methods tempered.py", suite_file)
    assert merged.exit_code == 0 and merged.stdout.startswith("Tempered · power 0.5, 4 tasks"), merged.output
    board = call("leaderboard mini --presets task_arithmetic,iso_c,tempered --methods tempered.py", suite_file)
    assert board.exit_code == 0 and "| Tempered | none | λ |" in board.stdout, board.output


def test_the_example_lies_between_the_two_methods_that_it_names(
    own_methods: Path, make_vectors: Callable[..., TaskVectors]
) -> None:
    (own_methods / "tempered.py").write_text(block("python"), encoding="utf-8")
    own.refresh()
    vectors = make_vectors(tasks=3)

    def merged(text: str) -> dict[str, torch.Tensor]:
        return dict(plan(vectors, Pair.read(text), Context()).tensors())

    assert_same(merged("merge=tempered merge.power=0"), merged("merge=iso_c"), 1e-4)
    plain = merged("merge=task_arithmetic merge.scaling=1")
    torch.testing.assert_close(merged("merge=tempered merge.power=1")["proj"], plain["proj"], rtol=1e-4, atol=1e-5)
    assert parse_definition(block("yaml")).total == 4
