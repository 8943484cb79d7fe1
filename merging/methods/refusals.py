"""Pairs of an edit and a merge that are refused, each with the reason.

Refused is only what contradicts what one of the two is by its definition. What is unusual but means something, such as
random dropping before a method on singular values, stays possible: nobody has tried all of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from merging.methods import registry
from merging.methods.params import Params
from merging.methods.registry import Stage


@dataclass(frozen=True)
class _Refusal:
    """An edit that makes no sense before some merges; ``given`` are its parameter values with which that is so."""

    edit: str
    before: Callable[[Stage], bool]
    why: str
    instead: str
    given: Mapping[str, Any] = field(default_factory=dict)


def _averages(merge: Stage) -> bool:
    """They divide by the number of tasks, plainly or weighted by the layers' inputs."""
    return merge.averages


def _is_tall_masks(merge: Stage) -> bool:
    return merge.name == "tall_masks"


_REFUSED = (
    _Refusal(
        "consensus",
        _is_tall_masks,
        "Consensus takes out what a single task needs, and TALL masks give exactly that back to the task, from masks "
        "that would be made of vectors masked already",
        "choose edit none, or another merge",
    ),
    _Refusal(
        "doge",
        lambda merge: merge.localised,
        "DOGE's update is learned for the weighted sum of all tasks, and a localised model takes only its own task's "
        "entries, unweighted, with the update in them once for every task",
        "choose edit none, or another merge",
    ),
    _Refusal(
        "ties",
        _averages,
        "with combine: mean TIES has divided by the number of tasks that agree, and an average would divide by the "
        "number of tasks again",
        "choose combine: sum, or Task Arithmetic",
        {"combine": "mean"},
    ),
    _Refusal(
        "parts",
        _averages,
        "the parts add up to a merged model, and an average would divide them by the number of tasks",
        "choose Task Arithmetic with λ = 1, which gives that model, or AdaMerging",
    ),
    _Refusal(
        "doge",
        _averages,
        "with scaled: true DOGE's vectors carry their final coefficients, and an average would divide them by the "
        "number of tasks",
        "choose scaled: false, or Task Arithmetic",
        {"scaled": True},
    ),
)


def refusal(edit: str, edit_params: Mapping[str, Any], merge: str) -> str:
    """Why an edit with these parameters makes no sense before a merge, naming both; empty if it does.

    Raises:
        SpecError: a stage or parameter is unknown, or a value out of bounds.
    """
    before = registry.find("edit", edit)
    return reason_against(before, before.parse(edit_params), registry.find("merge", merge))


def reason_against(edit: Stage, params: Params, merge: Stage) -> str:
    """The same of stages and validated parameters."""
    both = f"{edit.title} and {merge.title} make no sense together"
    if merge.unedited and edit.name != "none":
        return f"{both}: {merge.title} takes no edit, as {merge.unedited}; choose edit none, or another merge"
    values = params.model_dump()
    for one in _REFUSED:
        if one.edit == edit.name and one.before(merge) and one.given.items() <= values.items():
            return f"{both}: {one.why}; {one.instead}"
    return ""
