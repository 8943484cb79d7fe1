"""Published methods by name: an edit and a merge with the parameters of their papers.

Where λ depends on the models, the papers choose it on a validation split; so do the presets (``auto``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from merging.core.errors import SpecError
from merging.core.wording import nearest
from merging.methods import registry
from merging.methods.contract import is_name
from merging.methods.edits.awd import READING_B
from merging.methods.grammar import write_value
from merging.methods.looks import BROWN, LAVENDER, MOSS, PINK, PURPLE, TEAL, Look
from merging.methods.pair import Pair
from merging.methods.params import DataUse
from merging.methods.registry import OwnSource, Published


@dataclass(frozen=True)
class Preset:
    """One published method.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        paper: URL of its source.
        pair: its edit and its merge.
        note: what the papers leave open, or what differs here.
        iterative: whether it optimises in many steps, which takes far longer than the closed forms do.
        look: how charts draw it; None for the next look that is free.
        source: where the stage that brings it comes from, if that is somebody's own.
        ours: whether it is this project's own.
    """

    name: str
    title: str
    paper: str
    pair: Pair
    note: str = ""
    iterative: bool = False
    look: Look | None = None
    source: OwnSource | None = None
    ours: bool = False

    @property
    def data(self) -> DataUse:
        """The data that it looks at."""
        return self.pair.data

    def spec_fields(self) -> dict[str, Any]:
        """The part of a :class:`~merging.methods.spec.Spec` that it determines, without what equals a default."""
        edit, merge = self.pair.parts
        return {
            "edit": edit.name,
            "edit_params": edit.changed,
            "merge": merge.name,
            "merge_params": merge.changed,
        }


_ARXIV = "https://arxiv.org/abs/"
_UNVERIFIED = "Unverified: the paper comes without code."
_READING_B = "edit=awd merge.scaling=auto " + " ".join(
    f"edit.{name}={write_value(value)}" for name, value in READING_B.items()
)

# In the order in which the command line and leaderboards name them; a stage may bring more, which come after these.
TABLE = (
    Published("average", "Weight averaging", "merge=average", _ARXIV + "2203.05482", look=Look("#8d8a1f", "x")),
    Published(
        "task_arithmetic",
        "Task Arithmetic",
        "merge.scaling=auto",
        _ARXIV + "2212.04089",
        look=Look("#cc7f00", "square"),
    ),
    Published("ties", "TIES", "edit=ties merge.scaling=auto", _ARXIV + "2306.01708", look=Look("#0a9a72", "cross")),
    Published("dare", "DARE", "edit=dare merge.scaling=auto", _ARXIV + "2311.03099", look=Look(PURPLE, "bowtie", ".")),
    Published(
        "consensus_ta",
        "Consensus TA",
        "edit=consensus edit.threshold=auto merge.scaling=auto",
        _ARXIV + "2405.07813",
        look=Look(PINK, "triangle-left"),
    ),
    Published(
        "consensus_ties",
        "Consensus TIES",
        "edit=consensus edit.threshold=auto edit.total=ties merge.scaling=auto",
        _ARXIV + "2405.07813",
        look=Look(PINK, "bowtie", "x"),
    ),
    Published(
        "tall_masks",
        "TALL masks (localised)",
        "merge=tall_masks merge.threshold=auto",
        _ARXIV + "2405.07813",
        note="Not one model: one a task, from one vector and a mask each.",
        look=Look(PINK, "hexagon", "."),
    ),
    Published(
        "tatr",
        "TATR",
        "edit=trust_region edit.sensitivity=gradient merge.scaling=auto",
        _ARXIV + "2501.15065",
        look=Look(MOSS, "hourglass"),
    ),
    Published(
        "tatr_zero_shot",
        "TATR, zero-shot",
        "edit=trust_region merge.scaling=auto",
        _ARXIV + "2501.15065",
        look=Look(MOSS, "triangle-right", "x"),
    ),
    Published(
        "awd_ta",
        "AWD + Task Arithmetic",
        "edit=awd merge.scaling=auto",
        _ARXIV + "2411.18729",
        note=_UNVERIFIED,
        look=Look("#d1541f", "triangle-down"),
    ),
    Published(
        "awd_ta_b",
        "AWD + TA, reading B",
        _READING_B,
        _ARXIV + "2411.18729",
        note=f"{_UNVERIFIED} One redundant vector per matrix, found by Adam.",
        look=Look(BROWN, "triangle-right", "."),
    ),
    Published(
        "doge_ta",
        "DOGE TA",
        "edit=doge edit.units=published merge.scaling=1.0",
        _ARXIV + "2501.01230",
        iterative=True,
        look=Look(BROWN, "pentagon"),
    ),
    Published("iso_c", "Iso-C", "merge=iso_c merge.scaling=auto", _ARXIV + "2502.04959", look=Look(PURPLE, "hexagon")),
    Published(
        "iso_cts",
        "Iso-CTS",
        "merge=iso_cts merge.scaling=auto",
        _ARXIV + "2502.04959",
        look=Look(PURPLE, "star-diamond", "x"),
    ),
    Published("tsv_m", "TSV-M", "merge=tsv_m", _ARXIV + "2412.00081", look=Look(TEAL, "hexagram")),
    Published(
        "wudi",
        "WUDI",
        "merge=wudi merge.units=published",
        _ARXIV + "2503.08099",
        iterative=True,
        look=Look(LAVENDER, "triangle-right"),
    ),
    Published(
        "wudi_closed_form",
        "WUDI, closed form",
        "merge=wudi merge.solver=closed_form",
        _ARXIV + "2503.08099",
        note="The minimum that the published iteration heads for.",
        look=Look(LAVENDER, "pentagon", "x"),
    ),
    Published("fisher", "Fisher merging", "merge=fisher", _ARXIV + "2111.09832", look=Look(MOSS, "hexagram", ".")),
    Published(
        "fisher_normalised",
        "Fisher, normalised",
        "merge=fisher merge.normalise=length",
        _ARXIV + "2406.03280",
        note="As FusionBench does by default: the information of every model has the same length.",
        look=Look(MOSS, "diamond", "/"),
    ),
    Published("regmean", "RegMean", "merge=regmean", _ARXIV + "2212.09849", look=Look(TEAL, "hourglass", "x")),
    Published(
        "adamerging_task",
        "AdaMerging, task-wise",
        "merge=adamerging merge.granularity=task",
        _ARXIV + "2310.02575",
        iterative=True,
        look=Look(TEAL, "triangle-left", "."),
    ),
    Published(
        "adamerging",
        "AdaMerging",
        "merge=adamerging",
        _ARXIV + "2310.02575",
        iterative=True,
        look=Look("#2e93d1", "triangle-up"),
    ),
    Published(
        "adamerging_16",
        "AdaMerging, 16 images",
        "merge=adamerging merge.batch_size=16",
        _ARXIV + "2310.02575",
        note="As FusionBench runs it: half the images of the official code in each step.",
        iterative=True,
        look=Look(LAVENDER, "diamond", "/"),
    ),
    Published(
        "adamerging_pp",
        "AdaMerging++",
        "edit=ties merge=adamerging",
        _ARXIV + "2310.02575",
        iterative=True,
        look=Look(LAVENDER, "hourglass", "."),
    ),
    Published(
        "awd_adamerging",
        "AWD + AdaMerging",
        "edit=awd merge=adamerging",
        _ARXIV + "2411.18729",
        note=_UNVERIFIED,
        iterative=True,
        look=Look("#4a6fd4", "star"),
    ),
    Published(
        "doge_am",
        "DOGE AM",
        "edit=doge edit.scaled=false edit.units=published merge=adamerging",
        _ARXIV + "2501.01230",
        iterative=True,
        look=Look(BROWN, "star-diamond", "x"),
    ),
)


class _Presets(Mapping[str, Preset]):
    """All published methods by name: the table's, then those that stages bring."""

    def __getitem__(self, name: str) -> Preset:
        return _built(registry.stages())[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_built(registry.stages()))

    def __len__(self) -> int:
        return len(_built(registry.stages()))


