"""The data sets of the published suites: class names, prompt templates and where the images are, each in one file."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).with_name("known")


@cache
def known_datasets() -> dict[str, dict[str, Any]]:
    """Name → fields of a task in a ``suite.yaml``: title, description, source, licence, data, templates, classes."""
    return {
        path.stem: {"name": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))}
        for path in sorted(_FOLDER.glob("*.yaml"))
    }
