"""Whose turn it is where several people wait: one run of each after the other, whoever asked for how many."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from merging.runs.run import Run


def taking_turns(waiting: Sequence[Run], turns: Mapping[str, float]) -> list[Run]:
    """Runs of several people in rounds, each person's own in the order given.

    Args:
        waiting: the runs.
        turns: person → when one of theirs was started last; whoever is not named comes before all others.
    """
    lines: dict[str, list[Run]] = {}
    for run in waiting:
        lines.setdefault(run.person, []).append(run)
    people = sorted(lines, key=lambda person: turns.get(person, 0.0))
    rounds = zip_longest(*(lines[person] for person in people))
    return [run for one in rounds for run in one if run is not None]
