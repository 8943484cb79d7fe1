"""The report of a comparison: complete, one file, and names stay text."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from merging.cli import main
from merging.evaluation.evaluator import Evaluator
from merging.runs.comparison.compare import RunComparison, compare_runs
from merging.runs.comparison.report import MAX_IMAGES, comparison_report
from merging.runs.jobs import MergeSpec
from merging.runs.run import Run
from merging.runs.workspace import Workspace
from merging.suites import Suite, load_suite
from tests.carrying import execute
from tests.headings import levels_of_html, step_by_one
from tests.random_models import TASKS

EVIL = "<script>alert(1)</script>\"'&amp;"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def run_of(suite_file: Path, workspace: Workspace, **choices: object) -> Run:
    run = workspace.submit(MergeSpec.build(suite=str(suite_file), tasks=TASKS, device="cpu", **choices))
    if workspace.store.claim(run.id):
        workspace.store.finish(run.id, execute(run.spec, workspace))
    return workspace.store.get(run.id)


@pytest.fixture(scope="module")
def made(suite_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a comparison of three runs, which no test changes."""
    space = Workspace(tmp_path_factory.mktemp("three"))
    three(suite_file, space)
    return space


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """The same, of the test's own."""
    return Workspace(shutil.copytree(made.home, tmp_path / "home"))


@pytest.fixture
def compared(suite_file: Path, workspace: Workspace) -> RunComparison:
    """That of three runs of the tiny suite."""
    return three(suite_file, workspace)


def three(suite_file: Path, workspace: Workspace) -> RunComparison:
    return compare_runs([run_of(suite_file, workspace, merge_params={"scaling": s}) for s in (0.2, 1.5, 3)], workspace)


def report_of(found: RunComparison, suite: Suite, name: str = "B") -> str:
    return comparison_report(found, ["A", name, "C"], {task: task for task in TASKS}, Evaluator(suite), "A title")


def test_everything_of_the_comparison_is_in_it(compared: RunComparison, suite: Suite) -> None:
    found = compared
    page = Page(report_of(found, suite))
    for pair in found.pairs:
        for one in pair.tasks.values():
            assert f"{100 * one.difference:+.1f}\n".replace("-", "−") in page.text
            assert f"{100 * one.low:+.1f} to {100 * one.high:+.1f}".replace("-", "−") in page.text
    assert "Task\nVerdict\nA (%)\nB (%)\n" in page.text  # the verdict is in sight however narrow the window
    for run in found.runs:
        assert run.id in page.text
    for words in ("McNemar", "Holm", "merge: scaling", "B against A", "C against A", "test split, 96 images", *TASKS):
        assert words in page.text
    assert step_by_one(levels_of_html(report_of(found, suite))) and "<th></th>" not in report_of(found, suite)
    assert page.count("svg") == 1 + 2 + 4 * 2 * 3  # differences, coefficients, three confusions a task and run
    shown = [
        min(MAX_IMAGES, len(found.only_right(*pair, task)))
        for task in TASKS
        for pair in ((1, 0), (0, 1), (2, 0), (0, 2))
    ]
    assert page.count("img") == sum(shown) > 0


def test_images_are_the_tasks_own(compared: RunComparison, suite: Suite) -> None:
    found = compared
    task = next(task for task in TASKS if len(found.only_right(1, 0, task)))
    index = found.only_right(1, 0, task)[0]
    section = report_of(found, suite).split(f"<h3>{task}</h3>")[1]
    data = re.search(r'<img src="data:image/png;base64,([^"]+)"', section)
    assert data is not None
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).resize((32, 32), Image.Resampling.NEAREST))
    assert np.array_equal(seen, Evaluator(suite).image_set(task, "test").pixels[index])


def test_it_has_no_script_and_asks_for_nothing(compared: RunComparison, suite: Suite) -> None:
    source = report_of(compared, suite)
    page = Page(source)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert all(str(attributes.get(name, "data:")).startswith("data:") for name in ("src", "href"))
    assert "default-src 'none'" in source
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", source)


