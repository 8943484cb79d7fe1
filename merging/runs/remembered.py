"""What was computed once, kept in the file of a table of runs: accuracies, predictions, fingerprints of files."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from merging.runs.database import Database
from merging.runs.shipped import Shipped


class Remembered(Database):
    """What is remembered under keys that name everything it depends on by content.

    Attributes:
        shipped: results that came with suites, among which predictions are looked up, too.
    """

    shipped: Shipped

    def known_accuracy(self, key: str) -> dict[str, Any] | None:
        """A remembered accuracy."""
        with self.connect() as connection:
            row = connection.execute("select value from accuracies where key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row["value"])

    def remember_accuracy(self, key: str, value: dict[str, Any]) -> None:
        """Remember an accuracy under a key that names weights, images and head by content."""
        with self.connect() as connection:
            connection.execute("insert or replace into accuracies values (?, ?)", (key, json.dumps(value)))

    def known_coefficients(self, weights: str) -> list[list[float]] | None:
        """The table ``[L][T]`` by which merged weights can be made again, by the fingerprint of their merge."""
        found = self.known_accuracy(f"coefficients {weights}")
        return None if found is None else found["table"]

    def remember_coefficients(self, weights: str, table: list[list[float]]) -> None:
        """Remember that table, so that nothing is learned or chosen again where only the weights are wanted again."""
        self.remember_accuracy(f"coefficients {weights}", {"table": table})

    def known_scaling(self, weights: str) -> float | None:
        """The λ that was chosen for merged weights, by the fingerprint of their merge."""
        found = self.known_accuracy(f"scaling {weights}")
        return None if found is None else float(found["scaling"])

    def remember_scaling(self, weights: str, scaling: float) -> None:
        """Remember that λ, so that it is not chosen again where only the weights are wanted again."""
        self.remember_accuracy(f"scaling {weights}", {"scaling": scaling})

    def known_predictions(self, key: str, run_id: str) -> bytes | None:
        """What :meth:`remember_predictions` was given for a run, or what came with a suite."""
        with self.connect() as connection:
            row = connection.execute(
                "select value from predictions where key = ? and run = ?", (key, run_id)
            ).fetchone()
        return self.shipped.predictions(key) if row is None else bytes(row["value"])

    def remember_predictions(self, key: str, run_id: str, value: bytes) -> None:
        """Remember what a run predicts, under a key that names images and head by content, until it is deleted."""
        with self.connect() as connection:
            connection.execute("insert or replace into predictions values (?, ?, ?)", (key, run_id, value))

    def known_fingerprint(self, path: Path) -> str | None:
        """The fingerprint of a file that has not changed since it was taken."""
        status = path.stat()
        seen = str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if seen not in self._seen:
            with self.connect() as connection:
                row = connection.execute(
                    "select fingerprint from fingerprints where path = ? and size = ? and changed = ?",
                    (str(path.resolve()), status.st_size, status.st_mtime_ns),
                ).fetchone()
            if row is None:
                return None
            self._seen[seen] = str(row["fingerprint"])
        return self._seen[seen]

    @cached_property
    def _seen(self) -> dict[tuple[str | int, ...], str]:
        """Path, file, size and time → fingerprint, of what the table was asked: one job asks of a file many times."""
        return {}

    def remember_fingerprint(self, path: Path, fingerprint: str) -> None:
        """Remember the fingerprint of a file as it is now."""
        status = path.stat()
        with self.connect() as connection:
            connection.execute(
                "insert or replace into fingerprints values (?, ?, ?, ?)",
                (str(path.resolve()), status.st_size, status.st_mtime_ns, fingerprint),
            )
