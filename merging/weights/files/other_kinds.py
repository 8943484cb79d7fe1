"""Models that are no vision transformer of CLIP, known by tensors that their kind alone has, to be refused by name."""

import re
from collections.abc import Iterable

# Of every kind the tensors, all of which it has; the special ones first. Names as open_clip, transformers, timm and
# torchvision write them, whatever stands before.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a ResNet of CLIP's (RN50 and the like)", (r"layer1\.0\.conv1\.weight", r"attnpool\.positional_embedding")),
    ("a ResNet", (r"layer1\.0\.conv1\.weight", r"layer2\.0\.conv1\.weight")),
    ("SigLIP's vision transformer", (r"embeddings\.patch_embedding\.(weight|bias)", r"head\.probe")),
    ("a model of timm's that pools by attention, as SigLIP's", (r"attn_pool\.latent",)),
    ("a ConvNeXt of timm's", (r"stages\.0\.blocks\.0\.conv_dw\.weight",)),
    ("a vision transformer in timm's layout (ViT, EVA, DINO)", (r"patch_embed\.proj\.weight", r"blocks\.0\..*")),
    ("a vision transformer of transformers' other than CLIP's (ViT, DINOv2)", (r"embeddings\.cls_token",)),
    ("a model of timm's", (r"trunk\..*",)),
)


def other_kind(names: Iterable[str]) -> str:
    """What kind of model tensors belong to that are no vision transformer of CLIP; empty if that can't be told.

    >>> other_kind(["visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding", "logit_scale"])
    "a ResNet of CLIP's (RN50 and the like)"
    >>> other_kind(["visual.conv1.weight", "visual.class_embedding"])
    ''
    """
    text = "\n".join(names)
    for kind, tensors in _KINDS:
        if all(re.search(rf"(^|\.){tensor}$", text, re.MULTILINE) for tensor in tensors):
            return kind
    return ""
