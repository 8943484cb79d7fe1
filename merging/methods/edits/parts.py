"""The parts of a strong merge: what each task brings to it, so that coefficients can be learned on top.

A merge such as WUDI's closed form is a sum over tasks, though not of the task vectors. With its terms in the place of
the task vectors, Task Arithmetic with λ = 1 is that merge, and AdaMerging starts where it ends.
"""

from typing import Literal

import torch
from pydantic import Field

from merging.methods.context import Context
from merging.methods.layers import LAYERS, Layers
from merging.methods.looks import PURPLE, Look
from merging.methods.merges.task_singular_vectors import joined_parts
from merging.methods.merges.wudi import closed_form_parts
from merging.methods.params import Params
from merging.methods.planned import TensorEdit
from merging.methods.registry import Published, edit
from merging.weights.roles import Role, role_of
from merging.weights.vectors import TaskVectors


class PartsParams(Params):
    """Of which merge, with what parameters."""

    of: Literal["wudi", "tsv_m"] = Field("wudi", description="The merge: WUDI's closed form, or TSV-M.")
    ridge: float = Field(
        0.01, gt=0, le=100, description="Of WUDI's closed form, relative to the mean eigenvalue of S, as there."
    )
    layers: Layers = LAYERS


@edit(
    "parts",
    title="Parts of a merge",
    paper="https://arxiv.org/abs/2310.02575",
    published=(
        Published(
            "parts_adamerging",
            "AdaMerging from WUDI",
            "edit=parts edit.layers=all_linear merge=adamerging merge.initial=1.0 merge.clamp=false "
            "merge.batch_size=16",
            note="Not published: AdaMerging's learning, from WUDI's closed form on, on its parts.",
            iterative=True,
            look=Look(PURPLE, "star", "/"),
        ),
    ),
)
def parts(vectors: TaskVectors, params: PartsParams, context: Context) -> TensorEdit:
    """Put what each task brings to WUDI's closed form or to TSV-M in the place of its task vector.

    Of WUDI ``p_t = (τ_t τ_tᵀτ_t/‖τ_t‖² + ρ τ_t)(S + ρ I)⁻¹``, of TSV-M the task's decorrelated triplets, of tensors of
    which these take the mean ``τ_t/T``: the sum over tasks is that merge with λ = 1.
    """

    def taken(role: Role) -> bool:
        return role.block_matrix if params.of == "wudi" else role.two_dimensional

    def of_matrix(stack: torch.Tensor) -> torch.Tensor:
        return closed_form_parts(stack, params.ridge) if params.of == "wudi" else joined_parts(stack)

    def apply(name: str, base: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
        role = role_of(name, base.shape)
        if params.layers == "all_linear" and role.linear:
            return torch.stack([role.stored(part) for part in of_matrix(role.matrices(stack))])
        if params.layers == "published" and taken(role):
            return of_matrix(stack)
        return stack / len(stack)

    return TensorEdit(apply)
