"""What a sweep tries of one parameter: a list of values or a range, from YAML or from text that was typed.

Typed are values with commas, as :mod:`merging.methods.grammar` reads them, or ``0.1 to 1 by 0.1``, ``0.1 to 1``,
``0.01 to 1 log``.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from merging.methods.grammar import read_values

MAX_TRIALS = 2000
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s+to\s+({_NUMBER})(?:\s+by\s+({_NUMBER})|\s+(log))?\s*")


class Range(BaseModel):
    """Numbers from ``low`` to ``high``: those of the grid ``low + i · step``, else all, on a log scale if asked to."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: float
    high: float
    step: float | None = Field(None, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _sound(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low must be below high; got low {self.low:g}, high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log scale needs low above 0; got {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("give either step or log, not both")
        if self.step is not None and (self.high - self.low) / self.step > MAX_TRIALS:
            raise ValueError(f"more than {MAX_TRIALS} values; choose a larger step")
        return self

    def values(self) -> tuple[float, ...]:
        """The numbers of the grid; ``high`` is one of them if it lies on it. Needs a step.

        >>> Range(low=0.1, high=0.4, step=0.1).values()
        (0.1, 0.2, 0.3, 0.4)
        """
        assert self.step is not None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(float(f"{self.low + index * self.step:.12g}") for index in range(count))


def _as_choices(value: Any) -> Any:
    """One value is a choice of one."""
    return value if isinstance(value, (list, tuple)) else (value,)


Value = StrictBool | StrictInt | StrictFloat | StrictStr | tuple[float, ...]
Choices = Annotated[tuple[Value, ...], Field(min_length=1, max_length=MAX_TRIALS), BeforeValidator(_as_choices)]
Domain = Annotated[
    Annotated[Range, Tag("range")] | Annotated[Choices, Tag("values")],
    Discriminator(lambda value: "range" if isinstance(value, (Mapping, Range)) else "values"),
]
Space = Annotated[dict[str, Domain], BeforeValidator(lambda value: {} if value is None else value)]


def read_domain(text: str) -> Any:
    """What was typed for a parameter, as it stands in a definition.

    Raises:
        SpecError: brackets or commas do not fit.

    >>> read_domain("0.1, 0.2"), read_domain("layer"), read_domain("0.1 to 1 by 0.1")
    ([0.1, 0.2], ['layer'], {'low': 0.1, 'high': 1.0, 'step': 0.1})
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        return read_values(text)
    low, high, step, log = found.groups()
    domain: dict[str, Any] = {"low": float(low), "high": float(high)}
    return domain | ({"step": float(step)} if step else {}) | ({"log": True} if log else {})
