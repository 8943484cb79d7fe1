"""Published methods by name: an edit and a merge with the parameters of their papers.

Where λ depends on the models, the papers choose it on a validation split; so do the presets (``auto``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merging.core.errors import SpecError
from merging.core.wording import nearest
from merging.methods import registry
from merging.methods.edits.awd import READING_B


@dataclass(frozen=True)
class Preset:
    """One published method.

    Attributes:
        name: what the command line calls it.
        title: what people call it.
        paper: URL of its source.
        edit: its edit, with parameters that differ from the defaults.
        merge: its merge, likewise.
        note: what the papers leave open, or what differs here.
        iterative: whether it optimises in many steps, which takes far longer than the closed forms do.
    """

    name: str
    title: str
    paper: str
    edit: str = "none"
    edit_params: Mapping[str, Any] = field(default_factory=dict)
    merge: str = "task_arithmetic"
    merge_params: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    iterative: bool = False

    @property
    def data(self) -> registry.Data:
        """The data that it looks at."""
        return registry.data_of(self.edit, self.edit_params, self.merge, self.merge_params)

    def spec_fields(self) -> dict[str, Any]:
        """The part of a :class:`~merging.methods.spec.Spec` that it determines."""
        return {
            "edit": self.edit, "edit_params": dict(self.edit_params),
            "merge": self.merge, "merge_params": dict(self.merge_params),
        }  # fmt: skip


_ARXIV = "https://arxiv.org/abs/"
_BEST = {"scaling": "auto"}
_UNVERIFIED = "Unverified: the paper comes without code."

_ALL = (
    Preset("average", "Weight averaging", _ARXIV + "2203.05482", merge="average"),
    Preset("task_arithmetic", "Task Arithmetic", _ARXIV + "2212.04089", merge_params=_BEST),
    Preset("ties", "TIES", _ARXIV + "2306.01708", edit="ties", merge_params=_BEST),
    Preset("dare", "DARE", _ARXIV + "2311.03099", edit="dare", merge_params=_BEST),
    Preset("consensus_ta", "Consensus TA", _ARXIV + "2405.07813", edit="consensus",
           edit_params={"threshold": "auto"}, merge_params=_BEST),
    Preset("consensus_ties", "Consensus TIES", _ARXIV + "2405.07813", edit="consensus",
           edit_params={"threshold": "auto", "total": "ties"}, merge_params=_BEST),
    Preset("tall_masks", "TALL masks (localised)", _ARXIV + "2405.07813", merge="tall_masks",
           merge_params={"threshold": "auto"}, note="Not one model: one a task, from one vector and a mask each."),
    Preset("tatr", "TATR", _ARXIV + "2501.15065", edit="trust_region", edit_params={"sensitivity": "gradient"},
           merge_params=_BEST),
    Preset("tatr_zero_shot", "TATR, zero-shot", _ARXIV + "2501.15065", edit="trust_region", merge_params=_BEST),
    Preset("awd_ta", "AWD + Task Arithmetic", _ARXIV + "2411.18729", edit="awd", merge_params=_BEST, note=_UNVERIFIED),
    Preset("awd_ta_b", "AWD + TA, reading B", _ARXIV + "2411.18729", edit="awd", edit_params=READING_B,
           merge_params=_BEST, note=f"{_UNVERIFIED} One redundant vector per matrix, found by Adam."),
    Preset("doge_ta", "DOGE TA", _ARXIV + "2501.01230", edit="doge", merge_params={"scaling": 1.0},
           iterative=True),
    Preset("iso_c", "Iso-C", _ARXIV + "2502.04959", merge="iso_c", merge_params=_BEST),
    Preset("iso_cts", "Iso-CTS", _ARXIV + "2502.04959", merge="iso_cts", merge_params=_BEST),
    Preset("tsv_m", "TSV-M", _ARXIV + "2412.00081", merge="tsv_m"),
    Preset("wudi", "WUDI", _ARXIV + "2503.08099", merge="wudi", iterative=True),
    Preset("wudi_closed_form", "WUDI, closed form", _ARXIV + "2503.08099", merge="wudi",
           merge_params={"solver": "closed_form"}, note="The minimum that the published iteration heads for."),
    Preset("fisher", "Fisher merging", _ARXIV + "2111.09832", merge="fisher"),
    Preset("regmean", "RegMean", _ARXIV + "2212.09849", merge="regmean"),
    Preset("adamerging_task", "AdaMerging, task-wise", _ARXIV + "2310.02575", merge="adamerging",
           merge_params={"granularity": "task"}, iterative=True),
    Preset("adamerging", "AdaMerging", _ARXIV + "2310.02575", merge="adamerging", iterative=True),
    Preset("adamerging_pp", "AdaMerging++", _ARXIV + "2310.02575", edit="ties", merge="adamerging",
           iterative=True),
    Preset("awd_adamerging", "AWD + AdaMerging", _ARXIV + "2411.18729", edit="awd", merge="adamerging",
           note=_UNVERIFIED, iterative=True),
    Preset("doge_am", "DOGE AM", _ARXIV + "2501.01230", edit="doge", edit_params={"scaled": False},
           merge="adamerging", iterative=True),
)  # fmt: skip
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}


def find_preset(name: str) -> Preset:
    """One preset.

    Raises:
        SpecError: there is none of that name.
    """
    if name not in PRESETS:
        raise SpecError(f"unknown preset {name!r}{nearest(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
