"""What a method with its parameters is called: the same on the command line, in files and on every page."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from merging.core.text import short
from merging.methods import registry
from merging.methods.presets import PRESETS, Preset

# λ does not make another method: the same one is run with a λ given and with the best on validation.
_SCALING = "scaling"


def label_of(edit: str, edit_params: Mapping[str, Any], merge: str, merge_params: Mapping[str, Any]) -> str:
    """The title of the published method that this is, whatever its λ; else the pair and how it differs.

    The differences are to the published method that is called like the pair, else to the defaults. So methods with
    different parameters, apart from λ and from those that change no result, have different labels.

    Raises:
        SpecError: a method or a parameter is unknown, or a value out of bounds.

    >>> label_of("ties", {}, "task_arithmetic", {"scaling": 0.4})
    'TIES'
    >>> label_of("ties", {"keep": 0.1}, "task_arithmetic", {})
    'TIES + Task Arithmetic · keep 0.1'
    """
    values = _values(edit, edit_params, merge, merge_params)
    published = _published().get(_key(edit, merge, values))
    if published is not None:
        return published.title
    pair = _pair(edit, merge)
    namesake = next((preset for preset in PRESETS.values() if preset.title == pair), None)
    usual = _values_of(namesake) if namesake is not None else _values(edit, {}, merge, {})
    parts = [
        f"{name[1].replace('_', ' ')} {short(value)}" for name, value in values.items() if value != usual.get(name)
    ]
    return " · ".join([pair, *parts])


def method_of(edit: str, edit_params: Mapping[str, Any], merge: str, merge_params: Mapping[str, Any]) -> str:
    """The method that this is a variant of, whatever its parameters.

    Of the published methods with this edit and merge it is the one from which it differs in the fewest parameters; if
    there is none, the pair.

    Raises:
        SpecError: a method or a parameter is unknown, or a value out of bounds.

    >>> method_of("ties", {"keep": 0.1}, "task_arithmetic", {})
    'TIES'
    >>> method_of("none", {}, "adamerging", {"granularity": "task", "steps": 20})
    'AdaMerging, task-wise'
    """
    values = _values(edit, edit_params, merge, merge_params)
    published = [preset for preset in PRESETS.values() if (preset.edit, preset.merge) == (edit, merge)]
    if not published:
        return _pair(edit, merge)

    def differences(preset: Preset) -> int:
        own = _values_of(preset)
        return sum(values.get(name) != own.get(name) for name in {*values, *own})

    return min(published, key=differences).title


def _pair(edit: str, merge: str) -> str:
    titles = [registry.find("merge", merge).title]
    if edit != "none":
        titles.insert(0, registry.find("edit", edit).title)
    return " + ".join(titles)


def _values(
    edit: str, edit_params: Mapping[str, Any], merge: str, merge_params: Mapping[str, Any]
) -> dict[tuple[str, str], Any]:
    """Both stages' parameters with defaults filled in, by stage and name, without λ and what changes no result."""
    stages = (
        ("edit", registry.find("edit", edit), edit_params),
        ("merge", registry.find("merge", merge), merge_params),
    )
    return {
        (kind, name): value
        for kind, method, params in stages
        for name, value in method.parse(params).model_dump(mode="json").items()
        if (kind, name) != ("merge", _SCALING) and name not in method.params.changing_nothing
    }


def _values_of(preset: Preset) -> dict[tuple[str, str], Any]:
    return _values(preset.edit, preset.edit_params, preset.merge, preset.merge_params)


def _key(edit: str, merge: str, values: Mapping[tuple[str, str], Any]) -> str:
    return json.dumps([edit, merge, sorted(values.items())])


@cache
def _published() -> dict[str, Preset]:
    return {_key(preset.edit, preset.merge, _values_of(preset)): preset for preset in PRESETS.values()}
