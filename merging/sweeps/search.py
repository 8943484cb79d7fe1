"""Which trial comes next: the next point of a grid, or what optuna's TPE proposes from the results so far.

A proposal is a function of the definition, the trial's number and the results of earlier trials, and of nothing that
a process remembers: a search that is taken up after a restart goes on as if it had never stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from merging.sweeps.definition import Settings, SweepDefinition
from merging.sweeps.domains import Choices, Range

if TYPE_CHECKING:
    import optuna

_PAIR = "pair"


@dataclass(frozen=True)
class Known:
    """An earlier trial of the same task subset: its settings, and its value once it is done."""

    settings: Settings
    done: bool
    value: float | None


def next_numbers(definition: SweepDefinition, finished: Mapping[int, bool]) -> list[int]:
    """Numbers of the trials that may be proposed now.

    Args:
        definition: the sweep.
        finished: number of every trial proposed so far → whether it is finished.
    """
    per_subset, ahead = definition.trials_per_subset, definition.parallel
    room = ahead - sum(not done for done in finished.values())
    fresh: list[int] = []
    for first in range(0, definition.total, per_subset):
        for number in range(first, first + per_subset):
            if len(fresh) >= room:
                return fresh
            if number in finished:
                continue
            awaited = () if definition.search == "grid" else range(first, number - ahead + 1)
            if not all(finished.get(earlier, False) for earlier in awaited):
                break
            fresh.append(number)
    return fresh


def propose(definition: SweepDefinition, number: int, earlier: Sequence[Known]) -> Settings:
    """Settings of a trial.

    Args:
        definition: the sweep.
        number: of the trial, counted over all task subsets.
        earlier: all trials of the same subset with smaller numbers, in their order; not looked at for a grid.
    """
    within = number % definition.trials_per_subset
    if definition.search == "grid":
        return next(islice(definition.grid(), within, None))
    return _ask(definition, number, earlier)


def _ask(definition: SweepDefinition, number: int, earlier: Sequence[Known]) -> Settings:
    """What TPE proposes (Bergstra et al. 2011, as in optuna), its random numbers drawn by seed and trial number."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int(np.random.SeedSequence([definition.seed, number]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=definition.parallel > 1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    under_way = len(earlier) - definition.parallel + 1  # the last ones count as such even if they happen to be done
    for index, known in enumerate(earlier):
        study.add_trial(_told(definition, known, pending=index >= under_way))
    trial = study.ask()
    pair = definition.pairs[trial.suggest_categorical(_PAIR, range(len(definition.pairs)))]
    space = definition.space(pair)
    return {
        "edit": pair[0],
        "merge": pair[1],
        **{path: _suggested(trial, definition, path, domain) for path, domain in space.items()},
    }


def _told(definition: SweepDefinition, known: Known, pending: bool) -> "optuna.trial.FrozenTrial":
    """An earlier trial as optuna keeps it."""
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    pair = (known.settings["edit"], known.settings["merge"])
    space = definition.space(pair)
    params: dict[str, Any] = {_PAIR: definition.pairs.index(pair)}
    for path, domain in space.items():
        value = known.settings[path]
        params[path] = value if isinstance(domain, Range) else _position(domain, value)
    distributions: dict[str, BaseDistribution] = {_PAIR: CategoricalDistribution(range(len(definition.pairs)))}
    distributions |= {path: _distribution(definition, path, domain) for path, domain in space.items()}
    state = TrialState.RUNNING if pending else TrialState.FAIL if known.value is None else TrialState.COMPLETE
    value = known.value if state == TrialState.COMPLETE else None
    return create_trial(state=state, value=value, params=params, distributions=distributions)


def _position(choices: Choices, value: Any) -> int:
    """Index of a value, which may have been read from JSON, among the choices; True is not 1 here."""
    wanted = tuple(value) if isinstance(value, list) else value
    return next(i for i, one in enumerate(choices) if one == wanted and type(one) is type(wanted))


def _distribution(
    definition: SweepDefinition, path: str, domain: Range | Choices
) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(domain, Range):
        return CategoricalDistribution(range(len(domain)))
    high = domain.values()[-1] if domain.step is not None else domain.high  # optuna warns of a high beside the grid
    if definition.is_whole(path):
        return IntDistribution(int(domain.low), int(high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, high, log=domain.log, step=domain.step)


def _suggested(trial: "optuna.Trial", definition: SweepDefinition, path: str, domain: Range | Choices) -> Any:
    if not isinstance(domain, Range):
        return domain[trial.suggest_categorical(path, range(len(domain)))]
    high = domain.values()[-1] if domain.step is not None else domain.high
    if definition.is_whole(path):
        return trial.suggest_int(path, int(domain.low), int(high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(path, domain.low, high, step=domain.step, log=domain.log)
