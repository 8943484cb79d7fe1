"""Which architecture a visual tower has, as far as the names and shapes of its tensors show it.

They show neither the number of attention heads nor the activation function: models that differ in these alone have
the same shapes. Who says these is in :mod:`merging.suites.declared`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from merging.core.errors import MismatchedCheckpoint
from merging.weights.files.other_kinds import other_kind

Activation = Literal["quick_gelu", "gelu"]
ACTIVATIONS: dict[Activation, str] = {"quick_gelu": "QuickGELU", "gelu": "GELU"}
QUICK = "-quickgelu"  # the end of open_clip's names of models with QuickGELU

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")


@dataclass(frozen=True)
class Tower:
    """The sizes of a vision transformer.

    Attributes:
        width: features of a token.
        layers: number of transformer blocks.
        patch_size: side of a patch in pixels.
        image_size: side of an image in pixels.
        mlp_width: features inside the blocks' perceptrons.
        embed_dim: features that come out; None if the file holds no projection.
    """

    width: int
    layers: int
    patch_size: int
    image_size: int
    mlp_width: int
    embed_dim: int | None

    @property
    def name(self) -> str | None:
        """The open_clip model with these sizes, if it is one of :data:`NAMED`."""
        for name, tower in NAMED.items():
            if self in (tower, Tower(**{**vars(tower), "embed_dim": None})):
                return name
        return None

    @property
    def usual_heads(self) -> int | None:
        """Attention heads of the published towers of this width and depth, which all have the same; None without any.

        No shape shows them: ViT-H-14's heads are 80 wide, those of ViT-g-14 88, those of ViT-bigG-14 104.
        """
        return _HEADS.get((self.width, self.layers))

    @property
    def label(self) -> str:
        """What to call it in reports."""
        sizes = f"{self.layers} × {self.width}, patch {self.patch_size}, {self.image_size} pixels"
        return f"{self.name} ({sizes})" if self.name else f"ViT {sizes}"

    def fields(self, heads: int, activation: Activation, beyond: Mapping[str, Any]) -> dict[str, Any]:
        """What to write in a suite.yaml.

        That is ``architecture``, a name or else an open_clip configuration, and ``activation`` beside a plain name.

        Args:
            heads: number of attention heads.
            activation: the activation function.
            beyond: what else ``vision_cfg`` holds, such as the epsilon of the layer norms.

        Raises:
            MismatchedCheckpoint: there is no projection, and no published model to know its size from.
        """
        if self.name is not None and heads == self.usual_heads and not beyond:
            if activation == "quick_gelu" and self.name not in _WITHOUT_QUICK:
                return {"architecture": self.name + QUICK}
            return {"architecture": self.name, "activation": activation}
        if self.embed_dim is None:
            raise MismatchedCheckpoint(
                f"{self.label}: holds no projection `proj` [width, embed_dim], so its embed_dim is unknown; "
                "add the projection to the files or write suite.yaml by hand"
            )
        vision = {
            "image_size": self.image_size,
            "layers": self.layers,
            "width": self.width,
            "head_width": self.width // heads,
            "patch_size": self.patch_size,
            "mlp_ratio": self.mlp_width / self.width,
        }
        inline = {"embed_dim": self.embed_dim, "vision_cfg": {**vision, **beyond}}
        return {"architecture": {**inline, "quick_gelu": activation == "quick_gelu"}}


# Sizes as in open_clip's model configurations of these names, those with published weights.
NAMED = {
    "ViT-B-32": Tower(768, 12, 32, 224, 3072, 512),
    "ViT-B-32-256": Tower(768, 12, 32, 256, 3072, 512),
    "ViT-B-16": Tower(768, 12, 16, 224, 3072, 512),
    "ViT-B-16-plus-240": Tower(896, 12, 16, 240, 3584, 640),
    "ViT-L-14": Tower(1024, 24, 14, 224, 4096, 768),
    "ViT-L-14-336": Tower(1024, 24, 14, 336, 4096, 768),
    "ViT-H-14": Tower(1280, 32, 14, 224, 5120, 1024),
    "ViT-H-14-378": Tower(1280, 32, 14, 378, 5120, 1024),
    "ViT-g-14": Tower(1408, 40, 14, 224, 6144, 1024),
    "ViT-bigG-14": Tower(1664, 48, 14, 224, 8192, 1280),
}
_WITHOUT_QUICK = {"ViT-B-32-256", "ViT-B-16-plus-240", "ViT-g-14"}  # open_clip has no such name with QUICK
# (width, layers) → attention heads of all of open_clip's vision transformers with these
_HEADS = {
    (384, 12): 6,
    (512, 12): 8,
    (768, 12): 12,
    (896, 12): 14,
    (1024, 24): 16,
    (1280, 32): 16,
    (1408, 40): 16,
    (1664, 48): 16,
    (1792, 56): 16,
}


def tower_of(shapes: Mapping[str, Sequence[int]]) -> Tower:
    """The sizes of a tower whose tensors are named as in open_clip's ``model.visual``.

    Args:
        shapes: tensor name → shape.

    Raises:
        MismatchedCheckpoint: these are not the tensors of a vision transformer for square images.

    >>> tower_of({"conv1.weight": (8, 3, 4, 4), "positional_embedding": (26, 8), "proj": (8, 6),
    ...           "transformer.resblocks.0.mlp.c_fc.weight": (16, 8)}).image_size
    20
    """
    kind = other_kind(shapes)
    if kind:
        raise MismatchedCheckpoint(f"{kind}; only the vision transformers of CLIP are merged")
    first = "transformer.resblocks.0.mlp.c_fc.weight"
    lacking = [
        name
        for name, dimensions in (("conv1.weight", 4), ("positional_embedding", 2), (first, 2))
        if len(shapes.get(name, ())) != dimensions
    ]
    if lacking:
        raise MismatchedCheckpoint(
            f"not the visual tower of a CLIP vision transformer: lacks {lacking}; it holds {sorted(shapes)[:3]} …"
        )
    width, _, height, patch_size = shapes["conv1.weight"]
    patches = shapes["positional_embedding"][0] - 1  # and one position for the class token
    grid = math.isqrt(max(patches, 0))
    if height != patch_size or grid * grid != patches or not grid:
        raise MismatchedCheckpoint(
            f"patches of {height} × {patch_size} pixels, {patches} of them; expected squares, as many across as down"
        )
    blocks = {int(match[1]) for name in shapes if (match := _BLOCK.match(name))}
    projection = shapes.get("proj")
    return Tower(
        width=width,
        layers=len(blocks),
        patch_size=patch_size,
        image_size=grid * patch_size,
        mlp_width=shapes[first][0],
        embed_dim=projection[1] if projection and len(projection) == 2 else None,
    )
