"""The data sets of the published suites: class names, prompt templates and where the images are, each in one file."""

from functools import cache
from pathlib import Path
from typing import Any

from merging.core.yaml_text import parse_yaml
from merging.suites.folder import plain

_FOLDER = Path(__file__).with_name("known")


@cache
def known_datasets() -> dict[str, dict[str, Any]]:
    """Name → fields of a task in a ``suite.yaml``: title, description, source, licence, data, templates, classes."""
    return {
        path.stem: {"name": path.stem, **parse_yaml(path.read_text(encoding="utf-8"))}
        for path in sorted(_FOLDER.glob("*.yaml"))
    }


def dataset_called(name: str) -> str | None:
    """The data set that a task of this name is on, whatever the spelling: by its name, or its repository's on the hub.

    >>> dataset_called("sun397"), dataset_called("stanford-cars"), dataset_called("digits")
    ('SUN397', 'Cars', None)
    """
    for dataset, fields in known_datasets().items():
        if plain(name) in (plain(dataset), plain(str(fields["data"]["dataset"]).split("/")[-1])):
            return dataset
    return None
