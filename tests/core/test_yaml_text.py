"""YAML is read by libyaml and, where that refuses, by PyYAML's own parser: with what one used to get."""

from pathlib import Path

import pytest
import yaml

from merging.core.errors import SuiteError
from merging.core.yaml_problems import yaml_problem_in_words
from merging.core.yaml_text import parse_yaml, read_yaml

PROBLEMS = {
    "name: x\n\ttasks: []": "line 2, column 1: a tab; indent with blanks",
    "a:\n\t- b": "line 2, column 1: a tab; indent with blanks",
    "a: b: c": "line 1, column 5: a colon, where none can be: put text that holds ': ' into quotes",
    "a: @foo": "line 1, column 4: text can't begin with @ by itself; put it into quotes",
    "a: %foo": "text can't begin with % by itself",
    "a: 'x\nb: c\n": "line 3, column 1: a quote is not closed (it begins on line 1); close it",
    'a: "C:\\data"': "line 1, column 8: in double quotes \\d stands for no sign; write '…' for paths of Windows",
    'a: "\\xZZ"': "in double quotes \\ begins a sign written as numbers",
    "a: [1, 2\nb: 3": "line 2, column 2: a bracket that is not closed, or no comma between two entries (it begins on",
    "a: [": "line 1, column 5: a bracket that is not closed",
    "a: *foo": "text that begins with * or & is taken for a reference",
    "a: & b": "text that begins with * or & is taken for a reference",
    "a: !foo bar": "text that begins with ! is taken for a type",
    "a: 'it's'": "line 1, column 8: something behind a value that has ended; an apostrophe within '…' is written twice",
    "a:\n  - b\n c: d": "line 3, column 2: not in one column with the other entries of its list or mapping",
    "a: - b": "line 1, column 4: not in one column",
    "a: | foo\n x": "line 1, column 6: text behind | or >; begin it on the next line",
    "a: 1\n---\nb: 2": "line 2, column 1: a second document begins here",
    "a: ,": "a sign where a value is to begin",
    "%YAML 3.0\n---\na: 1": "line 1, column 1: a line with % at its beginning",
    "a: b\nc": "a line without a colon; write name: value",
    "a: \x00": "the sign '\\x00' can't stand in it",
    "a: 1\na: 2": "line 2: 'a' stands on line 1 already",
}


@pytest.mark.parametrize(
    "text",
    [
        "name: tiny\ntasks:\n  - {name: digits, classes: ['0', \"1\", 2]}\n  - &a {b: 1e-3}\n",
        "base: &base {a: 1}\nother: {<<: *base, b: 0o7}\nwhen: '2024-01-02'\nno: yes\nnull: ~\n",
        "title: Ziffern · 数字 😀\ntext: |\n  two\n  lines\nfolded: >-\n  one\n  line\n",
        "",
        "# only a comment\n",
        "a: http://host:80/x?y=[1]\nb: {c: http://host/x}\n",
    ],
)
def test_it_says_what_pyyaml_says(text: str) -> None:
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["a: [", "\tname: x", "a: \x00"])
def test_complaints_are_those_of_pyyaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as expected:
        yaml.safe_load(text)
    with pytest.raises(type(expected.value)) as found:
        parse_yaml(text)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(("text", "said"), PROBLEMS.items())
def test_what_is_wrong_is_said_in_words_of_ours(text: str, said: str, tmp_path: Path) -> None:
    """Before: "found character '\\t' that cannot start any token", and other sentences of the parser."""
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(SuiteError) as caught:
        read_yaml(tmp_path / "suite.yaml", SuiteError, 1000)
    assert str(caught.value).startswith("suite.yaml: not valid YAML: ") and said in str(caught.value)


@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="this PyYAML was built without libyaml")
@pytest.mark.parametrize("text", [text for text in PROBLEMS if text != "a: 1\na: 2"])  # which it takes
def test_what_libyaml_says_of_large_files_is_known_as_well(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load(text, Loader=yaml.CSafeLoader)
    assert "nothing that can be read" not in yaml_problem_in_words(caught.value)


@pytest.mark.parametrize("levels", [45, 900, 5000])
def test_what_is_nested_too_deeply_is_no_yaml(levels: int) -> None:
    """Not the end of the stack, for whoever reads the error of a file from elsewhere."""
    try:
        found = parse_yaml("[" * levels + "]" * levels)
    except yaml.YAMLError:
        assert levels > 50
        return
    for _ in range(levels - 1):
        (found,) = found
    assert found == []


def test_what_somebody_does_with_what_was_read_is_not_read_again() -> None:
    text = "tasks: [{name: digits}]"
    first = parse_yaml(text)
    first["tasks"][0]["name"] = "roads"
    first["tasks"].append(None)
    assert parse_yaml(text) == {"tasks": [{"name": "digits"}]}