PRESETS: Mapping[str, Preset] = _Presets()


@cache
def _built(stages: tuple[registry.Stage, ...]) -> dict[str, Preset]:
    """Every published method, validated.

    Raises:
        SpecError: one is no method, lacks a paper, has an odd name or title, or what tells another one apart.
    """
    declared: list[tuple[Published, str, OwnSource | None]] = [(one, one.paper, None) for one in TABLE]
    bring = sorted(stages, key=lambda stage: stage.source is not None)  # somebody's own come last
    declared += [(one, one.paper or stage.paper, stage.source) for stage in bring for one in stage.published]
    built: dict[str, Preset] = {}
    for one, paper, source in declared:
        pair, ours = Pair.read(one.settings), one.ours and source is None
        preset = Preset(one.name, one.title, paper, pair, one.note, one.iterative, one.look, source, ours)
        reason = _odd(preset) or next(filter(None, (_taken_for(preset, other) for other in built.values())), "")
        if not (reason or paper or ours or source):
            reason = "it has no paper; give the address of one, or ours=True to what is this project's own"
        if reason:
            raise SpecError(f"published method {one.name!r}: {reason}")
        built[one.name] = preset
    return built


def _odd(preset: Preset) -> str:
    """What is wrong with a method's name or title; empty if nothing."""
    if not is_name(preset.name):
        return "a name is made of small letters, digits and _, and begins with a letter"
    if preset.title != preset.title.strip() or not preset.title.isprintable() or not preset.title:
        return f"its title must be one line of text; got {preset.title!r}"
    return ""


def _taken_for(one: Preset, other: Preset) -> str:
    """What of a method makes it look like another one; empty if nothing."""
    if one.name == other.name or one.title == other.title:
        return f"its name or title is that of {other.title!r}"
    if one.pair.telling == other.pair.telling:
        return f"its settings are those of {other.title!r}, whatever λ is; no run could be told apart"
    if one.look and other.look and _look_alike(one.look, other.look):
        return f"{one.look} looks like {other.title}; take another look"
    return ""


registry.check_with(_built)


def _look_alike(one: Look, other: Look) -> bool:
    """Whether two methods could be taken for each other, by their markers or as bars."""
    return one.color == other.color and (one.symbol == other.symbol or one.pattern == other.pattern)


def method_fields(method: str | tuple[str, str], parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part of a :class:`~merging.methods.spec.Spec` that a method determines.

    Args:
        method: a published method's name, or a pair of the names of an edit and a merge.
        parameters: by stage, on top of those of the published method.

    Raises:
        SpecError: there is no published method of that name.
    """
    if isinstance(method, str):
        fields = find_preset(method).spec_fields()
    else:
        fields = dict(zip(("edit", "merge"), method, strict=True))
    for stage, given in parameters.items():
        fields[f"{stage}_params"] = {**fields.get(f"{stage}_params", {}), **given}
    return fields


def find_preset(name: str) -> Preset:
    """One preset.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in PRESETS:
        raise SpecError(f"unknown preset {name!r}{nearest(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
