"""Where things lie: in a checkout and outside of one, with ``~`` and without."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import merging
from merging.cli import main
from merging.core import places
from merging.suites import load_suite
from merging.weights.files import open_checkpoint, save_tensors
from tests.needed_packages import need_packages

TOP = Path(merging.__file__).resolve().parents[1]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package as if it did not lie in a checkout, with a data folder of its user."""
    monkeypatch.setattr(places, "checkout", lambda: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("MERGING_HOME", raising=False)
    return tmp_path / "data"


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_suite: Path) -> Path:
    """A home folder with a suite in ``~/suite``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert own_suite == tmp_path / "suite"
    return tmp_path


def test_in_a_checkout_runs_lie_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MERGING_HOME", raising=False)
    assert places.chosen_home() == TOP / ".merging" and places.dashboard() == TOP / "app.py"


def test_elsewhere_they_lie_in_the_users_data_folder(installed: Path) -> None:
    need_packages("platformdirs")
    assert places.chosen_home() == installed / "clip-merging"
    assert places.dashboard() == TOP / "merging" / "_app" / "app.py"


def test_a_folder_that_was_named_comes_first(monkeypatch: pytest.MonkeyPatch, user: Path) -> None:
    monkeypatch.setenv("MERGING_HOME", "~/runs")
    assert places.chosen_home() == user / "runs"
    monkeypatch.setenv("MERGING_HOME", "")
    assert places.chosen_home() == TOP / ".merging"


def test_the_home_folder_is_understood_where_a_path_is_given(user: Path) -> None:
    suite = load_suite("~/suite")
    assert suite.folder == user / "suite" and load_suite("~/suite/suite.yaml") == suite
    base = open_checkpoint("~/suite/base.safetensors")
    assert base.path == user / "suite" / "base.safetensors"
    save_tensors("~/again.safetensors", base.infos, base.items())
    assert (user / "again.safetensors").is_file()


def test_the_command_line_understands_it_where_no_shell_has_read_it(user: Path) -> None:
    command = ["merge", "~/suite", "--output=~/merged.safetensors"]
    result = CliRunner().invoke(main, command, env={"MERGING_HOME": "~/runs"})
    assert result.exit_code == 0, result.stderr
    assert (user / "merged.safetensors").is_file() and (user / "runs" / "runs.sqlite").is_file()
    exported = CliRunner().invoke(main, ["replay", "~/nothing.yaml", "--output=~/again.safetensors"])
    assert exported.exit_code == 2 and str(user) in exported.stderr


def test_a_path_in_a_suite_still_may_not_leave_its_folder(user: Path) -> None:
    """``~`` in a suite.yaml is a file's name like any other: what is described there lies beside it."""
    file = user / "suite" / "suite.yaml"
    file.write_text(file.read_text().replace("base.safetensors", "~/base.safetensors", 1))
    assert load_suite(file).path("~/base.safetensors") == user / "suite" / "~" / "base.safetensors"


@pytest.mark.parametrize(
    ("home", "said"),
    [("", "expected a path, got an empty text"), ("~nobody-of-that-name/runs", "there is no such user")],
)
def test_a_home_that_a_shell_left_wrong_makes_nothing(
    home: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["runs", "list", "--home", home])
    assert result.exit_code == 2 and said in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_said() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.stdout == f"merging {merging.__version__}\n"
