"""The factor of a CLIP's logits: stored as its logarithm, exponentiated in ``suite.yaml``, and often confused."""

import math
from collections.abc import Iterator
from contextlib import suppress

from merging.core.errors import MergingError, SuiteError
from merging.suites.suite import Suite
from merging.weights.files import Checkpoint

LARGEST = 1000.0  # that suite.yaml takes; trainings stop at 100
# The logarithms of what trained models have: they begin at 1/0.07 and end near 100. No model is known whose factor
# itself is as small.
_LOGARITHMS = (math.log(10), math.log(150))
_SAME = 0.01  # relative; written by hand, or rounded to 16 bits


def stored_logit_scale(base: Checkpoint) -> float | None:
    """The number that a file of a whole CLIP holds as ``logit_scale``; None of any other file."""
    name = base.layout.beside("logit_scale")
    if name is None:
        return None
    stored = base.left_out(name)
    return float(stored) if stored.numel() == 1 else None


def scale_of(stored: float) -> float | None:
    """The factor that a stored number stands for: its logarithm, or, where it is too large for one, the factor itself.

    None of what is neither.

    >>> round(scale_of(4.6052)), scale_of(100.0), scale_of(-3.0), scale_of(1e6)
    (100, 100.0, None, None)
    """
    if not 0 <= stored <= LARGEST:
        return None
    return math.exp(stored) if stored <= math.log(LARGEST) else stored


def looks_like_a_logarithm(factor: float) -> bool:
    """Whether a factor of logits is what the logarithm of one would be, and what none is."""
    return _LOGARITHMS[0] <= factor <= _LOGARITHMS[1]


def agree(one: float, other: float) -> bool:
    """Whether two factors are the same but for rounding."""
    return abs(one - other) <= _SAME * max(abs(one), abs(other))


def require_no_logarithm(suite: Suite) -> None:
    """Insist that ``suite.yaml`` does not say the very number that its base stores, which is the logarithm.

    Raises:
        SuiteError: it does.
    """
    stored = _of_base(suite)
    scale = None if stored is None else scale_of(stored)
    if stored is None or scale is None or agree(stored, scale) or not agree(stored, suite.logit_scale):
        return
    raise SuiteError(
        f"suite.yaml: logit_scale is {suite.logit_scale:g}, the number that {suite.base} stores, which is the "
        f"logarithm of the factor; write logit_scale: {scale:.4g}"
    )


def scale_doubts(suite: Suite) -> Iterator[str]:
    """What to say of a factor that the base contradicts, or that is hardly one."""
    stored = _of_base(suite)
    scale = None if stored is None else scale_of(stored)
    written = f"logit_scale is {suite.logit_scale:g} in suite.yaml"
    if "logit_scale" not in suite.model_fields_set:
        written = f"suite.yaml says no logit_scale, so that {suite.logit_scale:g} is taken"
    if scale is not None and not agree(scale, suite.logit_scale):
        yield (
            f"{written}, while {suite.base} stores {stored:g}, which stands for {scale:.4g}: methods that look at how "
            "sure a model is give other results by it, accuracy of one model doesn't"
        )
    elif scale is None and looks_like_a_logarithm(suite.logit_scale):
        yield (
            f"{written}, which looks like a logarithm: models have factors from 10 to 100; write "
            f"{math.exp(suite.logit_scale):.4g} if it is one"
        )


def _of_base(suite: Suite) -> float | None:
    with suppress(MergingError):  # what is wrong with the base is said where it is opened
        return stored_logit_scale(suite.base_checkpoint)
    return None
