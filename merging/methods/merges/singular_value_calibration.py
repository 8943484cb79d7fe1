"""Singular value calibration of the sum of the task vectors, which is Task Arithmetic corrected (arXiv 2602.05536)."""

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers, calibrated_tensor
from merging.methods.looks import BROWN, PINK, Look
from merging.methods.params import Params
from merging.methods.planned import TensorMerge
from merging.methods.registry import Published, merge
from merging.methods.scaling import Scaling, scaled
from merging.weights.roles import role_of
from merging.weights.vectors import TaskVectors


class CalibratedSumParams(Params):
    """FusionBench's settings for Task Arithmetic."""

    before: float = Field(0.3, gt=0, le=10, title="λ before", description="Factor of the sum that is calibrated.")
    alpha: float = Field(
        0.1,
        gt=0,
        le=10,
        title="α",
        description="Below this no task's share in a direction is taken to be: the larger, the shorter the result.",
    )
    scaling: Scaling = Field(
        1.0, title="λ", description="Multiplier of the calibrated update, or auto: chosen on the validation split."
    )
    layers: Layers = LAYERS


@merge(
    "svc",
    title="Singular value calibration",
    paper="https://arxiv.org/abs/2602.05536",
    published=(
        Published("svc_ta", "Task Arithmetic + SVC", "merge=svc", look=Look(PINK, "square", "\\")),
        Published("svc_tsv_m", "TSV-M + SVC", "merge=tsv_m merge.calibration=1", look=Look(PINK, "cross", "/")),
        Published(
            "svc_wudi",
            "WUDI closed + SVC",
            "merge=wudi merge.solver=closed_form merge.calibration=1",
            look=Look(BROWN, "cross", "/"),
        ),
    ),
)
def svc(vectors: TaskVectors, params: CalibratedSumParams, context: Context) -> TensorMerge:
    """Add the scaled sum of the task vectors with directions that several tasks share shortened.

    ``v = λ₀ Σ τ`` with λ₀ the factor before. Of each matrix, ``v = Σ_r σ_r u_r w_rᵀ``, and every σ_r becomes
    ``σ_r / mean_t max(α, s_tr)`` with ``s_tr = ⟨u_rᵀ v, u_rᵀ τ_t⟩ / ‖u_rᵀ τ_t‖²``, task t's share in direction r, see
    :func:`merging.methods.calibration.calibrated`. Tensors that are no matrices keep ``λ₀ Σ τ``. After TSV-M, WUDI,
    ACE, RegMean and RegMean++ the same is their parameter ``calibration``.
    """

    def direction(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        total = params.before * stack.sum(dim=0)
        return calibrated_tensor(params.layers, role_of(name, base.shape), total, stack, params.alpha)

    return scaled(vectors, params.scaling, direction, context)
