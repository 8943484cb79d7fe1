"""What a method with its parameters is called: the same on the command line, in files and on every page."""

from merging.core.text import short
from merging.methods.pair import Pair
from merging.methods.presets import PRESETS


def label_of(pair: Pair) -> str:
    """The title of the published method that this is, whatever its λ; else the pair and how it differs.

    The differences are to the published method that is called like the pair, else to the defaults. So methods with
    different parameters, apart from λ and from those that change no result, have different labels.

    >>> label_of(Pair.of("ties", merge_params={"scaling": 0.4}))
    'TIES'
    >>> label_of(Pair.of("ties", {"keep": 0.1}))
    'TIES + Task Arithmetic · keep 0.1'
    """
    values = pair.telling
    for preset in PRESETS.values():
        if _stages(preset.pair) == _stages(pair) and preset.pair.telling == values:
            return preset.title
    namesake = next((preset.pair for preset in PRESETS.values() if preset.title == pair.title), None)
    usual = (namesake or pair.usual).telling
    parts = [
        f"{name.replace('_', ' ')} {short(value)}"
        for (kind, name), value in values.items()
        if name and (value != usual.get((kind, name)) or name == "units")  # published units are left out of values
    ]
    return " · ".join([pair.title, *parts])


def method_of(pair: Pair) -> str:
    """The method that this is a variant of, whatever its parameters.

    Of the published methods with this edit and merge it is the one from which it differs in the fewest parameters; if
    there is none, the pair.

    >>> method_of(Pair.of("ties", {"keep": 0.1}))
    'TIES'
    >>> method_of(Pair.of(merge="adamerging", merge_params={"granularity": "task", "steps": 20}))
    'AdaMerging, task-wise'
    """
    values = pair.telling
    published = [preset for preset in PRESETS.values() if _stages(preset.pair) == _stages(pair)]
    if not published:
        return pair.title

    def differences(other: Pair) -> int:
        own = other.telling
        return sum(values.get(name) != own.get(name) for name in {*values, *own})

    return min(published, key=lambda preset: differences(preset.pair)).title


def _stages(pair: Pair) -> tuple[str, str]:
    return pair.edit.name, pair.merge.name
