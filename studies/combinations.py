"""The search for a combination that needs no data to merge and beats what was published.

λ is always the best on validation, for the published pairs too. All pairs are tried on all tasks; the best few, by
validation, and the published ones are tried on subsets of the tasks. Test accuracy decides nothing.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from merging.methods import registry
from merging.runs.jobs.merge import MergeSpec
from studies.cases import subsets

EDITS: dict[str, tuple[str, dict[str, Any]]] = {
    "": ("none", {}),
    "AWD": ("awd", {}),
    "AWD (layer)": ("awd", {"scope": "layer"}),
    "AWD (row)": ("awd", {"scope": "row"}),
    "TIES": ("ties", {}),
    "Consensus": ("consensus", {}),
}
MERGES: dict[str, tuple[str, dict[str, Any]]] = {
    "Task Arithmetic": ("task_arithmetic", {}),
    "Iso-C": ("iso_c", {}),
    "Iso-CTS": ("iso_cts", {}),
    "TSV-M": ("tsv_m", {}),
    "WUDI, closed form": ("wudi", {"solver": "closed_form"}),
}
SHORTLIST = 5
SUBSET_SIZES = (3, 5, 6)


@dataclass(frozen=True)
class Pair:
    """An edit and a merge.

    Attributes:
        label: what it is called.
        published: whether a paper proposes it; AWD is published in front of Task Arithmetic only.
        spec_fields: its specification, λ to be chosen on validation.
    """

    label: str
    published: bool
    spec_fields: dict[str, Any] = field(hash=False)

    def spec(self, suite: str, device: str, tasks: tuple[str, ...]) -> MergeSpec:
        """What to run."""
        return MergeSpec.build(suite=suite, tasks=tasks, device=device, **self.spec_fields)


def shortlist_cases(tasks: tuple[str, ...]) -> list[Pair]:
    """All pairs of an edit and a merge that look at no data."""
    found = []
    for (edit_label, (edit, edit_params)), (merge_label, (merge, merge_params)) in itertools.product(
        EDITS.items(), MERGES.items()
    ):
        fields = {"edit": edit, "edit_params": edit_params, "merge": merge}
        assert not registry.data_of(edit, edit_params, merge, merge_params).images
        found.append(
            Pair(
                f"{edit_label} + {merge_label}" if edit_label else merge_label,
                not edit_label or merge == "task_arithmetic",
                {**fields, "merge_params": {**merge_params, "scaling": "auto"}},
            )
        )
    return found


def subset_cases(
    pairs: Sequence[Pair], validation: Sequence[float], tasks: tuple[str, ...]
) -> list[tuple[Pair, tuple[str, ...]]]:
    """The best unpublished pairs by validation accuracy and the best published ones, on subsets of the tasks."""
    ranked = [pair for _, pair in sorted(zip(validation, pairs, strict=True), key=lambda entry: -entry[0])]
    kept = [pair for pair in ranked if not pair.published][:SHORTLIST]
    kept += [pair for pair in ranked if pair.published][:3]
    chosen = [subset for size in SUBSET_SIZES if size < len(tasks) for subset in subsets(tasks, size, 1)]
    return list(itertools.product(kept, chosen))
