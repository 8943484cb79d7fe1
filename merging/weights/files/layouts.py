"""Which tensors of a file are the visual or the text tower, what they are called there, and how they are stored.

Everything in this package is named as in open_clip: the visual tower as in ``model.visual``, ``conv1.weight``,
``transformer.resblocks.0.attn.in_proj_weight``, ``proj`` and so on, the text tower as in ``model``. Files often hold
the whole CLIP, or the same tensors under any prefix, or Hugging Face's ``CLIPModel``, ``CLIPVisionModel`` or
``CLIPVisionModelWithProjection``: other names, queries, keys and values apart, the projection transposed. transformers
writes a ``CLIPVisionModel`` with names under ``vision_model.`` before its version 5 and without that prefix since.

A tower is found by its own tensors, whatever stands before their names. Wrappers around modules (data parallelism,
compiling, activation checkpointing, FSDP) put words of their own anywhere into names; these are taken out first. The
tensors that only a visual tower has are looked for then, and where they stand is the tower's root. A file with several
roots holds several towers: which one is meant has to be said, unless all are the same.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from merging.core.errors import CheckpointError
from merging.core.text import counted, in_a_row, shortened
from merging.core.wording import differences
from merging.weights.files.other_kinds import other_kind, other_text_kind

Family = Literal["open_clip", "huggingface", "unknown"]
PROJECTION = "proj"
_MAX_TOWERS = 20  # in one file that are compared with each other
NO_PREFIX = "."  # what a tower without a prefix is called where one of several is to be named

# What wrappers around modules put into names: data parallelism and averaging, torch.compile, activation checkpointing,
# FSDP, Fabric and DeepSpeed in Lightning
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_forward_module",
}
_HOLDERS = ("model", "image_encoder")  # what holds a tower, or anything else that is not recognised by its names
_FLAT = re.compile(r"(^|\.)_?flat_param(_\d+)?$")  # FSDP's own storage of several tensors in one
_FLATTENED = (
    "holds flat parameters of FSDP, which don't say what is which weight; save it again with a full state dict "
    "(StateDictType.FULL_STATE_DICT)"
)
_OPEN_CLIP = "visual."
_OPEN_CLIP_ANCHOR = "conv1.weight"  # in every visual tower of its kind; in a vision transformer beside one of these:
_OPEN_CLIP_EMBEDDING = "class_embedding"
_OPEN_CLIP_BLOCKS = "transformer.resblocks."
_HUGGINGFACE = "vision_model."
_HUGGINGFACE_ANCHOR = "embeddings.class_embedding"
_HUGGINGFACE_PROJECTION = "visual_projection.weight"
_HUGGINGFACE_BUFFER = "embeddings.position_ids"  # the numbers 0, 1, 2, …; written by old versions
# What may stand beside a tower's tensors and is no part of what the tower computes: counters, scales, heads after it
_BESIDE = re.compile(
    r"(logit_scale|logit_bias|n_averaged|position_ids)$|(\w+_)?(heads?|classifiers?|fc|linear)(\.|$)", re.ASCII
)
_VISUAL = re.compile(r"(^|\.)visual\.")
_LAYER = re.compile(r"encoder\.layers\.(\d{1,4})\.")
_BLOCK = re.compile(r"transformer\.resblocks\.(\d{1,4})\.")

_TEXT_ANCHOR = "token_embedding.weight"
_TEXT_ONLY = (_TEXT_ANCHOR, "ln_final.weight", "text_projection")
_TEXT_PARTS = re.compile(
    r"(token_embedding|transformer|ln_final)\.|(positional_embedding|text_projection|logit_scale|logit_bias)$"
)
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
_BLOCK_PARTS = {"attn.in_proj_weight", "attn.in_proj_bias"} | {
    f"{name}.{kind}" for name in _IN_A_BLOCK for kind in ("weight", "bias")
}
# What open_clip's options add to a block, and to the tower
_BLOCK_OPTIONS = re.compile(
    r"(ln_attn|mlp\.ln|attn\.(ln|q_norm|k_norm|ln_\w+))\.(weight|bias)|ls_[12]\.gamma|attn\.\w+_scale"
)
_TOWER_OPTIONS = re.compile(r"ln_pre\.|attn_pool(_contrastive)?\.|proj$")


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
        root: what stands before the tower's names, without wrappers.
        twins: pairs of stored names that are one name without wrappers; right only if both hold the same numbers.
        copies: what stands before the names of other towers in the file that have the same weights.
    """

    title: str
    origins: dict[str, Origin]
    dropped: tuple[str, ...]
    family: Family
    root: str = ""
    twins: tuple[tuple[str, str], ...] = ()
    copies: tuple[str, ...] = ()

    @property
    def stored(self) -> set[str]:
        """Names in the file of everything that the tower is made of."""
        return {name for origin in self.origins.values() for name in origin.stored}

    def beside(self, name: str) -> str | None:
        """The name in the file of a tensor that is called so in the model that the tower is a part of, if it has one.

        >>> recognise(["module.visual.conv1.weight", "module.logit_scale", "ema.logit_scale"]).beside("logit_scale")
        'module.logit_scale'
        """
        found = {
            _without_wrappers(stored).removesuffix(name): stored
            for stored in self.dropped
            if stored == name or stored.endswith(f".{name}")
        }
        around = [prefix for prefix in found if self.root.startswith(prefix)]
        return found[max(around, key=len)] if around else None

    @property
    def dropped_in_words(self) -> str:
        """What was left out, tensors with the same beginning counted together.

        >>> recognise(["visual.conv1.weight", "transformer.a", "transformer.b", "logit_scale"]).dropped_in_words
        'left out 3 tensors (logit_scale, transformer.… × 2)'
        """
        plain = [_without_wrappers(name) for name in self.dropped]
        prefix = _wrapper(plain)
        groups: dict[str, list[str]] = {}
        for name in plain:
            head, dot, _ = name.removeprefix(prefix).partition(".")
            groups.setdefault(head + dot, []).append(name.removeprefix(prefix))
        words = [names[0] if len(names) == 1 else f"{head}… × {len(names)}" for head, names in groups.items()]
        shown = shortened([word if word.isprintable() else repr(word) for word in words])
        return f"left out {counted(len(self.dropped), 'tensor')} ({shown})"

    @property
    def repeated_in_words(self) -> str:
        """What is in the file more than once, with the same numbers; empty if nothing is."""
        parts = [f"the same weights also under {_called(root)!r}" for root in self.copies]
        if self.twins:
            parts.append(f"{len(self.twins)} {'tensor is' if len(self.twins) == 1 else 'tensors are'} there twice")
        return ", ".join(parts)


