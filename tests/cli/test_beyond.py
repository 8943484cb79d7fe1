"""Commands on corrupted images and unseen tasks: what they print, as text and as JSON, and what they refuse."""

from pathlib import Path

import pytest
import yaml

from tests.cli.test_cli import as_json, call
from tests.random_models import TASKS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_merge_is_measured_on_what_is_asked_for(suite_file: Path, home: Path) -> None:
    asked = ("merge", suite_file, "--tasks", "digits,roads", "--evaluate", "--home", home)
    found = as_json(*asked, "--unseen", "rest", "--shift", "contrast:5")
    assert set(found["accuracy"]) == {"digits", "roads"} and set(found["unseen"]["accuracy"]) == {"circles", "leaves"}
    assert found["shift"] == "contrast:5" and set(found["unseen"]["zero_shot"]) == set(TASKS)
    text = call(*asked, "--unseen", "leaves", "--shift", "contrast:5").stdout
    assert "unseen: leaves" in text and "mean of unseen tasks" in text and "circles" not in text
    assert "All test images are corrupted: Contrast, severity 5." in text
    assert not {"unseen", "shift"} & as_json(*asked).keys()


def test_robustness_prints_what_its_page_draws(suite_file: Path, home: Path) -> None:
    asked = ("robustness", suite_file, "--presets", "average,tall_masks", "--corruptions", "contrast,pixelate")
    asked = (*asked, "--severities", "1,4", "--home", home)
    found = as_json(*asked)
    assert found["methods"] == ["average", "tall_masks"] and found["severities"] == [1, 4]
    assert found["corruptions"] == ["pixelate", "contrast"]  # in the order of published tables
    for method in found["methods"]:
        for corruption in found["corruptions"]:
            assert set(found["accuracy"][method][corruption]) == {"1", "4"}
            assert all(set(tasks) == set(TASKS) for tasks in found["accuracy"][method][corruption].values())
        assert set(found["clean"][method]) == set(TASKS)
    again = call(*asked)
    assert "2 methods, 2 done before" in again.stderr
    lines = again.stdout.splitlines()
    assert lines[0] == "severity 1" and lines[1].split()[:4] == ["method", "clean", "pixel", "contrast"]
    clean = found["clean"]["average"].values()
    row = next(line for line in lines if line.startswith("Weight averaging"))
    assert row.split()[2] == f"{100 * sum(clean) / len(clean):.1f}"
    every = call("robustness", suite_file, "--presets", "average", "--severities", "1", "--home", home).stdout
    assert max(map(len, every.splitlines())) <= 100


def test_generalise_prints_what_its_page_draws(suite_file: Path, home: Path) -> None:
    asked = ("generalise", suite_file, "--presets", "average", "--leave", "2", "--most", "3", "--home", home)
    found = as_json(*asked)
    assert found["methods"] == ["average"] and len(found["splits"]) == len(found["accuracy"]["average"]) == 3
    for split, accuracy in zip(found["splits"], found["accuracy"]["average"], strict=True):
        assert len(split["unseen"]) == 2 and {*split["seen"], *split["unseen"]} == set(TASKS) == set(accuracy)
    assert set(found["zero_shot"]) == set(TASKS)
    again = call(*asked)
    assert "1 method, 1 done before" in again.stderr and "Weight averaging" in again.stdout


def test_scaling_prints_what_its_page_draws(suite_file: Path, home: Path) -> None:
    asked = (
        "scaling",
        suite_file,
        "--presets",
        "average,tall_masks",
        "--sizes",
        "1,3",
        "--subsets",
        "2",
        "--home",
        home,
    )
    found = as_json(*asked)
    assert found["methods"] == ["average", "tall_masks"] and found["sizes"] == [1, 3]
    assert [len(one) for one in found["subsets"]] == [1, 1, 3, 3]
    for method in found["methods"]:
        assert [set(one) for one in found["accuracy"][method]] == [set(one) for one in found["subsets"]]
    assert {*found["averages"]} == {"zero_shot", "individual", *found["methods"]}
    again = call(*asked)
    assert "2 methods, 2 done before" in again.stderr and again.stdout.splitlines()[0] == "mean accuracy in percent"
    row = next(line for line in again.stdout.splitlines() if line.startswith("Weight averaging"))
    assert row.split()[2] == f"{100 * found['averages']['average']['1']['average']:.1f}"


def test_one_split_may_hold_tasks_without_a_model(own_suite: Path, home: Path) -> None:
    content = yaml.safe_load((own_suite / "suite.yaml").read_text())
    del next(each for each in content["tasks"] if each["name"] == "roads")["checkpoint"]
    (own_suite / "suite.yaml").write_text(yaml.safe_dump(content))
    for unseen in ("roads", "rest"):
        found = as_json("generalise", own_suite, "--presets", "average", "--unseen", unseen, "--home", home)
        assert found["splits"] == [{"seen": ["circles", "digits", "leaves"], "unseen": ["roads"]}]
    named = ("generalise", own_suite, "--presets", "average", "--unseen", "roads,digits", "--home", home)
    assert as_json(*named)["splits"] == [{"seen": ["circles", "leaves"], "unseen": ["roads", "digits"]}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["robustness", "--severities", "0"], "severity 0 is out of range: expected 1 to 5"),
        (["robustness", "--severities", "high"], "severity 'high': expected a number from 1 to 5, or ready"),
        (["robustness", "--corruptions", "contrst"], "no corruption 'contrst' (did you mean 'contrast'?)"),
        (["robustness", "--presets", "magic"], "magic"),
        (["scaling", "--sizes", "2,9"], "numbers of tasks: 9; expected numbers from 1 to 4"),
        (["scaling", "--sizes", "few"], "--sizes 'few': expected whole numbers with commas"),
        (["generalise", "--leave", "4"], "4 of 4 tasks can't be left out"),
        (["generalise", "--unseen", "nonsense"], "has no task 'nonsense'"),
        (["generalise", "--unseen", "rest"], "has no further task with images and a head"),
        (["generalise", "--unseen", "roads", "--presets", "tall_masks"], "one model for all tasks"),
        (["merge", "--evaluate", "--unseen", "digits"], "unseen tasks digits: they are merged as well"),
        (["merge", "--evaluate", "--shift", "contrast:9"], "severity 9 is out of range"),
        (["merge", "--evaluate", "--shift", "contrast:ready"], "only data sets of the hub can carry corrupted images"),
    ],
)
def test_each_mistake_has_its_own_error(arguments: list[str], said: str, suite_file: Path, home: Path) -> None:
    command, *options = arguments
    result = call(command, suite_file, *options, "--home", home)
    assert result.exit_code == 1 and result.stderr.count("Error: ") == 1 and said in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["merge", "--unseen", "digits"],
        ["merge", "--shift", "contrast:1"],
        ["generalise", "--leave", "1", "--unseen", "x"],
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments: list[str], suite_file: Path, home: Path) -> None:
    command, *options = arguments
    assert call(command, suite_file, *options, "--home", home).exit_code == 2
