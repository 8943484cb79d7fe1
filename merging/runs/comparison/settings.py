"""The settings of runs as text, to set side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from merging.core.text import short
from merging.methods.spec import Spec
from merging.runs.run import Run
from merging.suites.images.shifts import Shift

ABSENT = "–"


def differing(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The settings in which runs differ, each with its value in every run, :data:`ABSENT` where a run has none."""
    flat = [_flat(run) for run in runs]
    names = dict.fromkeys(name for values in flat for name in values)
    rows = [(name, [values.get(name, ABSENT) for values in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def base_weights(run: Run) -> str:
    """Fingerprint of the base model that a run started from; its suite if it was never carried out."""
    prints = list(run.merged.fingerprints.values()) if run.merged else []
    return str(prints[0]) if prints else run.spec.suite


def changed_settings(before: Spec, after: Spec) -> list[tuple[str, str, str]]:
    """The settings in which one specification differs from another: name, then, now, :data:`ABSENT` if there is none.

    Where edit or merge are others, their parameters are left out.
    """
    was, now = settings_of(before), settings_of(after)
    names = [name for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name)]
    others = [f"{kind}: " for kind in ("edit", "merge") if kind in names]
    return [
        (name, was.get(name, ABSENT), now.get(name, ABSENT)) for name in names if not name.startswith(tuple(others))
    ]


def _flat(run: Run) -> dict[str, str]:
    """All settings of a run by name, as text."""
    base = {"base weights": base_weights(run)[:12]} if run.result else {}
    return {**settings_of(run.spec), **base}


def settings_of(spec: Spec) -> dict[str, str]:
    """All settings of a specification by name, as text."""
    values: dict[str, Any] = {"suite": Path(spec.suite).parent.name or spec.suite, "tasks": ", ".join(spec.tasks)}
    for part in spec.pair.parts:
        values[part.stage.kind] = part.title
        values |= {f"{part.stage.kind}: {key.replace('_', ' ')}": value for key, value in part.values.items()}
    values |= {"split": spec.split, "seed": spec.seed, "device": spec.device, "precision": spec.dtype}
    if isinstance(spec.shift, Shift):
        values["shift"] = spec.shift.label
    if spec.unseen:
        values["unseen tasks"] = ", ".join(spec.unseen)
    return {key: short(value) for key, value in values.items()}
