"""YAML as descriptions of suites, sweeps and recipes are written in."""

from typing import Any

import yaml

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML's wheels have it; one built without libyaml has not


def parse_yaml(text: str) -> Any:
    """What YAML text says, of plain types; no tag makes anything else of it.

    libyaml reads tenfold faster than Python, and pages of the dashboard read a suite more than once. What it refuses is
    read again by PyYAML's own parser, which takes a few things more and whose complaints are the ones shown.

    Raises:
        yaml.YAMLError: it is no YAML, or nested too deeply to be read.

    >>> parse_yaml("name: tiny\\ntasks: [digits, {name: signs}]")
    {'name': 'tiny', 'tasks': ['digits', {'name': 'signs'}]}
    """
    try:
        try:
            return yaml.load(text, Loader=_FAST)
        except yaml.YAMLError:
            return yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
