"""The README and the pages of docs say what there is, and nothing that isn't there; what they show to paste works."""

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from merging.cli import main
from merging.methods import registry
from merging.methods.presets import PRESETS, Preset
from merging.runs.beyond import ON_CLEAN
from merging.runs.leaderboard import data_looked_at, two_settings
from studies.docs import BOARD, FIRST_LOOK, GENERALISE, OWN_MERGE, PAGES, RELATED_BOARD, ROBUSTNESS, commands, render

ROOT = Path(__file__).parents[2]
STUDIES = ("docs/awd-study.md", "docs/partial-linearisation.md", "docs/own-merge.md")
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in (*PAGES, *STUDIES)}
README, METHODS = TEXTS["README.md"], TEXTS["docs/methods.md"]
COMMANDS = dict(commands(main))
_COMMAND = re.compile(r"(?:^    (?:\$ )?|`)merging ([a-z-][^`\n]*)", re.MULTILINE)
_ELSEWHERE = ("merging/_app",)  # in a wheel
_LONG = ("app", "leaderboard")  # commands of the README that are not run here: they end late or never


def lines(page: str) -> list[str]:
    """A page without what is code."""
    return re.sub(r"(?s)```.*?```", "", TEXTS[page]).splitlines()


def headings(page: str) -> list[tuple[int, str]]:
    found = [re.fullmatch(r"(#+) (.+)", line) for line in lines(page)]
    return [(len(one[1]), one[2]) for one in found if one]


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings of a page in links."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for _, title in headings(page)}


# --- as pages ---------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 8192


def test_every_page_of_docs_is_known() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} | {"README.md"} == set(TEXTS)


@pytest.mark.parametrize("page", TEXTS)
def test_every_row_of_a_table_fills_its_columns(page: str) -> None:
    above = 0
    for line in (re.sub(r"`[^`]*`|\\\|", "", line) for line in lines(page)):
        cells = line.count("|") - 1 if line.startswith("|") else 0
        assert not above or not cells or cells == above, line
        above = cells