class _Names:
    """The names of a file, with and without what wrappers put into them.

    Attributes:
        stored: as they are in the file, sorted.
        plain: name without wrappers → name in the file, the first one where there are several.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.stored = tuple(sorted(names))
        self.plain: dict[str, str] = {}
        self._twins: list[tuple[str, str]] = []
        for name in self.stored:
            first = self.plain.setdefault(_without_wrappers(name), name)
            if first != name:
                self._twins.append((first, name))

    def roots(self, anchor: str) -> list[str]:
        """What stands before a name wherever it occurs, sorted."""
        return sorted(n.removesuffix(anchor) for n in self.plain if n == anchor or n.endswith(f".{anchor}"))

    def under(self, root: str) -> dict[str, str]:
        """Rest of the name → name in the file, of everything under a root."""
        return {name.removeprefix(root): stored for name, stored in self.plain.items() if name.startswith(root)}

    def written(self, root: str, anchor: str) -> str:
        """A root as the file has it in front of this name."""
        stored = self.plain[root + anchor]
        return stored.removesuffix(anchor) if stored.endswith(anchor) else root

    def layout(self, title: str, origins: dict[str, Origin], family: Family, root: str) -> Layout:
        """A layout that leaves out all other names, those aside that are in the file twice."""
        made = Layout(title, origins, (), family, root)
        taken = made.stored
        twins = tuple(pair for pair in self._twins if pair[0] in taken)
        taken |= {other for _, other in twins}
        return replace(made, dropped=tuple(name for name in self.stored if name not in taken), twins=twins)


def recognise(
    names: Iterable[str],
    take: str | None = None,
    own: Mapping[str, str] | None = None,
    same: Callable[[Layout, Layout], bool] = lambda one, other: False,
) -> Layout:
    """Find the visual tower among the tensor names of a file.

    Args:
        names: all of them.
        take: which of several towers is meant: what stands before its names, or words of it that no other one has.
        own: name → name in the file, of what is looked at where nothing is named as in a tower; all names by default.
        same: whether two towers hold the same weights.

    Raises:
        CheckpointError: there are several that differ, none that is to be taken, tensors of both towers that can't be
            told apart, or names that look like Hugging Face's CLIP and are not exactly those.

    >>> recognise(["module.visual.conv1.weight", "module.logit_scale"]).origins
    {'conv1.weight': Origin(stored=('module.visual.conv1.weight',), transposed=False)}
    >>> recognise([f"{one}.net.{name}" for one in ("ema", "last") for name in ("conv1.weight", "class_embedding")],
    ...           take="ema").root
    'ema.net.'
    """
    found = _Names(names)
    towers = _towers(found)
    if not towers and take is None:
        return _no_tower(found, {name: name for name in found.stored} if own is None else own)
    return _only(found, towers, "visual", take, same)


def recognise_text(
    names: Iterable[str],
    take: str | None = None,
    own: Mapping[str, str] | None = None,
    same: Callable[[Layout, Layout], bool] = lambda one, other: False,
) -> Layout:
    """Find the text tower among the tensor names of a file: open_clip's, or that of Hugging Face's ``CLIPModel``.

    Arguments as of :func:`recognise`.

    Raises:
        CheckpointError: names look like Hugging Face's CLIP but are not exactly those, or there are several towers.

    >>> recognise_text(["model.visual.proj", "model.ln_final.bias"]).origins
    {'ln_final.bias': Origin(stored=('model.ln_final.bias',), transposed=False)}
    """
    found = _Names(names)
    towers: dict[str, _Reader] = dict.fromkeys(found.roots(_HUGGINGFACE_TEXT_ANCHOR), _huggingface_text)
    if not towers:
        towers = dict.fromkeys(found.roots(_TEXT_ANCHOR), _open_clip_text)
    if not towers:
        kind = other_text_kind(found.plain)
        if kind:
            raise CheckpointError(
                f"its text tower is {kind}, which is not built here; save a head made of it, [classes, embed_dim], and "
                "name that as `head` of every task"
            )
        own = {name: name for name in found.stored} if own is None else own
        prefix = _wrapper(list(own))
        inside = {name: stored for name, stored in own.items() if not name.startswith(prefix + _OPEN_CLIP)}
        origins = {name.removeprefix(prefix): Origin((stored,)) for name, stored in inside.items()}
        return found.layout("open_clip text tower", origins, "open_clip", prefix)
    return _only(found, towers, "text", take, same)


def huggingface_names(tower: Sequence[str]) -> dict[str, Origin]:
    """How Hugging Face's ``CLIPVisionModelWithProjection`` stores each tensor of a tower.

    Without ``proj`` it is a ``CLIPVisionModel``; both load into either version of transformers.

    Raises:
        CheckpointError: the tower is not one that Hugging Face's classes can hold.
    """
    origins = _huggingface_origins(_up_to_the_last(_BLOCK, tower), _HUGGINGFACE, _OUTSIDE_BLOCKS)
    if PROJECTION in tower:
        origins[PROJECTION] = Origin((_HUGGINGFACE_PROJECTION,), transposed=True)
    odd = sorted(set(tower) ^ origins.keys())
    if odd:
        raise CheckpointError(
            f"this visual tower can't be written in Hugging Face's layout: tensors such as {odd[:2]} are in one of "
            "the two only; write it in open_clip's layout"
        )
    return origins


def defects(shapes: Mapping[str, Sequence[int]]) -> str:
    """What keeps tensors from being open_clip's vision transformer, in words; empty if nothing does.

    It has a block for every number up to the last, all with the same parts and of one width. A projection may be
    missing.

    Args:
        shapes: tensor name → shape.

    >>> defects({"conv1.weight": (8, 3, 4, 4), "transformer.resblocks.1.ln_1.bias": (8,)})
    "27 tensors missing (such as 'class_embedding', 'ln_post.bias')"
    """
    blocks: dict[int, set[str]] = {}
    for name in shapes:
        if match := _BLOCK.match(name):
            blocks.setdefault(int(match[1]), set()).add(name[match.end() :])
    parts = _BLOCK_PARTS.union(
        *({part for part in block if _BLOCK_OPTIONS.fullmatch(part)} for block in blocks.values())
    )
    needed = {name for name in _OUTSIDE_BLOCKS if not name.startswith("ln_pre.")}
    needed |= {name for name in shapes if _TOWER_OPTIONS.match(name)}
    needed |= {f"{_OPEN_CLIP_BLOCKS}{number}.{part}" for number in range(max(blocks, default=0) + 1) for part in parts}
    wrong = differences({"missing": needed - shapes.keys(), "unexpected": shapes.keys() - needed})
    return wrong or _misshapen(shapes)


def _misshapen(shapes: Mapping[str, Sequence[int]]) -> str:
    """Which shapes of a vision transformer don't go together, in words; empty if all do."""
    if len(shapes["conv1.weight"]) != 4:
        return f"'conv1.weight' is {list(shapes['conv1.weight'])}; expected four dimensions"
    width, channels, high, wide = shapes["conv1.weight"]
    if channels != 3 or high != wide:
        return f"'conv1.weight' is {list(shapes['conv1.weight'])}; expected square patches of three channels"
    positions = shapes["positional_embedding"][0] if shapes["positional_embedding"] else 0
    if positions < 2 or math.isqrt(positions - 1) ** 2 != positions - 1:
        return f"'positional_embedding' has {positions} rows; expected a square of patches and one more"
    hidden = (*shapes[f"{_OPEN_CLIP_BLOCKS}0.mlp.c_fc.weight"], -1)[0]
    pooled = any(name.startswith("attn_pool.") for name in shapes)  # which may change the width
    ends: dict[str, tuple[int, ...]] = {
        "class_embedding": (width,),
        "positional_embedding": (-1, width),
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "mlp.c_fc.weight": (hidden, width),
        "mlp.c_fc.bias": (hidden,),
        "mlp.c_proj.weight": (width, hidden),
        **dict.fromkeys(("mlp.c_proj.bias", "attn.out_proj.bias"), (width,)),
        **{f"{norm}.{kind}": (width,) for norm in ("ln_pre", "ln_1", "ln_2") for kind in ("weight", "bias")},
        **({} if pooled else {"ln_post.weight": (width,), "ln_post.bias": (width,), PROJECTION: (width, -1)}),
    }
    for name, shape in shapes.items():
        block = _BLOCK.match(name)
        wanted = ends.get(name[block.end() :] if block else name)
        if wanted is None:
            continue
        if len(wanted) != len(shape) or any(w not in (-1, size) for w, size in zip(wanted, shape, strict=True)):
            return f"{name!r} is {list(shape)}, which does not go with a tower of width {width}"
    return ""


