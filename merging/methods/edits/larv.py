"""LARV: scale the task vectors of every block by what its weights say of it, before any merge (arXiv 2602.09413).

A block whose updates are structured, deep and at peace with the base's weights is scaled up, another down. The paper's
measures are known here through secondary sources only, its tiers not at all, so that what follows is *unverified*.
"""

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field

from merging.core.streaming import ordered
from merging.methods.context import Context
from merging.methods.looks import MOSS, PURPLE, Look
from merging.methods.params import Params
from merging.methods.planned import LinearEdit
from merging.methods.registry import Published, edit
from merging.weights.geometry import block_of
from merging.weights.resident import at_once
from merging.weights.roles import Role, role_of
from merging.weights.spectra import effective_ranks, gram, nonzero
from merging.weights.vectors import TaskVectors

_BLOCK = "block "  # how :func:`block_of` begins
_NOTE = "Unverified: the tiers of the paper are not known to us; these were chosen on the validation images of mini."


class LarvParams(Params):
    """The scales of the three tiers, chosen on validation, and how the measures are combined."""

    low: float = Field(0.5, ge=0, le=10, description="Scale of the third of the blocks with the smallest scores.")
    middle: float = Field(1.0, ge=0, le=10, description="Scale of the third between.")
    high: float = Field(1.5, ge=0, le=10, description="Scale of the third with the largest scores.")
    rank_power: float = Field(1.0, ge=0, le=10, title="η", description="Exponent of the contrast of effective ranks.")
    depth_power: float = Field(0.5, ge=0, le=10, title="ρ", description="Exponent of depth.")


@edit(
    "larv",
    title="LARV",
    paper="https://arxiv.org/abs/2602.09413",
    published=(
        Published(
            "larv_iso_c",
            "LARV + Iso-C",
            "edit=larv merge=iso_c merge.scaling=auto",
            note=_NOTE,
            look=Look(PURPLE, "square", "\\"),
        ),
        Published("larv_tsv_m", "LARV + TSV-M", "edit=larv merge=tsv_m", note=_NOTE, look=Look(MOSS, "square", "\\")),
    ),
)
def larv(vectors: TaskVectors, params: LarvParams, context: Context) -> LinearEdit:
    """Scale the task vectors of each block by one of three factors, by rank, depth and conflict with the base.

    The score of block b of B is ``e_b^η (b/B)^ρ / (1 + softplus(z(c_b)))``. The contrast ``e = r(θ₀)/r(τ)`` compares
    effective ranks, ``r(A) = exp(−Σ p_j log p_j)`` with ``p_j = σ_j²/‖A‖²``. The conflict
    ``c = (‖θ₀ τᵀ − τ θ₀ᵀ‖ + ‖θ₀ᵀ τ − τᵀ θ₀‖) / (2 ‖θ₀‖ ‖τ‖)`` is that of matrices that do not commute; z standardises
    it over the blocks. Both are means over the block's weight matrices and over the tasks that changed them. The
    scores are put into three tiers of equal size; where they hardly differ all blocks have the middle one's scale.
    Tensors outside of blocks stay as they are. The paper's own tiers could not be read.
    """
    blocks = _blocks(vectors.names)
    measures = np.zeros((len(blocks), 2))
    streams = at_once(vectors, context.device)

    def measured(names: list[str]) -> np.ndarray:
        return _of_block(vectors, names, context)

    found = ordered(measured, blocks, context.device, streams) if streams > 1 else map(measured, blocks)
    for place, one in enumerate(found):
        context.step(place, len(blocks), "measuring the blocks")
        measures[place] = one
    scores = _scores(measures, params)
    scales = _tiers(scores, (params.low, params.middle, params.high))
    eye = np.eye(len(vectors.tasks))
    matrices = {name: scale * eye for names, scale in zip(blocks, scales, strict=True) for name in names}
    columns = (measures[:, 0], measures[:, 1], scores, scales)
    told = dict(zip(("contrast", "conflict", "score", "scale"), (np.asarray(c).tolist() for c in columns), strict=True))
    return LinearEdit(matrices, {"blocks": told})


def _blocks(names: Sequence[str]) -> list[list[str]]:
    """The tensors of every block, in the order of depth."""
    found: dict[int, list[str]] = {}
    for name in names:
        block = block_of(name)
        if block.startswith(_BLOCK):
            found.setdefault(int(block.removeprefix(_BLOCK)), []).append(name)
    return [found[number] for number in sorted(found)]


def _of_block(vectors: TaskVectors, names: Sequence[str], context: Context) -> np.ndarray:
    """Means of what :func:`_measures` gives of a block's layers, zeros where no task changed any."""
    layers = {name: role_of(name, vectors.info(name).shape) for name in names}
    found = [one for name, role in layers.items() if role.linear for one in _measures(vectors, name, role, context)]
    return np.mean(found, axis=0) if found else np.zeros(2)


def _measures(vectors: TaskVectors, name: str, role: Role, context: Context) -> list[tuple[float, float]]:
    """Contrast of effective ranks, and conflict with the base's weights, of every task that changed a matrix."""
    base, stack = vectors.stack(name, context.device)
    weight, updates = role.matrices(base.float()[None])[0], nonzero(role.matrices(stack))
    if weight.shape[0] < weight.shape[1]:  # both measures are the same of the transposes, whose Gram matrix is smaller
        weight, updates = weight.T, updates.mT
    square = gram(weight)
    owns = torch.stack([square, *map(gram, updates)])
    rank, *ranks = effective_ranks(owns)
    found = []
    for update, own, own_rank in zip(updates, owns[1:], ranks, strict=True):
        context.stop_if_cancelled("LARV")
        across = weight.T @ update
        turned = (across.double() * across.T).sum()  # tr (θ₀ᵀτ)²
        left = (square.double() * own).sum() - turned  # half of ‖θ₀τᵀ − τθ₀ᵀ‖²
        right = across.double().square().sum() - turned
        lengths = (square.trace().double() * own.trace().double()).sqrt()
        sums = torch.stack([left, right]).clamp_min(0).mul_(2).sqrt().sum() / (2 * lengths)
        found.append((rank / own_rank, float(torch.where(lengths > 0, sums, 0.0))))
    return found


def _scores(measures: np.ndarray, params: LarvParams) -> np.ndarray:
    """Scores ``[B]`` from contrasts and conflicts ``[B, 2]``."""
    contrasts, conflicts = measures.T
    spread = conflicts.std()
    standard = (conflicts - conflicts.mean()) / spread if spread > 1e-8 else np.zeros_like(conflicts)
    depths = np.arange(1, len(measures) + 1) / max(len(measures), 1)
    scores: np.ndarray = contrasts**params.rank_power * depths**params.depth_power / (1 + np.logaddexp(0, standard))
    return scores


def _tiers(scores: np.ndarray, scales: tuple[float, float, float]) -> list[float]:
    """The scale of every block, by the rank of its score; the middle one for all where scores hardly differ."""
    if not len(scores) or np.ptp(scores) <= 1e-6 * np.abs(scores).max():
        return [scales[1]] * len(scores)
    ranks = scores.argsort(kind="stable").argsort()
    return [scales[(2 * rank + 1) * 3 // (2 * len(scores))] for rank in ranks.tolist()]
