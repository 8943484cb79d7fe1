"""What the lesson asks. Which choice is right follows from the numbers handed in, never from what is usual."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from merging.core.text import signed
from merging.evaluation.accuracy import SAME_ACCURACY
from merging.runs.jobs.interference import Agreement

NOTICEABLE = 1.0  # points of accuracy up to which two models count as equally good
_SMALL, _LARGE = 0.05, 0.3  # shares of the base model's length that count as a small and a large move


@dataclass(frozen=True)
class Question:
    """A question with choices.

    Attributes:
        text: the question.
        choices: at least two.
        right: index of the one that is right; None as long as the numbers that say so are not there.
        because: those numbers, in a sentence or two; before they are there what they wait for, if not just for time.
    """

    text: str
    choices: tuple[str, ...]
    right: int | None = None
    because: str = ""


def how_far(task: str, moved: float, length: float, accuracy: Sequence[float]) -> Question:
    """Of the first step.

    Args:
        task: whose model it is.
        moved: ‖τ‖.
        length: ‖θ₀‖.
        accuracy: on the task, of the base model and of the task's own, 0 … 1; empty if not measured.
    """
    share = moved / length
    return Question(
        f"How long is the task vector of {task}, compared with the base model's weights?",
        (
            f"Over {100 * _LARGE:g} % of their length",
            f"{100 * _SMALL:g} to {100 * _LARGE:g} %",
            f"Less than {100 * _SMALL:g} %",
        ),
        0 if share > _LARGE else 1 if share >= _SMALL else 2,
        f"‖τ‖ = {moved:.2f} and ‖θ₀‖ = {length:.1f}: {100 * share:.1f} %."
        + (f" It takes accuracy from {100 * accuracy[0]:.1f} to {100 * accuracy[1]:.1f} %." if accuracy else ""),
    )


def bystanders(task: str, changes: Mapping[str, float] | None) -> Question:
    """Of the second step.

    Args:
        task: whose vector is added.
        changes: other task → change of its accuracy at λ = 1, −1 … 1; None if not measured yet.
    """
    asked = Question(
        f"Add {task} in full, λ = 1. What do the other tasks do on average?",
        ("They gain", f"They stay within {NOTICEABLE:g} point", "They lose"),
    )
    if not changes:
        return asked
    mean = 100 * sum(changes.values()) / len(changes)
    best, worst = max(changes, key=lambda one: changes[one]), min(changes, key=lambda one: changes[one])
    return Question(
        asked.text,
        asked.choices,
        _gain(mean),
        f"{signed(mean)} points on average; {best} {signed(100 * changes[best])}, "
        f"{worst} {signed(100 * changes[worst])}.",
    )


def all_in_full(tasks: int, summed: float | None, zero_shot: float, individual: float, longer: float) -> Question:
    """Of the third step.

    Args:
        tasks: how many are added.
        summed: average accuracy of the sum at λ = 1, 0 … 1; None if not measured yet.
        zero_shot: of the base model.
        individual: of the tasks' own models.
        longer: length of the sum in mean lengths of a task vector.
    """
    asked = Question(
        f"Add all {tasks} in full, λ = 1. Where does the average end up?",
        ("With the tasks' own models", "Between these and the base model", "Below the base model"),
    )
    if summed is None:
        return asked
    near = _gain(100 * (summed - individual)) < 2
    return Question(
        asked.text,
        asked.choices,
        0 if near else 1 if summed >= zero_shot - SAME_ACCURACY else 2,
        f"{100 * summed:.1f} %. The base model has {100 * zero_shot:.1f} %, the tasks' own models "
        f"{100 * individual:.1f} %. The sum is {longer:.1f} times as long as one task vector.",
    )


def closer_loses_more(found: Agreement | None) -> Question:
    """Of the fourth step; None if not all pairs are measured yet."""
    asked = Question(
        "Do tasks that point the same way lose more by being merged?",
        ("Yes: the closer, the more they lose", "No: the closer, the less they lose", "Neither, beyond chance"),
    )
    if found is None:
        return asked
    right = 2 if not found.beyond_chance else 0 if found.pearson < 0 else 1
    return Question(
        asked.text,
        asked.choices,
        right,
        f"r = {signed(found.pearson, 2)} over {found.pairs} pairs, {100 * found.pearson**2:.0f} % of the variance; "
        f"{100 * found.chance:.1f} % of random relabellings reach that. By ranks {signed(found.spearman, 2)}."
        if found.beyond_chance or found.pearson == found.pearson
        else "All cosines, or all changes, are the same.",
    )


def more_orthogonal(plain: float | None, edited: float | None, cosine: tuple[float, float], scaling: float) -> Question:
    """Of the fifth step.

    Args:
        plain: average accuracy of Task Arithmetic, 0 … 1; None if not measured yet.
        edited: the same after AWD.
        cosine: mean |cos| before and after.
        scaling: λ of both.
    """
    asked = Question(
        f"The vectors are now less alike. What does the average accuracy do, at the same λ = {scaling:g}?",
        (
            f"It rises by over {NOTICEABLE:g} point",
            f"It stays within {NOTICEABLE:g} point",
            f"It falls by over {NOTICEABLE:g} point",
        ),
    )
    if plain is None or edited is None:
        return asked
    gain = 100 * (edited - plain)
    return Question(
        asked.text,
        asked.choices,
        _gain(gain),
        f"{100 * plain:.1f} % before and {100 * edited:.1f} % after AWD. Mean |cos| was {cosine[0]:.3f} and is "
        f"{cosine[1]:.3f}.",
    )


def same_model(edited: float | None, plain: float | None, one_image: float, scaling: float) -> Question:
    """Of the sixth step.

    Args:
        edited: average accuracy of AWD + Task Arithmetic, 0 … 1; None if not measured yet.
        plain: that of Task Arithmetic with the equivalent coefficients.
        one_image: what one image more is worth in the average.
        scaling: λ of the former.
    """
    asked = Question(
        f"Merge twice: after AWD with λ = {scaling:g} for all; without AWD with {scaling:g} times the number in the "
        "chart for each task. Which is better?",
        ("With AWD", "Without", "Neither: they are the same model"),
    )
    if edited is None or plain is None:
        return asked
    gain = edited - plain
    return Question(
        asked.text,
        asked.choices,
        2 if abs(gain) <= 1.001 * one_image else 0 if gain > 0 else 1,
        f"{100 * edited:.1f} % and {100 * plain:.1f} %. δ is a mix of the task vectors itself: Σ λ(τ − δ) = "
        "Σ λ(1 − T·a) τ.",
    )


def surer_and_better(
    plain: float | None, edited: float | None, adapted: float | None, entropy: tuple[float, float], scaling: float
) -> Question:
    """Of the seventh step.

    Args:
        plain: average accuracy of Task Arithmetic, 0 … 1; None if not measured yet.
        edited: the same after AWD.
        adapted: that of AdaMerging.
        entropy: mean entropy of predictions in the first and the last steps, nats.
        scaling: λ of the first two, from which AdaMerging starts.
    """
    asked = Question(
        "It sees images without labels and only learns to be surer. Is it right more often, too?",
        (f"Yes, by over {NOTICEABLE:g} point", "No, it is only surer", "It is right less often"),
    )
    if adapted is None:
        return replace(asked, because="It has to learn first.")
    if plain is None or edited is None:
        return asked
    return Question(
        asked.text,
        asked.choices,
        _gain(100 * (adapted - plain)),
        f"AdaMerging {100 * adapted:.1f} %, λ = {scaling:g} for all {100 * plain:.1f} %, with AWD {100 * edited:.1f} "
        f"%. Entropy went from {entropy[0]:.2f} to {entropy[1]:.2f}.",
    )


def which_to_ship(demands: Sequence[str], names: Sequence[str], winner: str | None, because: str) -> Question:
    """Of the last step.

    Args:
        demands: what is asked of a model, in words.
        names: models to choose from.
        winner: the best of those that do as is asked; None if nothing does.
        because: what it reaches and costs.
    """
    wanted = ", ".join(demand.lower() for demand in demands)
    return Question(
        f"You ask for: {wanted}. Which do you ship?"
        if wanted
        else "You ask for nothing but accuracy. Which do you ship?",
        tuple(names),
        None if winner is None else list(names).index(winner),
        because,
    )


def _gain(points: float) -> int:
    """Index of the right one of: more, the same, less. In floating point 0.71 − 0.70 is more than a hundredth."""
    limit = NOTICEABLE + 100 * SAME_ACCURACY
    return 0 if points > limit else 2 if points < -limit else 1