_Reader = Callable[[_Names, str], Layout]


def _towers(found: _Names) -> dict[str, _Reader]:
    """Root → how a tower there is read, of all visual towers.

    Vision transformers are known by tensors that no other model has. Where there is none, what stands under ``visual``
    is taken for a tower of another architecture.

    Raises:
        CheckpointError: weights are stored flat.
    """
    towers: dict[str, _Reader] = dict.fromkeys(found.roots(_HUGGINGFACE_ANCHOR), _huggingface)
    blocks = {name[: name.find(_OPEN_CLIP_BLOCKS)] for name in found.plain if _OPEN_CLIP_BLOCKS in name}
    for root in found.roots(_OPEN_CLIP_ANCHOR):
        if root in blocks or root + _OPEN_CLIP_EMBEDDING in found.plain:
            towers[root] = _open_clip
    if not towers and any(map(_FLAT.search, found.stored)):
        raise CheckpointError(_FLATTENED)
    if not towers:
        inside = [name[: match.end()] for name in found.plain if (match := _VISUAL.search(name))]
        towers = dict.fromkeys(inside, _open_clip)
    return towers


def _open_clip(found: _Names, root: str) -> Layout:
    """The tower under a root; what else a training puts beside its tensors is left out.

    Raises:
        CheckpointError: the text tower's tensors stand there too.
    """
    inside = found.under(root)
    if not root.endswith(_OPEN_CLIP) and any(name in inside for name in _TEXT_ONLY):
        raise CheckpointError(
            f"tensors of a visual and of a text tower stand together under {_called(root)!r}, so that blocks of the "
            "two can't be told apart; save model.visual.state_dict()"
        )
    transformer = any(name.startswith(_OPEN_CLIP_BLOCKS) for name in inside)
    origins = {name: Origin((stored,)) for name, stored in inside.items() if not (transformer and _BESIDE.match(name))}
    first = _OPEN_CLIP_ANCHOR if _OPEN_CLIP_ANCHOR in inside else next(iter(inside))
    written = found.written(root, first)
    kind = "open_clip CLIP" if root.endswith(_OPEN_CLIP) else "visual tower"
    title = f"{kind} under {written!r}" if written else kind
    return found.layout(title, origins, "open_clip", root)