def test_names_stay_text(suite_file: Path, own_suite: Path, workspace: Workspace) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    for entry in content["tasks"]:
        entry |= {"title": f"{EVIL} {entry['name']}", "classes": [f"{EVIL} {number}" for number in range(5)]}
    (own_suite / "suite.yaml").write_text(yaml.safe_dump({**content, "title": EVIL}))
    path = own_suite / "suite.yaml"
    found = three(path, workspace)
    suite = load_suite(path)
    labels = {task: suite.task(task).label for task in TASKS}
    page = Page(comparison_report(found, ["A", EVIL, "C"], labels, Evaluator(suite), f"{EVIL} title"))
    assert page.count("script") == 0
    assert f"{EVIL} title" in page.text and f"{EVIL} digits" in page.text and f"{EVIL} 3" in page.text
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert alts and all(str(alt).startswith(EVIL) for alt in alts)


def test_runs_without_a_table_have_no_coefficients_to_subtract(compared: RunComparison, suite: Suite) -> None:
    found = compared
    assert "<h2>Coefficients</h2>" in report_of(found, suite)
    for run in found.runs[1:]:
        assert run.result is not None
        run.__dict__["result"] = run.result.model_copy(update={"coefficients": None})  # as read from the row
    assert "<h2>Coefficients</h2>" not in report_of(found, suite)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_compares_and_writes_the_report(
    compared: RunComparison, workspace: Workspace, tmp_path: Path
) -> None:
    found = compared
    ids = [run.id for run in found.runs]
    file = tmp_path / "out" / "report.html"
    file.parent.mkdir()
    said = call("runs", "compare", *ids, "--html", file, "--home", workspace.home)
    assert said.exit_code == 0, said.stderr
    assert f"written: {file}" in said.stdout and "McNemar" in said.stdout
    for pair in found.pairs:
        for task, one in pair.tasks.items():
            numbers = f"{100 * one.reference:.1f} % → {100 * one.accuracy:.1f} % {100 * one.difference:+.1f} ("
            assert f"{task} {numbers}".replace("-", "−") in " ".join(said.stdout.split())
    source = file.read_text()
    assert source.startswith("<!DOCTYPE html>") and "Task Arithmetic · " in source
    row = json.loads(call("runs", "compare", *ids, "--json", "--home", workspace.home).stdout)
    assert row["reference"] == ids[0] and [run["run"] for run in row["runs"]] == ids[1:]
    assert row["runs"][0]["tasks"]["digits"]["p"] == found.pairs[0].tasks["digits"].p
    assert list(tmp_path.glob("out/.*")) == []


def test_the_command_says_what_it_cannot_compare(suite_file: Path, workspace: Workspace, tmp_path: Path) -> None:
    run = run_of(suite_file, workspace)
    alone = call("runs", "compare", run.id, "--home", workspace.home)
    assert alone.exit_code == 1 and "two to 4 different runs" in alone.stderr
    unknown = call("runs", "compare", run.id, "feedbeef", "--home", workspace.home)
    assert unknown.exit_code == 1 and "feedbeef" in unknown.stderr


@pytest.mark.parametrize("position", [0, 1])
def test_a_file_in_the_way_is_an_error(position: int, suite_file: Path, workspace: Workspace, tmp_path: Path) -> None:
    runs = [run_of(suite_file, workspace, merge_params={"scaling": s}) for s in (0.2, 1.5)]
    (tmp_path / "file").write_text("kept")
    target = tmp_path if position else tmp_path / "file" / "report.html"
    refused = call("runs", "compare", *[run.id for run in runs], "--html", target, "--home", workspace.home)
    assert refused.exit_code in (1, 2) and refused.stderr
    assert (tmp_path / "file").read_text() == "kept"
