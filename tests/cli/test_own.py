"""Methods of one's own on the command line: where they are named, what is said of broken ones, templates, checks."""

import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from merging.cli import main
from merging.methods import own, registry
from merging.methods.properties import few
from tests.own_methods import HEAD, method


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + method(), encoding="utf-8")
    yield path
    own.refresh()


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("before", [True, False])
def test_a_file_is_named_before_or_after_the_command_and_for_it_alone(file: Path, before: bool) -> None:
    option = ["--methods", file]
    found = call(*option, "methods") if before else call("methods", *option)
    assert found.exit_code == 0 and "  mine             Mine: Add the sum." in found.stdout
    assert "MERGING_METHODS" not in {name for name, value in os.environ.items() if value}
    assert "mine" not in registry.merges()


def test_every_command_takes_files_of_methods(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for words in (["runs", "list"], ["sweep", "list"], ["worker", "--once"]):
        found = call(*words, "--methods", file, "--home", home)
        assert found.exit_code == 0, found.output
    assert (home / "worker.methods").read_text() == str(file)


def test_the_leaderboard_takes_files_and_names_by_one_option(file: Path, suite_file: Path, tmp_path: Path) -> None:
    home = ["--home", tmp_path / "home"]
    found = call("leaderboard", suite_file, "--methods", "average", "--methods", file, "--methods", "mine", *home)
    assert found.exit_code == 0, found.output
    assert [line.split("|")[1].strip() for line in found.stdout.splitlines()[2:]].count("Mine") == 1
    assert "Weight averaging" in found.stdout and "Iso-C" not in found.stdout


@pytest.mark.parametrize("given", ["nowhere.py", "average,nowhere.py", "./nowhere", ""])
def test_the_leaderboard_runs_nothing_for_a_file_that_is_not_there(
    given: str, suite_file: Path, tmp_path: Path
) -> None:
    found = call("leaderboard", suite_file, "--methods", given, "--home", tmp_path / "home")
    assert found.exit_code == 1 and f"--methods {given!r}: there is no such file or folder" in found.stderr


def test_a_broken_file_is_said_on_standard_error_and_the_command_works(file: Path, suite_file: Path) -> None:
    file.write_text(file.read_text() + "\nnothing_of_that_name\n")
    found = call("methods", "--json", "--methods", file)
    assert found.exit_code == 0 and found.stdout.startswith('{"edits"')
    line = len(file.read_text().splitlines())
    assert found.stderr == (
        f"warning: the methods of mine.py are not loaded: line {line}, NameError: name 'nothing_of_that_name' is not "
        "defined\n"
    )
    missing = call("merge", suite_file, "--merge", "mine", "--methods", file)
    assert missing.exit_code == 1 and missing.stderr.count("NameError") == 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("folder", [True, False])
def test_a_file_that_has_a_built_in_name_is_refused_and_nothing_runs(
    file: Path, suite_file: Path, tmp_path: Path, before: bool, folder: bool
) -> None:
    """The built-in method of that name is not what was meant."""
    file.write_text(HEAD + method("iso_c", "Mine"), encoding="utf-8")
    command = ["merge", suite_file, "--merge", "iso_c", "--home", tmp_path / "home"]
    named = ["--methods", file.parent if folder else file]
    found = call(*named, *command) if before else call(*command, *named)
    assert found.exit_code == 1 and not (tmp_path / "home").exists()
    assert "Error: the methods of mine.py are not loaded: " in found.stderr
    assert "there is a built-in merge 'iso_c'; choose another name" in found.stderr and "warning" not in found.stderr
    assert call("check-method", "iso_c", "--methods", file).exit_code == 1


def test_a_leaderboard_says_how_a_folder_is_named(
    suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    found = call("leaderboard", suite_file, "--methods", "mine", "--home", tmp_path / "home")
    assert found.exit_code == 1 and "write ./mine for it" in found.stderr


def test_a_folder_without_methods_is_refused(suite_file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other.py").write_text("from merging.methods.pair import Pair\nraise SystemExit")  # not run
    found = call("merge", suite_file, "--methods", tmp_path / "empty", "--home", tmp_path / "home")
    assert found.exit_code == 1 and not (tmp_path / "home").exists()
    assert "Error: --methods empty: no Python file in this folder registers a method; expected a" in found.stderr


@pytest.mark.parametrize("kind", ["edit", "merge"])
def test_a_template_is_a_method_with_a_test_that_passes(kind: str, own_methods: Path, tmp_path: Path) -> None:
    options = ["--edit"] if kind == "edit" else []
    written = call("new-method", "my_idea", *options)
    assert written.exit_code == 0 and f"--{kind} my_idea --evaluate\n" in written.stdout
    own.refresh()
    assert own.problems() == () and registry.find(kind, "my_idea").title == "My idea"  # type: ignore[arg-type]
    tests = runpy.run_path(str(own_methods / "test_my_idea.py"))
    tests["test_it_has_the_properties_of_every_method"]()
    tests["test_it_computes_what_it_should"](tmp_path / "models")
    checked = call("check-method", "my_idea", "--set", f"{kind}.{'share' if kind == 'edit' else 'power'}=0.5")
    assert checked.exit_code == 0 and checked.stdout.startswith(f"{kind} my_idea, from my_idea.py, SHA-256 ")
    before = (own_methods / "my_idea.py").read_text()
    again = call("new-method", "my_idea", *options)
    assert again.exit_code == 1 and "there is a method 'my_idea' already" in again.stderr
    assert (own_methods / "my_idea.py").read_text() == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [("My-Idea", "a name is made of small letters"), ("tsv_m", "already"), ("there", "there.py: is there already")],
)
def test_no_template_is_written_over_or_beside_what_is_there(name: str, reason: str, own_methods: Path) -> None:
    (own_methods / "there.py").write_text("")
    refused = call("new-method", name)
    assert refused.exit_code == 1 and reason in refused.stderr
    assert [path.name for path in own_methods.iterdir()] == ["there.py"]


def test_what_does_not_hold_is_told_with_the_case_that_shows_it(own_methods: Path) -> None:
    """A merge that depends on the order, changes what nobody changed, and makes no numbers of zeros."""
    body = "base + 1e-3 + 2 * stack[0] / stack.abs().max()"
    (own_methods / "mine.py").write_text(HEAD + method().replace("base + 1.0 * params.much * stack.sum(dim=0)", body))
    own.refresh()
    found = call("check-method", "mine")
    assert found.exit_code == 1
    failed = [line for line in found.stdout.splitlines() if line.startswith("FAILS")]
    assert [line[11:].split(":")[0] for line in failed] == [
        "any models are merged to numbers, the same ones again",
        "one task gives its model back at λ = 1",
        "the order of tasks does not matter",
        "equal models change in their own direction",
        "what no task has changed stays",
    ]
    assert "of tensor 'conv1.weight' it gives numbers that are not finite" in failed[0] and failed[0].endswith(
        "(1 task, one zero)"
    )
    of_each = call("check-method", "emr")
    assert of_each.exit_code == 0 and of_each.stdout.count("not tried  ") == 8
    assert "neither an edit nor a merge 'nothing'" in call("check-method", "nothing").stderr


def test_one_that_looks_at_images_is_tried_on_random_ones(own_methods: Path) -> None:
    """With what it takes of them said; one that lets the images decide of a task by itself gives no model back."""
    body = """
    evaluator = context.need_images("Mine", vectors.tasks)
    much = sum(float(evaluator.images(task, "val", slice(None)).mean()) for task in vectors.tasks)
    return TensorMerge(lambda name, base, stack: base + much * stack.sum(dim=0))
"""
    own_one = method(more=', needs="unlabeled"').replace('    """Add the sum."""\n', '    """Add the sum."""' + body)
    (own_methods / "mine.py").write_text(HEAD + own_one)
    own.refresh()
    found = call("check-method", "mine")
    assert found.stdout.count("holds  ") == 5 and "FAILS      one task gives its model back" in found.stdout
    assert few("merge", "adamerging", {"steps": 5}) == {"batch_size": 4}