def _no_tower(found: _Names, own: Mapping[str, str]) -> Layout:
    """Tensors under names of their own, without wrappers that all of them share."""
    prefix = _wrapper(list(own))
    origins: dict[str, Origin] = {}
    for name in sorted(own):
        origins.setdefault(_without_wrappers(name.removeprefix(prefix)), Origin((own[name],)))
    title = f"visual tower under {prefix!r}" if prefix else "visual tower"
    family: Family = "open_clip" if _OPEN_CLIP_ANCHOR in origins else "unknown"
    return found.layout(title, origins, family, prefix)


def _open_clip_text(found: _Names, root: str) -> Layout:
    """The text tower under a root: its own parts, and single tensors beside them.

    Raises:
        CheckpointError: the visual tower's tensors stand there too.
    """
    inside = found.under(root)
    if _OPEN_CLIP_ANCHOR in inside:
        raise CheckpointError(
            f"tensors of a visual and of a text tower stand together under {_called(root)!r}, so that blocks of the "
            "two can't be told apart; save the text tower by itself"
        )
    origins = {
        name: Origin((stored,))
        for name, stored in inside.items()
        if _TEXT_PARTS.match(name) or ("." not in name and not _BESIDE.match(name))
    }
    return found.layout("open_clip text tower", origins, "open_clip", root)


