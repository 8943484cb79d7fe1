"""Merging CLIP vision models by arithmetic on task vectors.

::

    import merging

    look = merging.similarity("mini", "awd")          # cosines before and after AWD
    merged = merging.merge("mini", "awd_ta")          # a published method, or a pair ("ties", "iso_c")
    merging.table(merging.evaluate("mini"), merged)   # a pandas frame
    merging.figure(look).show()                       # what the pages of the dashboard draw

The names in ``__all__`` are the package's face; ``docs/python.md`` shows them at work. Everything below takes devices,
paths and callbacks as arguments, returns values, and raises :class:`~merging.core.errors.MergingError`. Nothing heavy
is loaded before it is asked for.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from merging.core.errors import MergingError
from merging.core.version import __version__

if TYPE_CHECKING:
    from merging.charts.results import figure as figure
    from merging.charts.results import table as table
    from merging.runs.from_python import evaluate as evaluate
    from merging.runs.from_python import export as export
    from merging.runs.from_python import leaderboard as leaderboard
    from merging.runs.from_python import merge as merge
    from merging.runs.from_python import replay as replay
    from merging.runs.from_python import similarity as similarity
    from merging.suites.suite import load_suite as load_suite
    from merging.weights.files import open_checkpoint as open_checkpoint
    from merging.weights.localised import task_weights as task_weights

__all__ = [
    "MergingError",
    "__version__",
    "evaluate",
    "export",
    "figure",
    "leaderboard",
    "load_suite",
    "merge",
    "open_checkpoint",
    "replay",
    "similarity",
    "table",
    "task_weights",
]

_PLACES = {
    **dict.fromkeys(("figure", "table"), "merging.charts.results"),
    **dict.fromkeys(("evaluate", "export", "leaderboard", "merge", "replay", "similarity"), "merging.runs.from_python"),
    "load_suite": "merging.suites.suite",
    "open_checkpoint": "merging.weights.files",
    "task_weights": "merging.weights.localised",
}
# Modules that model cards exported by earlier versions import from. They stay importable and load nothing until used.
_FORMER_MODULES = {"merging.checkpoints": "merging.weights.files", "merging.localised": "merging.weights.localised"}


class _Former(ModuleType):
    """A module under the name that it once had."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(_FORMER_MODULES[self.__name__]), name)


for _name in _FORMER_MODULES:
    sys.modules.setdefault(_name, _Former(_name))


def __getattr__(name: str) -> Any:
    """Load what a name of the face stands for when it is first asked for (PEP 562)."""
    if f"{__name__}.{name}" in _FORMER_MODULES:
        return sys.modules[f"{__name__}.{name}"]
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
