"""Commands on corrupted images and unseen tasks: what they print, as text and as JSON, and what they refuse."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml

from merging.suites.protocols import SPLITS
from tests.cli.test_cli import as_json, call
from tests.random_models import TASKS, write_suite


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
    asked = ("robustness", suite_file, "--presets", "tall_masks,average", "--corruptions", "contrast,pixelate")
    asked = (*asked, "--severities", "1,4", "--home", home)
    found = as_json(*asked)
    assert found["methods"] == ["tall_masks", "average"] and found["severities"] == [1, 4]
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


def test_what_was_measured_for_more_is_not_measured_again_for_less(suite_file: Path, home: Path) -> None:
    asked = ("robustness", suite_file, "--presets", "average", "--home", home)
    every = as_json(*asked, "--corruptions", "contrast,pixelate", "--severities", "1,4")
    less = call(*asked, "--corruptions", "contrast", "--severities", "4", "--json")
    assert "1 method, 1 done before" in less.stderr and "to do" not in less.stderr
    of = json.loads(less.stdout)["accuracy"]["average"]
    assert of == {"contrast": {"4": every["accuracy"]["average"]["contrast"]["4"]}}
    more = call(*asked, "--corruptions", "contrast,spatter", "--severities", "4").stderr
    assert "1 method, 0 done before; to do: 1 merge with Weight averaging" in more
    with sqlite3.connect(home / "runs.sqlite") as table:
        *_, (last,) = table.execute("select spec from runs order by created")
    assert json.loads(last)["shifts"] == [{"corruption": "spatter", "severity": 4}]


def test_generalise_prints_what_its_page_draws(suite_file: Path, home: Path) -> None:
    asked = ("generalise", suite_file, "--presets", "average", "--leave", "2", "--most", "3", "--home", home)
    found = as_json(*asked)
    assert found["methods"] == ["average"] and len(found["splits"]) == len(found["accuracy"]["average"]) == 3
    for split, accuracy in zip(found["splits"], found["accuracy"]["average"], strict=True):
        assert len(split["unseen"]) == 2 and {*split["seen"], *split["unseen"]} == set(TASKS) == set(accuracy)
    assert set(found["zero_shot"]) == set(TASKS)
    gained = [
        np.mean([accuracy[task] - found["zero_shot"][task] for task in split["unseen"]])
        for split, accuracy in zip(found["splits"], found["accuracy"]["average"], strict=True)
    ]
    said = found["averages"]["average"]["unseen"]
    assert [said["gain"], said["gain_spread"]] == pytest.approx([np.mean(gained), np.std(gained, ddof=1)])
    again = call(*asked)
    assert "1 method, 1 done before" in again.stderr and "Weight averaging" in again.stdout
    row = next(line for line in again.stdout.splitlines() if line.startswith("Weight averaging"))
    assert row.endswith(f" ± {100 * said['gain_spread']:.1f}")


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


def test_tasks_are_what_is_merged_and_unseen_ones_are_measured_besides(suite_file: Path, home: Path) -> None:
    asked = ("generalise", suite_file, "--presets", "average", "--tasks", "digits,roads", "--home", home)
    for unseen, expected in (("leaves", ["leaves"]), ("rest", ["circles", "leaves"])):
        assert as_json(*asked, "--unseen", unseen)["splits"] == [{"seen": ["digits", "roads"], "unseen": expected}]


def test_splits_of_the_literature_merge_their_tasks_and_show_their_table(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = SPLITS["exp2"]
    path = write_suite(tmp_path / "clip", sorted({*split.seen, *split.unseen}), images=6)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"checkpoints": "fusion_bench"}))
    monkeypatch.setattr("merging.suites.protocols.published_architecture", lambda architecture: "ViT-B-32")
    for name, split in SPLITS.items():
        asked = ("generalise", path, "--presets", "average", "--unseen", name, "--home", home)
        (found,) = as_json(*asked)["splits"]
        assert (tuple(found["seen"]), tuple(found["unseen"])) == (split.seen, split.unseen)
        own, published = call(*asked).stdout.split("published by others for the same checkpoints")
        assert "Weight averaging" in own and "RegMean++" in published and "Weight averaging" not in published
        assert published.splitlines()[1].split() == ["method", "seen", *split.unseen, "unseen"]
    both = call(*asked, "--tasks", "MNIST")
    assert both.exit_code == 1 and "says itself which tasks are merged; leave out --tasks" in both.stderr
    table = call(
        "robustness", path, "--presets", "average", "--corruptions", "contrast", "--severities", "1", "--home", home
    )
    assert "Means over Cars, EuroSAT, RESISC45, GTSRB" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["robustness", "--severities", "0"], "severity 0 is out of range: expected 1 to 5"),
        (["robustness", "--severities", "high"], "severity 'high': expected a number from 1 to 5, or ready"),
        (["robustness", "--corruptions", "contrst"], "no corruption 'contrst' (did you mean 'contrast'?)"),
        (["robustness", "--presets", "magic"], "magic"),
        (["scaling", "--sizes", "2,9"], "numbers of tasks: 9; expected numbers from 1 to 4"),
        (["scaling", "--sizes", "few"], "--sizes 'few': expected whole numbers with commas"),
        (["generalise", "--leave", "4"], "4 tasks can't be left out of 4: leave out 1 to 3"),
        (["generalise", "--unseen", "nonsense"], "has no task 'nonsense'"),
        (["generalise", "--unseen", "rest"], "has no further task with images and a head"),
        (["generalise", "--unseen", "roads", "--presets", "tall_masks"], "one model for all tasks"),
        (["generalise", "--tasks", "digits,roads", "--unseen", "roads"], "unseen tasks roads: they are merged as well"),
        (["generalise", "--unseen", ",".join(TASKS)], "none is left; name fewer"),
        (["generalise", "--unseen", "exp1"], "a split of the literature, of the eight tasks of suite fusion_bench"),
        (["robustness", "--severities", "1,ready"], "only data sets of the hub can carry corrupted images"),
        (["merge", "--evaluate", "--unseen", "digits"], "unseen tasks digits: they are merged as well"),
        (["merge", "--evaluate", "--shift", "contrast:9"], "severity 9 is out of range"),
        (["merge", "--evaluate", "--shift", "contrast:ready"], "only data sets of the hub can carry corrupted images"),
    ],
)
def test_each_mistake_has_its_own_error(arguments: list[str], said: str, suite_file: Path, home: Path) -> None:
    command, *options = arguments
    result = call(command, suite_file, *options, "--home", home)
    assert result.exit_code == 1 and result.stderr.count("Error: ") == 1 and said in result.stderr
    assert "to do" not in result.stderr and "job" not in result.stderr


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