def _only(
    found: _Names,
    towers: Mapping[str, _Reader],
    kind: str,
    take: str | None,
    same: Callable[[Layout, Layout], bool],
) -> Layout:
    """The one tower that is meant, or that all are."""
    roots = sorted(towers) if take is None else [_taken(sorted(towers), take)]
    if len(roots) > _MAX_TOWERS:
        raise CheckpointError(_several(kind, roots))
    layout, *others = (towers[root](found, root) for root in roots)
    if not all(same(layout, other) for other in others):
        raise CheckpointError(_several(kind, roots))
    if any(map(_FLAT.search, layout.stored)):
        raise CheckpointError(_FLATTENED)
    copied = set().union(*(other.stored for other in others))
    dropped = tuple(name for name in layout.dropped if name not in copied)
    return replace(layout, dropped=dropped, copies=tuple(other.root for other in others))


def _several(kind: str, roots: Sequence[str]) -> str:
    """What to say of several towers, with a name for each of them."""
    listed = _listed(roots)
    advice = "save the one that is meant by itself"
    if kind == "visual":
        names = [_short_name(root, [other for other in roots if other != root])[:80] for root in roots]
        advice = (
            "say which is meant, with `take: NAME` of a task in suite.yaml or --take NAME of convert and init-suite; "
            f"the names are {in_a_row(names[:_MAX_TOWERS])}"
        )
    return f"holds several {kind} towers with different weights, under {listed}; {advice}"


def _short_name(root: str, others: Sequence[str]) -> str:
    """A word in front of a tower's names that no other one has, as ``take`` reads it; else all that stands there."""
    taken = {word for other in others for word in other.split(".")}
    return next((word for word in root.split(".") if word and word not in taken), _called(root))


def _called(root: str) -> str:
    """What a tower is called by what stands before its names."""
    return root.removesuffix(".") or NO_PREFIX


def _taken(roots: Sequence[str], take: str) -> str:
    """The one root that is called so, or has these words next to each other.

    Raises:
        CheckpointError: there is none, or several.
    """
    exact = [root for root in roots if _called(root) == take]
    matching = exact or [root for root in roots if f".{take}." in f".{root}"]
    if len(matching) == 1:
        return matching[0]
    seen = "several towers" if matching else "no tower"
    raise CheckpointError(f"holds {seen} {take[:80]!r}; its towers: {_listed(roots) or 'none at all'}")


