"""Definitions of sweeps: what is read, what is refused and with which words, and which trials a grid has."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import MissingPart, SpecError, SuiteError
from merging.suites import load_suite
from merging.sweeps import Range, SweepDefinition, parse_definition, read_definition
from tests.random_models import TASKS, write_yaml

FILE = """
suite: mini
tasks: [[digits, letters], [digits, letters, signs]]
edits:
  none:
  ties: {keep: [0.1, 0.2], combine: mean}
merges:
  task_arithmetic:
    scaling: {low: 0.1, high: 0.5, step: 0.2}
  fisher:
search: grid
"""


def one_merge(space: str, more: str = "") -> str:
    return f"suite: mini\nmerges: {{{space}}}\n{more}"


def test_a_file_says_what_to_try() -> None:
    found = parse_definition(FILE)
    assert found.tasks == (("digits", "letters"), ("digits", "letters", "signs"))
    assert found.edits == {"none": {}, "ties": {"keep": (0.1, 0.2), "combine": ("mean",)}}
    assert found.merges["task_arithmetic"]["scaling"] == Range(low=0.1, high=0.5, step=0.2)
    assert (found.search, found.parallel, found.objective, found.seed, found.device) == (
        "grid",
        1,
        "average",
        0,
        "auto",
    )


def test_what_is_written_reads_as_the_same() -> None:
    found = parse_definition(FILE)
    assert parse_definition(found.to_yaml()) == found
    assert SweepDefinition.model_validate_json(found.model_dump_json()) == found


def test_a_grid_is_the_full_product_without_refused_pairs() -> None:
    found = parse_definition(FILE)
    expected = []
    for edit, merge in itertools.product(("none", "ties"), ("task_arithmetic", "fisher")):
        if (edit, merge) == ("ties", "fisher"):  # Fisher merging takes no edit
            continue
        for keep in [0.1, 0.2] if edit == "ties" else [None]:
            for scaling in [0.1, 0.3, 0.5] if merge == "task_arithmetic" else [None]:
                settings = {"edit": edit, "merge": merge}
                if keep is not None:
                    settings |= {"edits.ties.keep": keep, "edits.ties.combine": "mean"}
                if scaling is not None:
                    settings["merges.task_arithmetic.scaling"] = scaling
                expected.append(settings)
    seen = list(found.grid())
    assert all(settings in seen for settings in expected)
    assert len(seen) == len(expected) == 10 == found.trials_per_subset
    assert found.total == 20


@given(low=st.integers(-50, 50), count=st.integers(1, 40), step=st.sampled_from([0.05, 0.1, 0.25, 1.0, 3.0]))
def test_a_range_has_both_ends_and_equal_steps(low: int, count: int, step: float) -> None:
    start = low * step
    values = Range(low=start, high=start + count * step, step=step).values()
    assert len(values) == count + 1
    assert values == pytest.approx([start + index * step for index in range(count + 1)])


def test_an_end_beside_the_grid_is_no_value() -> None:
    assert Range(low=0.1, high=0.5, step=0.3).values() == (0.1, 0.4)


def test_whole_numbers_stay_whole() -> None:
    found = parse_definition(one_merge("adamerging: {steps: {low: 10, high: 30, step: 10}}"))
    steps = [settings["merges.adamerging.steps"] for settings in found.grid()]
    assert steps == [10, 20, 30] and all(isinstance(step, int) for step in steps)


def test_a_trial_is_an_ordinary_run_on_validation_images() -> None:
    found = parse_definition(FILE)
    settings = {
        "edit": "ties",
        "merge": "task_arithmetic",
        "edits.ties.keep": 0.1,
        "merges.task_arithmetic.scaling": 0.4,
    }
    spec = found.spec(("digits", "signs"), settings)
    assert (spec.suite, spec.tasks, spec.split, spec.evaluate) == ("mini", ("digits", "signs"), "val", True)
    assert (spec.edit, spec.edit_params["keep"], spec.merge_params["scaling"]) == ("ties", 0.1, 0.4)


REFUSED = {
    "- 1": ["expected a mapping with suite", "got a list"],
    "a: [": ["not valid YAML"],
    "suite: mini": ["merges: is missing"],
    "suite: mini\nmerges: {average: }\nspeed: 3": ["speed: unknown name"],
    one_merge("tsv: "): ["unknown merge 'tsv'", "tsv_m"],
    one_merge("average: ", "edits: {tie: }"): ["unknown edit 'tie'", "ties"],
    one_merge("task_arithmetic: {lambda: 0.3}"): ["merges.task_arithmetic.lambda: unknown name", ": scaling, weights"],
    one_merge("average: ", "edits: {ties: {keep: [0.1, 3]}}"): ["edits.ties.keep = 3: must be at most 1"],
    one_merge("average: ", "edits: {ties: {keep: {low: 0.1, high: 3, step: 0.1}}}"): ["keep = 3.0: must be at most 1"],
    one_merge("average: ", "edits: {ties: {keep: []}}"): ["edits.ties.keep.values = []: must be a list of at least 1"],
    one_merge("task_arithmetic: {scaling: {low: 0.5, high: 0.1}}"): ["low must be below high", "low 0.5, high 0.1"],
    one_merge("task_arithmetic: {scaling: {low: 0.1, high: 1}}"): ["a grid needs a step or a list of values"],
    one_merge("task_arithmetic: {scaling: {low: 0, high: 1, log: true}}"): ["log scale needs low above 0", "got 0"],
    one_merge("task_arithmetic: {scaling: {low: 0.1, high: 1, log: true, step: 0.1}}"): ["either step or log"],
    one_merge("task_arithmetic: {scaling: {low: 0, high: 1, step: 0.0001}}"): ["more than 2000 values"],
    one_merge("task_arithmetic: {scaling: {from: 0, to: 1}}"): ["scaling.range.low: is missing", "from: unknown name"],
    one_merge("adamerging: {clamp: {low: 0, high: 1, step: 1}}"): ["clamp: is no number", "list of values"],
    one_merge("adamerging: {steps: {low: 10, high: 20, step: 0.5}}"): ["takes whole numbers; got step 0.5"],
    one_merge("average: ", "trials: 5"): ["a grid tries every combination", "search: tpe"],
    one_merge("average: ", "search: tpe"): ["needs a number of trials"],
    one_merge("average: ", "search: random"): ["search = 'random': must be 'grid' or 'tpe'"],
    one_merge("fisher: ", "edits: {ties: }"): ["no pair of these edits and merges makes sense"],
    one_merge("adamerging: {steps: {low: 1, high: 100, step: 1}, batch_size: {low: 1, high: 100, step: 1}}"): [
        "10000 trials; at most 2000"
    ],
}


@pytest.mark.parametrize("text", REFUSED)
def test_errors_say_where_what_was_seen_and_what_was_expected(text: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_definition(text, "mine.yaml")
    message = str(error.value)
    assert message.startswith("mine.yaml: ") and "\n" not in message
    for part in REFUSED[text]:
        assert part in message


def test_aliases_that_unfold_to_something_huge_are_refused() -> None:
    rows = "\n".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9))
    with pytest.raises(SpecError, match="mine"):
        parse_definition(f"a0: &a0 [x]\n{rows}\nsuite: mini\nmerges: {{adamerging: {{steps: *a8}}}}", "mine")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"gone\.yaml: can't be read \(No such file"):
        read_definition(tmp_path / "gone.yaml")
    (tmp_path / "large.yaml").write_text("#" * 70_000)
    with pytest.raises(SpecError, match="70000 bytes; at most 65536 are read"):
        read_definition(tmp_path / "large.yaml")


def test_the_path_of_a_suite_starts_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "suite.yaml").touch()
    (tmp_path / "sweep.yaml").write_text("suite: mine/suite.yaml\nmerges: {average: }\n")
    assert read_definition(tmp_path / "sweep.yaml").suite == str(tmp_path / "mine" / "suite.yaml")
    (tmp_path / "sweep.yaml").write_text("suite: mini\nmerges: {average: }\n")
    assert read_definition(tmp_path / "sweep.yaml").suite == "mini"


def definition(suite_file: Path, **changes: object) -> SweepDefinition:
    fields = {"suite": str(suite_file), "merges": {"task_arithmetic": {"scaling": [0.3, 0.6]}}, **changes}
    return SweepDefinition.model_validate(fields)


def test_without_subsets_all_tasks_are_merged(suite_file: Path) -> None:
    found = definition(suite_file).completed(load_suite(suite_file), "cpu")
    assert (found.tasks, found.device) == ((TASKS,), "cpu")


def test_tasks_that_can_not_be_measured_are_refused_before_anything_runs(suite_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="bogus"):
        definition(suite_file, tasks=[["digits", "bogus"]]).completed(load_suite(suite_file), "cpu")
    bare = write_yaml(tmp_path / "bare")
    with pytest.raises(MissingPart, match="digits lack them"):
        definition(bare, tasks=[["digits"]]).completed(load_suite(bare), "cpu")
