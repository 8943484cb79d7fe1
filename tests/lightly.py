"""Libraries that tests compare with, so that those who only collect tests don't wait for them: each process does."""

import importlib
from typing import Any

from merging.evaluation.clip import load_open_clip

open_clip = load_open_clip()  # without transformers and torch's compiler


class _WhenAsked:
    """A module that is imported once something of it is named, other than what pytest asks of all that a file has."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest")):
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


transformers = _WhenAsked("transformers")
peft = _WhenAsked("peft")
distributed = _WhenAsked("distributed")
optuna = _WhenAsked("optuna")
ndimage = _WhenAsked("scipy.ndimage")
optimize = _WhenAsked("scipy.optimize")
stats = _WhenAsked("scipy.stats")
