"""YAML is read by libyaml and, where that refuses, by PyYAML's own parser: with what one used to get."""

import pytest
import yaml

from merging.core.yaml_text import parse_yaml


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
