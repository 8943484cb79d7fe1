"""Which tensors of a file are the visual or the text tower, what they are called there, and how they are stored.

Everything in this package is named as in open_clip: the visual tower as in ``model.visual``, ``conv1.weight``,
``transformer.resblocks.0.attn.in_proj_weight``, ``proj`` and so on, the text tower as in ``model``. Files often hold
the whole CLIP, or the same tensors under a wrapper's prefix, or Hugging Face's ``CLIPModel``, ``CLIPVisionModel`` or
``CLIPVisionModelWithProjection``: other names, queries, keys and values apart, the projection transposed. transformers
writes a ``CLIPVisionModel`` with names under ``vision_model.`` before its version 5 and without that prefix since.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from merging.core.errors import CheckpointError
from merging.core.wording import differences

Family = Literal["open_clip", "huggingface", "unknown"]
PROJECTION = "proj"

_WRAPPERS = ("module.", "model.", "image_encoder.", "_orig_mod.")
_OPEN_CLIP = "visual."
_OPEN_CLIP_ANCHOR = "conv1.weight"  # in every visual tower of its kind, and nowhere else
_HUGGINGFACE = "vision_model."
_HUGGINGFACE_ANCHOR = "embeddings.class_embedding"
_HUGGINGFACE_PROJECTION = "visual_projection.weight"
_HUGGINGFACE_BUFFER = "embeddings.position_ids"  # the numbers 0, 1, 2, …; written by old versions
_LAYER = re.compile(r"encoder\.layers\.(\d{1,4})\.")
_BLOCK = re.compile(r"transformer\.resblocks\.(\d{1,4})\.")

_HUGGINGFACE_TEXT = "text_model."
_HUGGINGFACE_TEXT_ANCHOR = "text_model.embeddings.token_embedding.weight"
_HUGGINGFACE_TEXT_PROJECTION = "text_projection.weight"

# open_clip's names → Hugging Face's, of everything that is the same tensor in both
_OUTSIDE_BLOCKS = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    **{f"ln_pre.{kind}": f"pre_layrnorm.{kind}" for kind in ("weight", "bias")},  # spelt like this there
    **{f"ln_post.{kind}": f"post_layernorm.{kind}" for kind in ("weight", "bias")},
}
_OUTSIDE_TEXT_BLOCKS = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    **{f"ln_final.{kind}": f"final_layer_norm.{kind}" for kind in ("weight", "bias")},
}
_IN_A_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@dataclass(frozen=True)
class Origin:
    """The stored tensors that one tensor of the tower is made of.

    Attributes:
        stored: their names in the file, joined along the first axis.
        transposed: whether the tower has the transpose.
    """

    stored: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Layout:
    """How names in a file map to names of the visual tower.

    Attributes:
        title: what the layout is called in reports.
        origins: tower name → what it is made of.
        dropped: names in the file that belong to no visual tower (text tower, logit scale).
        family: whose names these are; ``unknown`` if they are taken as they are and look like no visual tower.
    """

    title: str
    origins: dict[str, Origin]
    dropped: tuple[str, ...]
    family: Family

    @property
    def dropped_in_words(self) -> str:
        """What was left out, tensors with the same beginning counted together.

        >>> recognise(["visual.conv1.weight", "transformer.a", "transformer.b", "logit_scale"]).dropped_in_words
        'left out 3 tensors (logit_scale, transformer.… × 2)'
        """
        prefix = _wrapper(self.dropped)
        groups: dict[str, list[str]] = {}
        for name in self.dropped:
            head, dot, _ = name.removeprefix(prefix).partition(".")
            groups.setdefault(head + dot, []).append(name.removeprefix(prefix))
        words = [names[0] if len(names) == 1 else f"{head}… × {len(names)}" for head, names in groups.items()]
        shown = ", ".join(word if word.isprintable() else repr(word) for word in words[:8])
        more = ", …" if len(words) > 8 else ""
        return f"left out {len(self.dropped)} {'tensor' if len(self.dropped) == 1 else 'tensors'} ({shown}{more})"


def recognise(names: Iterable[str]) -> Layout:
    """Find the visual tower among the tensor names of a file.

    Raises:
        CheckpointError: there are several, or names look like Hugging Face's CLIP but are not exactly those.

    >>> recognise(["module.visual.conv1.weight", "module.logit_scale"]).origins
    {'conv1.weight': Origin(stored=('module.visual.conv1.weight',), transposed=False)}
    """
    stored = sorted(names)
    prefix = _under(stored, _HUGGINGFACE_ANCHOR, _HUGGINGFACE)
    if prefix is not None:
        return _huggingface(stored, prefix)
    prefix = _under(stored, _OPEN_CLIP + _OPEN_CLIP_ANCHOR, "")
    tower = _wrapper(stored) + _OPEN_CLIP if prefix is None else prefix + _OPEN_CLIP
    if any(name.startswith(tower) for name in stored):
        inside = {name.removeprefix(tower): Origin((name,)) for name in stored if name.startswith(tower)}
        dropped = tuple(name for name in stored if not name.startswith(tower))
        return Layout(f"open_clip CLIP under {tower!r}", inside, dropped, "open_clip")
    prefix = _wrapper(stored)
    bare = {name.removeprefix(prefix): Origin((name,)) for name in stored}
    title = f"visual tower under {prefix!r}" if prefix else "visual tower"
    return Layout(title, bare, (), "open_clip" if _OPEN_CLIP_ANCHOR in bare else "unknown")


def recognise_text(names: Iterable[str]) -> Layout:
    """Find the text tower among the tensor names of a file: open_clip's, or that of Hugging Face's ``CLIPModel``.

    Raises:
        CheckpointError: names look like Hugging Face's CLIP but are not exactly those.

    >>> recognise_text(["model.visual.proj", "model.ln_final.bias"]).origins
    {'ln_final.bias': Origin(stored=('model.ln_final.bias',), transposed=False)}
    """
    stored = sorted(names)
    prefix = _under(stored, _HUGGINGFACE_TEXT_ANCHOR, "")
    if prefix is None:
        prefix = _wrapper(stored)
        inside = [name for name in stored if not name.startswith(prefix + _OPEN_CLIP)]
        origins = {name.removeprefix(prefix): Origin((name,)) for name in inside}
        return Layout("open_clip text tower", origins, tuple(sorted({*stored} - {*inside})), "open_clip")
    under = prefix + _HUGGINGFACE_TEXT
    tower = {name.removeprefix(under) for name in stored if name.startswith(under)}
    layers = {match[1] for name in tower if (match := _LAYER.match(name))}
    origins = {
        **_huggingface_origins(layers, under, _OUTSIDE_TEXT_BLOCKS),
        "text_projection": Origin((prefix + _HUGGINGFACE_TEXT_PROJECTION,), transposed=True),
        "logit_scale": Origin((f"{prefix}logit_scale",)),
    }
    dropped = _require_all(stored, origins, under, tower, "text")
    return Layout(f"Hugging Face CLIPModel text tower under {under!r}", origins, dropped, "huggingface")


def huggingface_names(tower: Sequence[str]) -> dict[str, Origin]:
    """How Hugging Face's ``CLIPVisionModelWithProjection`` stores each tensor of a tower.

    Without ``proj`` it is a ``CLIPVisionModel``; both load into either version of transformers.

    Raises:
        CheckpointError: the tower is not one that Hugging Face's classes can hold.
    """
    layers = {match[1] for name in tower if (match := _BLOCK.match(name))}
    origins = _huggingface_origins(layers, _HUGGINGFACE, _OUTSIDE_BLOCKS)
    if PROJECTION in tower:
        origins[PROJECTION] = Origin((_HUGGINGFACE_PROJECTION,), transposed=True)
    odd = sorted(set(tower) ^ origins.keys())
    if odd:
        raise CheckpointError(
            f"this visual tower can't be written in Hugging Face's layout: tensors such as {odd[:2]} are in one of "
            "the two only; write it in open_clip's layout"
        )
    return origins


def _wrapper(stored: Sequence[str]) -> str:
    """The wrappers' prefix that all names share."""
    prefix = ""
    while True:
        found = next((w for w in _WRAPPERS if stored and all(n.startswith(prefix + w) for n in stored)), None)
        if found is None:
            return prefix
        prefix += found


