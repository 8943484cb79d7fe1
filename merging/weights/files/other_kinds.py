"""Models that are no vision transformer of CLIP, known by tensors that their kind alone has, to be refused by name."""

import re
from collections.abc import Iterable

# Of every kind the tensors, all of which it has; the special ones first. Names as open_clip, transformers, timm and
# torchvision write them, whatever stands before.
_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a ResNet of CLIP's (RN50 and the like)", (r"layer1\.0\.conv1\.weight", r"attnpool\.positional_embedding")),
    ("a ResNet", (r"layer1\.0\.conv1\.weight", r"layer2\.0\.conv1\.weight")),
    ("a ResNet of transformers'", (r"encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.weight",)),
    ("a BLIP-2 or InstructBLIP", (r"query_tokens", r"encoder\.layers\.0\.self_attn\.qkv\.weight")),
    (
        "BLIP's vision transformer (BLIP, BLIP-2, InstructBLIP)",
        (r"embeddings\.class_embedding", r"encoder\.layers\.0\.self_attn\.qkv\.weight"),
    ),
    (
        "X-CLIP's, a model of videos",
        (r"embeddings\.class_embedding", r"encoder\.layers\.0\.message_attn\.k_proj\.weight"),
    ),
    ("OWL-ViT's vision transformer", (r"embeddings\.class_embedding", r"pre_layernorm\.weight")),
    ("an MLCD", (r"embeddings\.class_embedding", r"class_pos_emb")),
    ("a GroupViT", (r"embeddings\.patch_embeddings\.projection\.weight", r"encoder\.stages\.0\..*")),
    ("SigLIP's vision transformer", (r"embeddings\.patch_embedding\.(weight|bias)", r"head\.probe")),
    ("a model of timm's that pools by attention, as SigLIP's", (r"attn_pool\.latent",)),
    ("a ConvNeXt of timm's", (r"stages\.0\.blocks\.0\.conv_dw\.weight",)),
    ("a ConvNeXt of transformers'", (r"stages\.0\.layers\.0\.dwconv\.weight",)),
    (
        "a Swin transformer",
        (r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table", r"patch_embed\.proj\.weight"),
    ),
    (
        "a Swin transformer",
        (r"layers\.0\.blocks\.0\.attention\..*", r"embeddings\.patch_embeddings\.projection\.weight"),
    ),
    ("a SAM", (r"patch_embed\.(proj|projection)\.weight", r"neck\.(0|conv1)\.weight")),
    (
        "EVA's vision transformer (EVA, EVA-CLIP)",
        (r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.(inner_attn_ln|norm)\.weight"),
    ),
    ("EVA's vision transformer (EVA, EVA-CLIP)", (r"patch_embed\.proj\.weight", r"rope\.freqs_cos")),
    (
        "EVA's vision transformer or BEiT's (EVA, EVA-CLIP, BLIP-2)",
        (r"patch_embed\.proj\.weight", r"blocks\.0\.attn\.q_bias"),
    ),
    ("a vision transformer in timm's layout (ViT, EVA, DINO)", (r"patch_embed\.proj\.weight", r"blocks\.0\..*")),
    ("a vision transformer of transformers' other than CLIP's (ViT, DINOv2)", (r"embeddings\.cls_token",)),
    (
        "a vision transformer of transformers' other than CLIP's (I-JEPA and the like)",
        (r"embeddings\.patch_embeddings\.projection\.weight",),
    ),
    ("an AIMv2", (r"embeddings\.patch_embed\.weight", r"embeddings\.rms_norm\.weight")),
    ("a model of timm's", (r"trunk\..*",)),
    ("an adapter in kohya's layout, which is not read", (r".*\.lora_down\.weight", r".*\.lora_up\.weight")),
)
# Of models whose visual tower is CLIP's what their text towers have
_TEXT_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AltCLIP's, an XLM-RoBERTa", (r"roberta\.encoder\.layer(s)?\.0\..*", r"transformation\.weight")),
    ("a BERT or RoBERTa, as Chinese-CLIP's", (r"encoder\.layer\.0\.attention\.self\.query\.weight",)),
    ("one of transformers' in open_clip", (r"text\.transformer\.(embeddings|encoder|shared)\..*",)),
)


def other_kind(names: Iterable[str]) -> str:
    """What kind of model tensors belong to that are no vision transformer of CLIP; empty if that can't be told.

    >>> other_kind(["visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding", "logit_scale"])
    "a ResNet of CLIP's (RN50 and the like)"
    >>> other_kind(["visual.conv1.weight", "visual.class_embedding"])
    ''
    """
    return _first(_KINDS, names)


def other_text_kind(names: Iterable[str]) -> str:
    """What kind of text tower is among tensors, beside a visual tower of CLIP's own; empty if that can't be told.

    >>> other_text_kind(["text_model.roberta.encoder.layer.0.output.dense.bias", "text_model.transformation.weight"])
    "AltCLIP's, an XLM-RoBERTa"
    """
    return _first(_TEXT_KINDS, names)


def _first(kinds: Iterable[tuple[str, tuple[str, ...]]], names: Iterable[str]) -> str:
    text = "\n".join(names)
    for kind, tensors in kinds:
        if all(re.search(rf"(^|\.){tensor}$", text, re.MULTILINE) for tensor in tensors):
            return kind
    return ""
