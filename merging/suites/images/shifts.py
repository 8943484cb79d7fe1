"""Test images that are not those a model was tuned for: every one of them corrupted, made once and kept."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from merging.core.errors import SpecError
from merging.suites.images.cache import DEFAULT_LIMIT, prepared
from merging.suites.images.corruptions import (
    READY,
    READY_TEXT,
    SEVERITIES,
    VERSION,
    corrupted,
    find_corruption,
    require_severity,
    severity_of,
    severity_text,
)
from merging.suites.images.decoding import Picture
from merging.suites.images.suite_images import ImageSet, digest_of

CLEAN: Literal["clean"] = "clean"


class Shift(BaseModel):
    """A corruption of all test images, made here at a severity, or as their data set carries it (``ready``).

    >>> shift = Shift.read("gaussian_noise:3")
    >>> shift.label, shift.text, shift == Shift(corruption="gaussian_noise", severity=3)
    ('Gaussian noise, severity 3', 'gaussian_noise:3', True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    corruption: str
    severity: int

    @field_validator("corruption")
    @classmethod
    def _there_is_such(cls, name: str) -> str:
        return find_corruption(name).name

    @field_validator("severity")
    @classmethod
    def _in_range(cls, severity: int) -> int:
        return severity if severity == READY else require_severity(severity)

    @classmethod
    def read(cls, text: str) -> "Shift":
        """A shift as the command line takes it.

        Raises:
            SpecError: it is not ``CORRUPTION:SEVERITY``, or there is no such corruption or severity.
        """
        name, colon, severity = text.strip().partition(":")
        find_corruption(name)
        if not colon or not (severity.strip().isdecimal() or severity.strip() == READY_TEXT):
            raise SpecError(
                f"shift {text[:60]!r}: expected {name}:SEVERITY with a severity from {SEVERITIES[0]} to "
                f"{SEVERITIES[-1]}, such as {name}:3, or {name}:{READY_TEXT}"
            )
        return cls(corruption=name, severity=severity_of(severity))

    @property
    def ready(self) -> bool:
        """Whether the corrupted images come with the data set."""
        return self.severity == READY

    @property
    def text(self) -> str:
        """As :meth:`read` takes it."""
        return f"{self.corruption}:{severity_text(self.severity)}"

    @property
    def label(self) -> str:
        """What to call it on screen."""
        how = "as the data set has it" if self.ready else f"severity {self.severity}"
        return f"{find_corruption(self.corruption).title}, {how}"


AnyShift = Literal["clean"] | Shift


def shift_of(value: Any) -> Any:
    """What a specification may say for a shift, text of the command line among it, as its field takes it.

    Raises:
        SpecError: a text that names none.
    """
    return Shift.read(value) if isinstance(value, str) and value != CLEAN else value


def shift_text(shift: AnyShift) -> str:
    """A shift as text, ``clean`` or as :meth:`Shift.read` takes it."""
    return shift.text if isinstance(shift, Shift) else shift


def shift_version(shift: AnyShift) -> str:
    """What a run's identity says of how images are corrupted, besides the shift; empty for clean ones."""
    return f"corruptions {VERSION}" if isinstance(shift, Shift) and not shift.ready else ""


def shifted_images(clean: ImageSet, shift: Shift, cache: Path | None = None, limit: int = DEFAULT_LIMIT) -> ImageSet:
    """The same images, corrupted at the size at which the tower sees them.

    Args:
        clean: what they are made of.
        shift: how.
        cache: folder for prepared images; without one they are kept in memory.
        limit: bytes that the prepared images of all data sets together may take there.

    Raises:
        SuiteError: Pillow lacks what the corruption needs.
        CheckpointError: the cache can't be written.
    """
    digest = digest_of(f"{clean.fingerprint}\n{shift.text} {shift_version(shift)}")
    entry = cache / "images" / f"{digest[:32]}.npy" if cache else None
    damaged = map(Picture, corrupted(clean.pixels, shift.corruption, shift.severity))
    pixels, _ = prepared(damaged, len(clean), clean.pixels.shape[1], entry, limit)
    return ImageSet(pixels, clean.labels, digest, clean.origin, clean.skipped)