def _under(stored: Sequence[str], anchor: str, optional: str) -> str | None:
    """What stands before the name ``anchor`` and, where it is there, before ``optional`` in front of that.

    Raises:
        CheckpointError: several towers hold such a tensor.
    """
    found = [name.removesuffix(anchor) for name in stored if name == anchor or name.endswith("." + anchor)]
    if len(found) > 1:
        raise CheckpointError(f"holds several visual towers (under {found[:4]}); save the one that is meant")
    return found[0].removesuffix(optional) if found else None


def _huggingface(stored: Sequence[str], prefix: str) -> Layout:
    under = prefix + _HUGGINGFACE if prefix + _HUGGINGFACE + _HUGGINGFACE_ANCHOR in stored else prefix
    inside = {name.removeprefix(under) for name in stored if name.startswith(under)}
    if under == prefix:
        inside.discard(_HUGGINGFACE_PROJECTION)
    projection = prefix + _HUGGINGFACE_PROJECTION if prefix + _HUGGINGFACE_PROJECTION in stored else None
    layers = {match[1] for name in inside if (match := _LAYER.match(name))}
    origins = _huggingface_origins(layers, under, _OUTSIDE_BLOCKS)
    if projection is not None:
        origins[PROJECTION] = Origin((projection,), transposed=True)
    dropped = _require_all(stored, origins, under, inside, "vision")
    whole = any(name.startswith(f"{prefix}text_model.") for name in dropped)
    kind = "CLIPModel" if whole else "CLIPVisionModelWithProjection" if projection else "CLIPVisionModel"
    return Layout(f"Hugging Face {kind}" + (f" under {under!r}" if under else ""), origins, dropped, "huggingface")


