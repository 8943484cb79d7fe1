"""Groups of tasks: those that ``suite.yaml`` names, all of a kind, and the one that is meant where none is named."""

from pathlib import Path
from typing import Any

import pytest

from merging.core.errors import SuiteError
from merging.suites import Suite, load_suite
from tests.random_models import write_yaml

KINDS = {"a": "text", "b": "faces", "c": "text", "d": "", "group:x": "faces"}


def suite_of(folder: Path, **fields: Any) -> Suite:
    tasks = [
        {"name": name, "kind": kind, "checkpoint": f"{number}.safetensors"}
        for number, (name, kind) in enumerate(KINDS.items())
    ]
    return load_suite(write_yaml(folder, tasks=tasks, **fields))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["group:2"], ("a", "b")),
        (["group:odd"], ("a", "c")),
        (["kind:text"], ("a", "c")),
        (["d", "kind:text", "a"], ("d", "a", "c")),
        (["group:2", "group:odd", "b"], ("a", "b", "c")),
        (["group:x"], ("group:x",)),
        (None, ("a", "c")),
    ],
)
def test_names_of_groups_and_kinds_stand_for_their_tasks(
    names: list[str] | None, expected: tuple[str, ...], tmp_path: Path
) -> None:
    suite = suite_of(tmp_path, groups={"2": 2, "odd": ["c", "a"]}, usual="odd")
    assert suite.chosen(names) == expected
    assert (
        suite.usual_tasks == ("a", "c") and suite.at_first(["b", "a"]) == ("a",) and suite.at_first("bd") == ("b", "d")
    )
    assert suite.choices() == {
        "First 2": ("a", "b"),
        "odd": ("a", "c"),
        "All text": ("a", "c"),
        "All faces": ("b", "group:x"),
    }


def test_without_groups_all_tasks_are_meant(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    assert suite.usual_tasks == suite.chosen() == tuple(KINDS)


@pytest.mark.parametrize(
    ("fields", "names", "said"),
    [
        ({"groups": {"2": 2}}, ["group:twoo"], "no group 'twoo' of tasks; there are 2"),
        ({}, ["group:2"], "no group '2' of tasks; it names no group"),
        ({}, ["kind:txt"], r"no kind 'txt' of tasks \(did you mean 'text'\?\); there are text, faces"),
        ({"groups": {"2": 6}}, None, "group '2' is the first 6 tasks; expected 1 to 5"),
        ({"groups": {"2": []}}, None, "group '2' names no task at all"),
        ({"groups": {"2": ["a", "e"]}}, None, "group '2' names task 'e'"),
        ({"groups": {"2": True}}, None, "groups"),
        ({"groups": {"two": 2}, "usual": "too"}, None, r"usual: no group 'too' \(did you mean 'two'\?\)"),
    ],
)
def test_groups_that_are_not_there_are_refused(
    fields: dict[str, Any], names: list[str] | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(SuiteError, match=said):
        suite_of(tmp_path, **fields).chosen(names)
