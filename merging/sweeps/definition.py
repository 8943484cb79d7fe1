"""What a sweep tries: methods, values of their parameters, task subsets; from a form or a YAML file.

::

    suite: mini
    tasks: [[digits, letters], [digits, letters, signs]]    # left out: one subset, all tasks
    edits:
      none:
      ties: {keep: [0.1, 0.2]}                               # values to try
    merges:
      task_arithmetic: {scaling: {low: 0.1, high: 0.5, step: 0.1}}
    search: grid                                             # or tpe, with `trials`
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from merging.core.errors import MissingPart, SpecError
from merging.core.gate import read_text
from merging.core.limits import MAX_SWEEP_BYTES
from merging.core.text import kind_of
from merging.core.wording import explain
from merging.core.yaml_problems import yaml_problem_in_words
from merging.core.yaml_text import parse_yaml
from merging.methods import registry
from merging.methods.registry import Stage
from merging.runs.jobs.merge import MergeSpec
from merging.suites.suite import Split, Suite, builtin_suites, is_name
from merging.sweeps.domains import MAX_TRIALS, Choices, Range, Space

_FIELDS = "suite, tasks, edits, merges, search, trials, parallel, objective, seed, device"

Settings = dict[str, Any]  # ``edit``, ``merge`` and the values of their parameters, ``edits.ties.keep`` and so on


Methods = Annotated[dict[str, Space], Field(min_length=1, max_length=50)]


class SweepDefinition(BaseModel):
    """A sweep: every task subset with every pair of edit and merge that makes sense and values of their parameters.

    Attributes:
        suite: as in :class:`~merging.runs.jobs.merge.MergeSpec`.
        tasks: the task subsets; each is searched by itself and has a best trial of its own, since fewer tasks are
            easier to merge.
        edits: edit → parameter → one value, a list of values, or a :class:`Range`.
        merges: the same of merges.
        search: ``grid`` tries all combinations; ``tpe`` lets optuna's tree-structured Parzen estimator propose them.
        trials: how many of a task subset ``tpe`` tries; no field of a grid.
        parallel: how many trials may be under way at once. With ``tpe`` trial n is proposed from the results of all
            trials up to n - parallel, whichever others are done, so that a sweep can be repeated.
        objective: what is maximised, always on the validation split: the average accuracy over the tasks, or the
            average of the accuracy divided by that of the task's own model. Tasks to be forgotten do not count, so it
            compares only trials that forget the same ones; tasks of the suite that are not merged count in the
            average of such trials, see :attr:`merging.runs.jobs.merge_result.MergeResult.score`, not in the normalised
            one.
        seed: of the search, and of every trial.
        device: where trials run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    suite: str
    tasks: tuple[Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)], ...] = Field((), max_length=100)
    edits: Methods = {"none": {}}
    merges: Methods
    search: Literal["grid", "tpe"] = "grid"
    trials: int | None = Field(None, ge=1, le=MAX_TRIALS)
    parallel: int = Field(1, ge=1, le=64)
    objective: Literal["average", "normalised"] = "average"
    seed: int = Field(0, ge=0, lt=2**32)
    device: str = "auto"

    @model_validator(mode="after")
    def _sound(self) -> "SweepDefinition":
        for section, kind, methods in self._sections():
            for name, space in methods.items():
                method = registry.find(kind, name)
                for parameter, domain in space.items():
                    _check_domain(f"{section}.{name}.{parameter}", method, parameter, domain, self.search)
        if not self.pairs:
            raise ValueError("no pair of these edits and merges makes sense; add edit none, or another merge")
        if self.search == "grid" and self.trials is not None:
            raise ValueError("trials: a grid tries every combination; leave it out, or choose search: tpe")
        if self.search == "tpe" and self.trials is None:
            raise ValueError("trials: search tpe needs a number of trials, such as 30")
        if self.total > MAX_TRIALS:
            raise ValueError(f"{self.total} trials; at most {MAX_TRIALS} are allowed: give fewer values or subsets")
        return self

    def _sections(self) -> tuple[tuple[str, Literal["edit", "merge"], dict[str, Space]], ...]:
        return ("edits", "edit", self.edits), ("merges", "merge", self.merges)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The edits and merges that it names."""
        return tuple(registry.find(kind, name) for _, kind, methods in self._sections() for name in methods)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every edit with every merge, but for an edit before a merge that takes none."""
        every = itertools.product(self.edits, self.merges)
        return tuple((e, m) for e, m in every if e == "none" or not registry.find("merge", m).unedited)

    def space(self, pair: tuple[str, str]) -> dict[str, Range | Choices]:
        """The parameters of a pair by their path, such as ``edits.ties.keep``, and what to try of each."""
        edit, merge = pair
        found = {f"edits.{edit}.{name}": domain for name, domain in self.edits[edit].items()}
        return found | {f"merges.{merge}.{name}": domain for name, domain in self.merges[merge].items()}

    def grid(self) -> Iterator[Settings]:
        """Every combination for one task subset: the full product less refused pairs. Ranges need a step."""
        for pair in self.pairs:
            space = self.space(pair)
            values = [self.values(path, domain) for path, domain in space.items()]
            for chosen in itertools.product(*values):
                yield {"edit": pair[0], "merge": pair[1], **dict(zip(space, chosen, strict=True))}

    def values(self, path: str, domain: Range | Choices) -> tuple[Any, ...]:
        """All values of a domain that can be listed."""
        if not isinstance(domain, Range):
            return domain
        return tuple(map(int, domain.values())) if self.is_whole(path) else domain.values()

    def lowest(self, path: str, domain: Range | Choices) -> Any:
        """The low end of a range, or the first of what may be chosen."""
        if not isinstance(domain, Range):
            return domain[0]
        return int(domain.low) if self.is_whole(path) else domain.low

    def is_whole(self, path: str) -> bool:
        """Whether the parameter at a path takes whole numbers."""
        section, name, parameter = path.split(".")
        method = registry.find("edit" if section == "edits" else "merge", name)
        return method.params.model_fields[parameter].annotation is int

    @property
    def trials_per_subset(self) -> int:
        """How many trials a task subset gets."""
        if self.trials is not None:
            return self.trials
        return sum(math.prod(_size(domain) for domain in self.space(pair).values()) for pair in self.pairs)

    @property
    def total(self) -> int:
        """How many trials there are in all."""
        return max(1, len(self.tasks)) * self.trials_per_subset

    @property
    def label(self) -> str:
        """In a few words, such as ``TIES, None × Task Arithmetic · grid of 12``."""
        titles = [
            ", ".join(registry.find(kind, name).title for name in methods)
            for _, kind, methods in self._sections()
            if list(methods) != ["none"]
        ]
        how = f"grid of {self.total}" if self.search == "grid" else f"TPE, {self.total} trials"
        return f"{' × '.join(titles)} · {how}"

    def to_yaml(self) -> str:
        """As a file; what equals a default is left out."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        for section in ("edits", "merges"):
            for methods in content.get(section, {}).values():
                for name, domain in methods.items():
                    if isinstance(domain, list) and len(domain) == 1 and not isinstance(domain[0], list):
                        methods[name] = domain[0]
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)

    def completed(self, suite: Suite, device: str) -> "SweepDefinition":
        """The same on a device, with the suite's tasks spelled out; checked against the suite and trial by trial.

        Raises:
            SuiteError: a task is unknown, or lacks weights, images or a head.
            SpecError: a combination is refused.
        """
        subsets = self.tasks or (suite.at_first(suite.mergeable()),)
        lacking = sorted({name for subset in subsets for name in subset if not suite.measurable(name)})
        if lacking or not subsets[0]:
            raise MissingPart(
                f"a sweep needs weights, images and a head for every task; {', '.join(lacking) or 'all'} lack them"
            )
        complete = self.model_copy(update={"tasks": subsets, "device": device})
        for subset in subsets:
            suite.vectors(subset)
            if self.search == "grid":
                for settings in complete.grid():
                    complete.spec(subset, settings)
        return complete

    def spec(self, tasks: tuple[str, ...], settings: Mapping[str, Any], split: Split = "val") -> MergeSpec:
        """The run that a trial is: on the validation split, on which trials are compared.

        Raises:
            SpecError: the values do not go together.
        """
        edit, merge = settings["edit"], settings["merge"]

        def of(prefix: str) -> dict[str, Any]:
            return {path.removeprefix(prefix): value for path, value in settings.items() if path.startswith(prefix)}

        return MergeSpec.build(
            suite=self.suite,
            tasks=tasks,
            edit=edit,
            edit_params=of(f"edits.{edit}."),
            merge=merge,
            merge_params=of(f"merges.{merge}."),
            split=split,
            seed=self.seed,
            device=self.device,
        )


def _size(domain: Range | Choices) -> int:
    return len(domain.values()) if isinstance(domain, Range) else len(domain)


def _check_domain(path: str, stage: Stage, parameter: str, domain: Range | Choices, search: str) -> None:
    """Insist that a method takes all values of a domain.

    Raises:
        ValueError: it does not, or a grid has no values to try.
    """
    if isinstance(domain, Range):
        _check_range(path, stage, parameter, domain, search)
        return
    for value in domain:
        _check_value(path, stage, parameter, value)


def _check_range(path: str, stage: Stage, parameter: str, domain: Range, search: str) -> None:
    seen = [_check_value(path, stage, parameter, value) for value in (domain.low, domain.high)]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in seen):
        raise ValueError(f"{path}: is no number, so it can't have a range; give a list of values")
    if isinstance(seen[0], int) and domain.step is not None and not domain.step.is_integer():
        raise ValueError(f"{path}: takes whole numbers; got step {domain.step:g}")
    if search == "grid" and domain.step is None:
        raise ValueError(f"{path}: a grid needs a step or a list of values; got low and high alone")


def _check_value(path: str, stage: Stage, parameter: str, value: Any) -> Any:
    """The value as the method reads it."""
    try:
        return getattr(stage.parse({parameter: value}), parameter)
    except SpecError as error:
        raise ValueError(str(error).replace(f"{stage.kind}.{parameter}", path, 1)) from None


def parse_definition(text: str, name: str = "sweep") -> SweepDefinition:
    """A definition from YAML text; ``name`` is what errors call it.

    Raises:
        SpecError: it is not YAML or breaks the schema; the message says where, what was seen and what was expected.
    """
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_SWEEP_BYTES:
        raise SpecError(f"{name}: {size} bytes; a sweep of at most {MAX_SWEEP_BYTES} is read")
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: not valid YAML: {yaml_problem_in_words(error)}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{name}: expected a mapping with {_FIELDS}; got {kind_of(content)}")
    return build_definition(content, name)


def build_definition(content: Mapping[str, Any], name: str = "sweep") -> SweepDefinition:
    """A definition from its fields; errors as of :func:`parse_definition`."""
    try:
        return SweepDefinition.model_validate(dict(content))
    except ValidationError as error:
        raise SpecError(f"{name}: {explain(error, known=SweepDefinition)}") from None
    except SpecError as error:
        raise SpecError(f"{name}: {error}") from None


def read_definition(path: Path) -> SweepDefinition:
    """A definition from a file; a relative path in ``suite`` starts at the file's folder.

    Raises:
        SpecError: it can't be read, or as :func:`parse_definition`.
    """
    definition = parse_definition(read_text(path, SpecError, MAX_SWEEP_BYTES), path.name)
    beside = path.parent / definition.suite
    if is_name(definition.suite) and not (beside.exists() and definition.suite not in builtin_suites()):
        return definition
    return definition.model_copy(update={"suite": str(beside.resolve())})