def _require_all(
    stored: Sequence[str], origins: Mapping[str, Origin], under: str, inside: Iterable[str], kind: str
) -> tuple[str, ...]:
    """What of a file belongs to no tower, once it is sure that the tower is there with exactly these names."""
    taken = {name for origin in origins.values() for name in origin.stored}
    extra = {under + name for name in inside if name != _HUGGINGFACE_BUFFER} - taken
    wrong = differences({"missing": taken.difference(stored), "unexpected": extra})
    if wrong:
        raise CheckpointError(
            f"begins like Hugging Face's CLIP {kind} model, but has {wrong}; only CLIP's own architecture is read"
        )
    return tuple(name for name in stored if name not in taken)


def _huggingface_origins(layers: Iterable[str], under: str, outside: Mapping[str, str]) -> dict[str, Origin]:
    """Origins of the tensors of a tower with these layers, whose stored names begin with ``under``.

    Args:
        layers: numbers of the layers.
        under: prefix of the stored names.
        outside: names of the tensors outside the layers.
    """
    origins = {name: Origin((under + other,)) for name, other in outside.items()}
    for layer in layers:
        block, other = f"transformer.resblocks.{layer}.", f"{under}encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = tuple(f"{other}self_attn.{part}_proj.{kind}" for part in "qkv")
            origins[f"{block}attn.in_proj_{kind}"] = Origin(parts)
            for name, theirs in _IN_A_BLOCK.items():
                origins[f"{block}{name}.{kind}"] = Origin((f"{other}{theirs}.{kind}",))
    return origins
