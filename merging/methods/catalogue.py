"""Everything that can be run, as JSON-ready lists: edits, merges, presets."""

from collections.abc import Mapping
from typing import Any

from merging.methods import registry
from merging.methods.presets import PRESETS, Preset
from merging.methods.registry import OwnSource, Stage

_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """``edits``, ``merges`` and ``presets``: lists of objects with ``name``, ``title``, ``paper``, ``needs`` and more.

    ``needs`` is the data that the method looks at by itself (none, unlabeled or labelled), with its default parameters;
    ``chosen`` are a preset's parameters that are chosen on labelled validation images besides.

    Methods have ``summary`` and ``parameters``, each with ``name``, ``type``, ``default``, ``description`` and, as far
    as they apply, the bounds of JSON schema. Presets have their edit, merge and parameters, and ``own``: whether it is
    a method of this project, with no paper. All that is somebody else's own has ``source``, see
    :mod:`merging.methods.own`.
    """
    return {
        "edits": [_stage(stage) for stage in registry.edits().values()],
        "merges": [_stage(stage) for stage in registry.merges().values()],
        "presets": [_preset(preset) for preset in PRESETS.values()],
    }


def _stage(stage: Stage) -> dict[str, Any]:
    properties = stage.params.model_json_schema()["properties"] if stage.params.model_fields else {}
    return {
        "name": stage.name,
        "title": stage.title,
        "paper": stage.paper,
        "needs": stage.data({}).needs,
        "summary": stage.summary,
        "parameters": [_parameter(name, schema) for name, schema in properties.items()],
        **_source(stage.source),
    }


def _preset(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "title": preset.title,
        "own": preset.ours,
        "paper": preset.paper,
        "needs": preset.data.needs,
        "chosen": list(preset.data.chosen),
        **preset.spec_fields(),
        "note": preset.note,
        **_source(preset.source),
    }


def _source(source: OwnSource | None) -> dict[str, Any]:
    """Of somebody's own: the name of the file or package, and the SHA-256 of what is in it."""
    return {} if source is None else {"source": {"name": source.name, "sha256": source.sha256}}


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf", [schema])
    bounds = {key: option[key] for option in reversed(options) for key in _BOUNDS if key in option}
    return {
        "name": name,
        "type": " | ".join(_type(option) for option in options),
        "default": schema["default"],
        "description": schema.get("description", ""),
        **bounds,
    }


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    return f"list of {_type(schema['items'])}" if schema["type"] == "array" else str(schema["type"])
