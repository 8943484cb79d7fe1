"""Numbers of a run that goes on, a line now and then, for pages that watch it learn. The result has all of them."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRACE = "trace.jsonl"  # in the run's folder
_WRITE_SECONDS = 0.25  # at most this often


class Trace:
    """Appends numbers to a file, as :data:`merging.core.progress.Numbers`.

    Args:
        path: the file; its folder must be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = float("-inf")

    def __call__(self, numbers: Mapping[str, Any]) -> None:
        """Write JSON-ready numbers, unless others were written a moment ago; accuracies always, as they are few."""
        now = time.monotonic()
        if "accuracy" in numbers or now - self._written > _WRITE_SECONDS:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(numbers) + "\n")
            self._written = now


def read_trace(path: Path) -> list[dict[str, Any]]:
    """What was written so far, oldest first; a line that is just being written is left out, as is a missing file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