def _listed(roots: Sequence[str]) -> str:
    return shortened([repr(_called(root)[:80]) for root in roots], _MAX_TOWERS)


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _wrapper(stored: Sequence[str]) -> str:
    """The prefix of wrappers, and of what usually holds a model, that all names share."""
    prefix = ""
    while stored:
        first, point, _ = stored[0].removeprefix(prefix).partition(".")
        longer = f"{prefix}{first}."
        if not point or first not in (*_WRAPPERS, *_HOLDERS) or not all(name.startswith(longer) for name in stored):
            break
        prefix = longer
    return prefix


def _huggingface(found: _Names, under: str) -> Layout:
    prefix = under.removesuffix(_HUGGINGFACE) if f".{under}".endswith(f".{_HUGGINGFACE}") else under
    inside = found.under(under)
    if prefix == under:  # a tower without a prefix of its own stands among what the model has besides
        inside = {
            name: stored
            for name, stored in inside.items()
            if name != _HUGGINGFACE_PROJECTION and not _BESIDE.match(name) and not name.startswith("text_")
        }
    origins = _huggingface_origins(_up_to_the_last(_LAYER, inside), under, _OUTSIDE_BLOCKS)
    if prefix + _HUGGINGFACE_PROJECTION in found.plain:
        origins[PROJECTION] = Origin((prefix + _HUGGINGFACE_PROJECTION,), transposed=True)
    text = [name for name in found.plain if name.startswith(f"{prefix}{_HUGGINGFACE_TEXT}")]
    projected = PROJECTION in origins
    kind = "CLIPModel" if text else "CLIPVisionModelWithProjection" if projected else "CLIPVisionModel"
    written = found.written(under, _HUGGINGFACE_ANCHOR)
    other_text = other_text_kind(text)
    title = f"Hugging Face {kind}" + (f" under {written!r}" if written else "")
    if other_text:
        title += f" beside another text tower ({other_text})"
    return found.layout(title, _exactly(found, origins, under, inside, "vision"), "huggingface", under)


def _huggingface_text(found: _Names, prefix: str) -> Layout:
    under = prefix + _HUGGINGFACE_TEXT
    inside = found.under(under)
    origins = {
        **_huggingface_origins(_up_to_the_last(_LAYER, inside), under, _OUTSIDE_TEXT_BLOCKS),
        "text_projection": Origin((prefix + _HUGGINGFACE_TEXT_PROJECTION,), transposed=True),
        "logit_scale": Origin((f"{prefix}logit_scale",)),
    }
    written = found.written(prefix, _HUGGINGFACE_TEXT_ANCHOR) + _HUGGINGFACE_TEXT
    title = f"Hugging Face CLIPModel text tower under {written!r}"
    return found.layout(title, _exactly(found, origins, under, inside, "text"), "huggingface", prefix)


def _exactly(
    found: _Names, origins: Mapping[str, Origin], under: str, inside: Iterable[str], kind: str
) -> dict[str, Origin]:
    """The origins by names in the file, once it is sure that the tower is there with exactly these names.

    Raises:
        CheckpointError: it is not.
    """
    taken = {name for origin in origins.values() for name in origin.stored}
    extra = {under + name for name in inside if name != _HUGGINGFACE_BUFFER} - taken
    wrong = differences({"missing": taken.difference(found.plain), "unexpected": extra})
    if wrong:
        known = other_kind(found.plain) if kind == "vision" else ""
        seen = f"is {known}" if known else f"begins like Hugging Face's CLIP {kind} model, but has {wrong}"
        raise CheckpointError(f"{seen}; only CLIP's own architecture is read")
    return {
        name: replace(origin, stored=tuple(found.plain[part] for part in origin.stored))
        for name, origin in origins.items()
    }


def _up_to_the_last(numbered: re.Pattern[str], names: Iterable[str]) -> range:
    """Numbers of the layers that names speak of, and of those that should stand between them."""
    return range(1 + max((int(match[1]) for name in names if (match := numbered.match(name))), default=-1))


def _huggingface_origins(layers: Iterable[int], under: str, outside: Mapping[str, str]) -> dict[str, Origin]:
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