@pytest.mark.parametrize("page", TEXTS)
def test_headings_go_down_one_level_at_a_time(page: str) -> None:
    levels = [level for level, _ in headings(page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    titles = [title for _, title in headings(page)]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?://)([^)]+)\)", TEXTS[page])
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("page", [*PAGES, *STUDIES])
def test_every_page_leads_to_its_neighbours(page: str) -> None:
    folder = (ROOT / page).parent
    linked = {(folder / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", TEXTS[page])}
    wanted = [ROOT / other for other in PAGES if other != page]
    if page in STUDIES:
        wanted = [ROOT / "README.md", ROOT / "docs" / "results.md"]
    assert not [str(path) for path in wanted if path not in linked]


@pytest.mark.parametrize("page", [*PAGES, OWN_MERGE, FIRST_LOOK])
def test_tables_that_come_from_code_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert render(page, text) == text, "run `make docs`"


def test_a_table_that_is_out_of_date_is_made_again() -> None:
    old = METHODS.replace("| `tsv_m` | TSV-M | `none` | `tsv_m` | none |", "| `tsv_m` | something else |")
    assert old != METHODS and render("docs/methods.md", old) == METHODS


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert f"| `merging {command}` |" in TEXTS["docs/command-line.md"]
    elsewhere = re.sub(r"\n\| `merging .*", "", "\n".join(TEXTS.values()))
    assert any(f"{line} ".startswith(f"{command} ") for line in _COMMAND.findall(elsewhere))


@pytest.mark.parametrize("page", TEXTS)
def test_every_documented_command_and_option_exists(page: str) -> None:
    for line in _COMMAND.findall(TEXTS[page]):
        words = shlex.split(line, comments=True)
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        if name == "COMMAND" or words[0].startswith("--"):
            continue
        command = COMMANDS.get(name, main.commands.get(name))
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("page", TEXTS)
def test_commands_are_written_in_one_way(page: str) -> None:
    text = TEXTS[page].replace("`python -m merging` is the same", "")
    assert "python -m merging" not in text and "bin/merging" not in text


def test_the_lines_of_shell_in_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite_file: Path
) -> None:
    """As they stand, one after the other, on the tiny suite; the one that activates the environment is the shell's."""
    block = README.split("\n    source .venv/bin/activate\n")[1].split("\n\n")[0]
    shown = [line.strip() for line in block.splitlines()]
    assert len(shown) == 9 and all(line.startswith("merging ") for line in shown)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERGING_HOME", str(tmp_path / "home"))
    run = [words for line in shown if (words := shlex.split(line, comments=True)[1:])[0] not in _LONG]
    assert len(run) == 7
    said = {}
    for words in run:
        words = [str(suite_file) if word == "mini" else word for word in words]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, (words, result.output)
        said[words[0], "--preset" in words] = result.stdout
    assert "TSV-M, 4 tasks" in said["merge", True]
    averages = [re.findall(r"average +([\d.]+ %)", said[key]) for key in (("merge", True), ("evaluate", False))]
    assert averages[0] == averages[1] != []  # the file holds what was measured


def test_the_lines_of_python_in_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suite_file: Path
) -> None:
    """As they stand, on the tiny suite."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) == 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERGING_HOME", str(tmp_path / "home"))
    assert code.count('"mini"') == 1
    exec(code.replace('"mini"', repr(str(suite_file))), {})
    said = capsys.readouterr().out
    assert "Task Arithmetic" in said and (tmp_path / "accuracy.html").is_file()


@pytest.mark.parametrize("page", TEXTS)
def test_every_make_target_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.findall(r"(?:`|^    |=\S+ )make ([a-z-]+)", TEXTS[page], re.MULTILINE)
    assert not [target for target in found if f"\n{target}:" not in makefile]


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    packages = {re.split(r"[><=!~\[ ]", one)[0] for one in named} - {"types-PyYAML", "pandas-stubs"}
    explained = TEXTS["docs/design.md"].split("## Dependencies, and why")[1].split("\n## ")[0]
    said = {word for row in re.findall(r"^\| (.+?) \|", explained, re.MULTILINE) for word in re.split(r"[ ,(]+", row)}
    assert packages <= said, packages - said


def test_every_place_that_is_named_exists() -> None:
    """Those of the table begin where its row begins, or in the folder of what is named before."""
    for page in TEXTS:
        for path in re.findall(r"`((?:merging|ui|pages|studies|tests|benchmarks|examples)/[\w/.*-]*)`", TEXTS[page]):
            assert path in _ELSEWHERE or (ROOT / path).exists(), (page, path)
    table = TEXTS["docs/design.md"].split("## Where things are")[1].split("\n## ")[0]
    for row in re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", row)
        assert (ROOT / first).exists(), first
        for other in others:
            assert any((folder / other).exists() for folder in ((ROOT / first).parent, ROOT)), (first, other)


# --- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*registry.edits().values(), *registry.merges().values()], ids=lambda m: m.name)
def test_every_method_is_documented_with_its_paper_and_parameters(method: registry.Stage) -> None:
    row = next(
        (line for line in METHODS.splitlines() if line.startswith(f"| `{method.name}` | {method.title}: ")), None
    )
    assert row is not None
    assert method.paper in row
    assert f"{method.summary} | {method.data({}).needs} |" in row
    section = METHODS.split(f"(`{method.kind}={method.name}`)\n")[-1].split("\n### ")[0]
    assert not [name for name in method.params.model_fields if f"\n| `{method.kind}.{name}` |" not in section]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_is_documented_with_its_pair_and_data(preset: Preset) -> None:
    def stage(name: str, values: Mapping[str, Any]) -> str:
        words = ", ".join(f"{key} = {json.dumps(value)}".replace('"', "") for key, value in values.items())
        return f"`{name}`" + (f" ({words})" if words else "")

    pair = " | ".join(stage(part.name, part.changed) for part in preset.pair.parts)
    mark = " (this project's own)" if preset.ours else ""
    row = f"\n| `{preset.name}` | {preset.title}{mark} | {pair} | {preset.data.needs} | {preset.note} |\n"
    assert row in METHODS.replace("scaling = 1)", "scaling = 1.0)")


def test_two_settings_are_told_apart_in_the_same_words_everywhere() -> None:
    differ = [preset.title for preset in PRESETS.values() if preset.pair.data.chosen != data_looked_at(preset).chosen]
    assert "TSV-M" in differ
    said = two_settings()
    assert f"λ = 1 for {' · '.join(differ)}." in said
    for page in ("README.md", "docs/methods.md", "docs/results.md"):
        assert said in " ".join(TEXTS[page].split())


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [BOARD, RELATED_BOARD])
def test_a_stored_leaderboard_agrees_with_itself_and_with_what_methods_need(stored: Path) -> None:
    rows = json.loads(stored.read_text(encoding="utf-8"))["rows"]
    individual = next(row for row in rows if row["method"] == "Individual")["accuracy"]
    presets = {preset.title: data_looked_at(preset) for preset in PRESETS.values()}
    for row in rows:
        assert row["average"] == pytest.approx(sum(row["accuracy"].values()) / len(row["accuracy"]))
        shares = [value / individual[task] for task, value in row["accuracy"].items()]
        assert row["normalised"] == pytest.approx(sum(shares) / len(shares))
        if row["method"] not in ("Zero-shot", "Individual"):
            data = presets[row["method"]]
            assert (row["needs"], tuple(row["chosen"])) == (data.needs, data.chosen)


def test_what_is_stored_of_corrupted_images_is_of_the_same_models_as_the_leaderboard() -> None:
    rows = {row["method"]: row["average"] for row in json.loads(BOARD.read_text(encoding="utf-8"))["rows"]}
    stored = json.loads(ROBUSTNESS.read_text(encoding="utf-8"))
    for method, title in {**stored["titles"], "zero_shot": "Zero-shot"}.items():
        clean = stored["zero_shot"]["clean"] if method == "zero_shot" else stored["clean"][method]
        row = rows[stored["titles"][method.removesuffix(ON_CLEAN)] if method.endswith(ON_CLEAN) else title]
        assert sum(clean.values()) / len(clean) == pytest.approx(row, abs=2e-3)  # an image here and there


def test_what_is_stored_of_unseen_tasks_agrees_with_itself() -> None:
    stored = json.loads(GENERALISE.read_text(encoding="utf-8"))
    for method, splits in stored["accuracy"].items():
        for part in ("seen", "unseen"):
            means = [
                sum(accuracy[task] for task in split[part]) / len(split[part])
                for split, accuracy in zip(stored["splits"], splits, strict=True)
            ]
            assert stored["averages"][method][part]["average"] == pytest.approx(sum(means) / len(means))


def test_the_readme_shows_what_the_page_of_results_has() -> None:
    table = README.split("| method | data needed | average | normalised |\n")[1].split("\n<!--")[0].splitlines()[1:]
    assert len(table) == 13
    for line in table:
        name, needs, average, normalised = (cell.strip() for cell in line.strip("|").split("|"))
        row = next(one for one in TEXTS["docs/results.md"].splitlines() if one.startswith(f"| {name} | {needs} |"))
        assert f"| {average} | {normalised} |" in row
