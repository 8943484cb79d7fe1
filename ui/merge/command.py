"""A run as the command line that does the same."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from merging.core import devices
from merging.runs.jobs.merge import MergeSpec
from merging.suites.suite import is_name

_OPTIONS = {"dtype": "precision"}  # what the command line calls differently


def merge_command(spec: MergeSpec, all_tasks: Sequence[str], measurable: bool) -> str:
    """The ``merging merge`` call of a specification; what equals a default is left out.

    Args:
        spec: what to run.
        all_tasks: the tasks that the command takes when none are named.
        measurable: whether all tasks have images and heads, without which the command refuses ``--evaluate``.
    """
    parts = ["merging merge", shlex.quote(_suite(spec.suite))]
    if spec.edit != "none":
        parts.append(f"--edit {spec.edit}")
    parts.append(f"--merge {spec.merge}")
    for name, value in spec.pair.settings.items():
        if "." in name:
            parts.append("--set " + shlex.quote(f"{name}={value}"))
    if tuple(spec.tasks) != tuple(all_tasks):
        parts.append("--tasks " + shlex.quote(",".join(spec.tasks)))
    defaults = MergeSpec.model_fields
    for option in ("device", "dtype", "seed", "split"):
        usual = (defaults[option].default, str(devices.resolve("auto")) if option == "device" else None)
        if getattr(spec, option) not in usual:
            parts.append(f"--{_OPTIONS.get(option, option)} {getattr(spec, option)}")
    if spec.evaluate and measurable:
        parts.append("--evaluate")
    for source in dict.fromkeys(stage.source for stage in (spec.pair.edit.stage, spec.pair.merge.stage)):
        if source is not None and source.name.endswith(".py"):
            parts.append("--methods " + shlex.quote(f"path/to/{source.name}"))
    return _wrapped(parts)


def _suite(reference: str) -> str:
    """A built-in name, or a path without the folders of this machine that lead to it."""
    if is_name(reference):
        return reference
    path = Path(reference)
    file = path if path.suffix == ".yaml" else path / "suite.yaml"
    return f"path/to/{file.parent.name}/{file.name}"


def _wrapped(parts: Sequence[str], width: int = 58) -> str:
    """Join with spaces, broken into continued lines."""
    lines = [""]
    for part in parts:
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return " \\\n".join(lines)
