"""The accuracies that the lesson asks for before anybody moves anything: they come with an embedded suite."""

from merging.methods.edits.awd import AwdParams, from_geometry
from merging.runs.positions import Need, Position
from merging.weights.geometry import Geometry
from ui.lesson.screen import merged
from ui.what_if import live_accuracy
from ui.what_if.coefficients_view import START


def needs_at_first(geometry: Geometry) -> list[Need]:
    """Each once, in the order of the steps; of steps that let one choose a task, for every task.

    Args:
        geometry: of all tasks of the lesson.
    """
    tasks, alpha = geometry.tasks, AwdParams().alpha
    multipliers = from_geometry(geometry, AwdParams(alpha=alpha)).multipliers
    assert multipliers is not None  # with one vector for the whole model there always are some
    positions = [
        *(Position("none", ((task, value),), "val") for task in tasks for value in (0.0, 1.0)),
        merged(tasks, START),
        merged(tasks, 1.0),
        *(merged([task for task in tasks if task != left_out], START) for left_out in tasks),
        merged(tasks, START, edit="awd", edit_params={"alpha": alpha}),
        merged(tasks, (START * multipliers).tolist()),
        merged(tasks, START, split="test"),
        merged(tasks, START, split="test", edit="awd"),
    ]
    return list(dict.fromkeys(need for position in positions for need in live_accuracy.full(position, tasks)))
