"""No edit: task vectors go into the merge as they are."""

from merging.methods.context import Context
from merging.methods.params import Params
from merging.methods.planned import LinearEdit
from merging.methods.registry import edit
from merging.weights.vectors import TaskVectors


class NoParams(Params):
    """Nothing to set."""


@edit("none", title="No edit")
def unchanged(vectors: TaskVectors, params: NoParams, context: Context) -> LinearEdit:
    """Leave the task vectors as they are."""
    return LinearEdit({})
