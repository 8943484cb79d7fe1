"""What is said of an architecture besides shapes: by files that lie beside weights, and by the names of known models.

``config.json`` of transformers, or of an exported run, ``open_clip_config.json``, and the settings of image processors
are read. A name speaks only where no file does. Whatever two of them say differently is refused, never decided here.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from merging.core.errors import SuiteError
from merging.core.gate import read_json
from merging.core.text import in_a_row
from merging.core.wording import explain
from merging.suites.architecture import ACTIVATIONS, Activation, Tower
from merging.suites.inline import InlineArchitecture, VisionConfig

_LARGEST = 2**20  # of a size
_TRANSFORMERS, OPEN_CLIP = "config.json", "open_clip_config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # the second is transformers', from 5 on
CONFIGURATIONS = (OPEN_CLIP, _TRANSFORMERS, *_PROCESSORS)
_MODEL_TYPES = ("clip", "clip_vision_model")
_OTHER_MODELS = {"siglip": "a SigLIP", "blip": "a BLIP", "dino": "a DINO", "vit": "a ViT without CLIP"}  # by beginning
# Fact → its name in transformers' CLIPVisionConfig, and the value there of one that is not written.
_SIZES = {
    "width": ("hidden_size", 768),
    "layers": ("num_hidden_layers", 12),
    "heads": ("num_attention_heads", 12),
    "patch_size": ("patch_size", 32),
    "image_size": ("image_size", 224),
    "mlp_width": ("intermediate_size", 3072),
}
_HIDDEN_ACT, _PROJECTION_DIM, _EPSILON = "quick_gelu", 512, 1e-5
_EXPORTED = ("embed_dim", "vision_cfg", "quick_gelu")  # in the config.json of an exported run
_NAMED_ALIKE = ("image_size", "layers", "width", "patch_size")  # facts, and in open_clip's vision_cfg
_WITHOUT_EFFECT = ("output_tokens", "patch_dropout")  # on the features of a whole image, once a model is trained
_EXACT = 1e-4  # relative, of numbers that files round
_BICUBIC = 3  # as Pillow counts
_FACTS = {
    "activation": "the activation",
    "heads": "the number of attention heads",
    "width": "the width",
    "layers": "the number of layers",
    "patch_size": "the size of patches",
    "image_size": "the size of images",
    "mlp_width": "the width of the perceptrons",
    "embed_dim": "the number of outputs",
    "mean": "the mean of the image channels",
    "std": "the standard deviation of the image channels",
    "beyond": "vision_cfg",
}
UNSEEN = frozenset(("activation", "heads", "mean", "std", "beyond"))  # what no tensor shows

_LAION = {"ViT-B-32", "ViT-B-32-256", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"}
# Who trained published models, as names have it; the activation; the towers. Of two activations, neither is believed.
_TRAINERS: tuple[tuple[re.Pattern[str], Activation, set[str]], ...] = (
    (
        re.compile(r"openai|clip-vit-(base|large)-patch\d"),
        "quick_gelu",
        {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336"},
    ),
    (
        re.compile(r"metaclip[-_.](\w+[-_.])?(400m|fullcc|2pt5b)"),
        "quick_gelu",
        {"ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-bigG-14"},
    ),
    (re.compile(r"dfn2b(?!.*39b)|dfn5b"), "quick_gelu", {"ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-H-14-378"}),
    (re.compile(r"dfn2b.*39b"), "gelu", {"ViT-L-14"}),
    (re.compile(r"laion400m"), "quick_gelu", {"ViT-B-32"}),
    (re.compile(r"laion400m"), "gelu", {"ViT-B-16", "ViT-B-16-plus-240", "ViT-L-14"}),
    (re.compile(r"laion[-_]?2b|commonpool|datacomp[-_.]"), "gelu", _LAION),
)
_HALF = re.compile(r"laion[-_]?2b[-_]s32b[-_]b82k")  # the one of LAION's that was trained with mean and std ½
_LETTERS = {"base": "b", "large": "l", "huge": "h", "gigantic": "bigg", "giant": "g"}
_OTHER_KINDS = re.compile(r"clipa|siglip|coca|mobileclip|vitamin|convnext|worldwide|altogether|roberta|nllb|mt5")


@dataclass(frozen=True)
class Declared:
    """What one source says.

    Attributes:
        source: who says it, in words.
        facts: name, one of those in ``UNSEEN`` or a field of :class:`~merging.suites.architecture.Tower` → value; the
            activation as ``quick_gelu`` or ``gelu``; ``beyond``: fields of open_clip's ``vision_cfg`` besides sizes.
        defaults: names as in the source that are not written there, so that its writer's default was taken.
        remarks: sentences on what is asked for there and not done here.
        text_cfg: open_clip's description of the text tower.
    """

    source: str
    facts: Mapping[str, Any]
    defaults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    text_cfg: Mapping[str, Any] | None = None

    @property
    def origin(self) -> str:
        """The source, with what it leaves to a default."""
        left = f" (transformers' default, as {in_a_row(self.defaults)} is not written there)" if self.defaults else ""
        return self.source + left

    def only(self, names: Iterable[str]) -> "Declared":
        """The same source asked for some facts alone."""
        chosen = {name: value for name, value in self.facts.items() if name in names}
        return Declared(self.source, chosen, self.defaults, self.remarks, self.text_cfg)


@dataclass(frozen=True)
class Agreed:
    """What several sources say together.

    Attributes:
        facts: as in :class:`Declared`.
        origins: fact → the first source that says it.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)


def agreed(sources: Sequence[Declared]) -> Agreed:
    """Put together what sources say.

    Raises:
        SuiteError: two of them say different things; the message has both.
    """
    found = Agreed()
    for source in sources:
        for name, value in source.facts.items():
            known = found.facts.setdefault(name, value)
            origin = found.origins.setdefault(name, source.origin)
            if not _same(known, value):
                raise SuiteError(
                    f"{_FACTS[name]} is {fact_in_words(known)} by {origin} and "
                    f"{fact_in_words(value)} by {source.origin}; correct the one that is wrong, or take its file away"
                )
    return found


def fact_in_words(value: Any) -> str:
    """A fact for people."""
    if isinstance(value, str):
        return ACTIVATIONS.get(value, value)  # type: ignore[call-overload, no-any-return]
    if isinstance(value, tuple):
        return ", ".join(f"{number:.4g}" for number in value)
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def beyond_in_words(beyond: Mapping[str, Any]) -> list[str]:
    """What a tower has besides sizes, activation and heads: the epsilon of layer norms first, which every one has.

    >>> beyond_in_words({}), beyond_in_words({"norm_kwargs": {"eps": 1e-6}, "no_ln_pre": True})
    (['layer norms with epsilon 1e-05'], ['layer norms with epsilon 1e-06', 'no_ln_pre true'])
    """
    norm = dict(beyond.get("norm_kwargs") or {})
    epsilon = norm.pop("eps", _EPSILON)
    rest = {**({"norm_kwargs": norm} if norm else {}), **{k: v for k, v in beyond.items() if k != "norm_kwargs"}}
    return [f"layer norms with epsilon {epsilon}", *(f"{name} {json.dumps(value)}" for name, value in rest.items())]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(math.isclose(a, b, rel_tol=_EXACT) for a, b in zip(one, other, strict=True))
    return bool(one == other)


# --- files -----------------------------------------------------------------------------------------------------------


def beside(weights: Path, whose: str) -> list[Declared]:
    """What files beside a weight file say of it.

    Args:
        weights: the file, or the folder of a model.
        whose: what to call it in messages.

    Raises:
        SuiteError: a file can't be read, or is of a model that is no CLIP vision transformer.
    """
    found = []
    for name in CONFIGURATIONS:
        source = f"{name} beside {whose}"
        content = _json((weights if weights.is_dir() else weights.parent) / name, source)
        declared = None if content is None else _READERS[name](content, source)
        if declared is not None:
            found.append(declared)
    return found


def _json(path: Path, source: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content = read_json(path, SuiteError)
    except SuiteError as error:
        raise SuiteError(f"{source}: {str(error).removeprefix(f'{path.name}: ')}; mend it or take it away") from None
    if not isinstance(content, dict):
        raise SuiteError(f"{source}: holds no names with values; mend it or take it away")
    return content


def _config(content: dict[str, Any], source: str) -> Declared | None:
    """A ``config.json``: of transformers, of an exported run, or of something else, which says nothing."""
    if isinstance(content.get("vision_cfg"), dict) and "embed_dim" in content:
        return _of_configuration({name: content.get(name) for name in _EXPORTED}, content, source)
    kind = content.get("model_type")
    if kind is None or not {"architectures", "transformers_version", "vision_config", "hidden_act"} & content.keys():
        return None
    if kind not in _MODEL_TYPES:
        known = next((f", {what}" for name, what in _OTHER_MODELS.items() if str(kind).startswith(name)), "")
        raise SuiteError(
            f"{source}: model_type is {str(kind)[:60]!r}{known}; expected {' or '.join(map(repr, _MODEL_TYPES))}: only "
            "the vision transformers of CLIP are merged"
        )
    vision = _vision(content) if kind == "clip" else content
    facts: dict[str, Any] = {name: _size(vision, *_SIZES[name], source) for name in _SIZES}
    if vision.get("num_channels", 3) != 3:
        raise SuiteError(f"{source}: num_channels is {vision['num_channels']!r}; images here have three")
    if facts["width"] % facts["heads"]:
        raise SuiteError(f"{source}: hidden_size {facts['width']} is no multiple of {facts['heads']} attention heads")
    facts["activation"] = _activation(vision.get("hidden_act", _HIDDEN_ACT), source)
    if kind == "clip":
        facts["embed_dim"] = _size(content, "projection_dim", _PROJECTION_DIM, source)
    epsilon = vision.get("layer_norm_eps", _EPSILON)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise SuiteError(f"{source}: layer_norm_eps is {epsilon!r}; expected a small number")
    facts["beyond"] = {} if epsilon == _EPSILON else {"norm_kwargs": {"eps": epsilon}}
    unsaid = [name for name in ("hidden_act", "num_attention_heads") if name not in vision]
    return Declared(source, facts, tuple(unsaid))


def _vision(content: dict[str, Any]) -> dict[str, Any]:
    """The settings of a whole CLIP's vision tower; transformers lets ``vision_config_dict`` of old files prevail."""
    old, new = content.get("vision_config_dict"), content.get("vision_config")
    chosen = new if old is None else old
    return chosen if isinstance(chosen, dict) else {}


def _size(content: Mapping[str, Any], name: str, default: int, source: str) -> int:
    value = content.get(name, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
        raise SuiteError(f"{source}: {name} is {repr(value)[:40]}; expected a whole number above 0, the same both ways")
    return value


def _activation(name: object, source: str) -> Activation:
    for known in ACTIVATIONS:
        if name == known:
            return known
    raise SuiteError(
        f"{source}: hidden_act is {str(name)[:40]!r}; expected {' or '.join(map(repr, ACTIVATIONS))}: open_clip's "
        "towers have no other"
    )


def _open_clip(content: dict[str, Any], source: str) -> Declared:
    model, images = content.get("model_cfg"), content.get("preprocess_cfg", {})
    if not isinstance(model, dict) or not isinstance(images, dict):
        raise SuiteError(f"{source}: expected mappings `model_cfg` and `preprocess_cfg`")
    return _of_configuration(model, images, source)


def unseen(found: InlineArchitecture) -> dict[str, Any]:
    """The facts on a vision transformer that no tensor shows, but for those on images."""
    usual, vision = VisionConfig(), found.vision_cfg
    known = {*_NAMED_ALIKE, "head_width", "mlp_ratio", *_WITHOUT_EFFECT}
    given = {name: value for name, value in vision.model_dump(exclude_unset=True).items() if name not in known}
    return {
        "activation": "quick_gelu" if found.quick_gelu else "gelu",
        "heads": vision.width // vision.head_width,
        "beyond": {name: value for name, value in given.items() if value != getattr(usual, name)},
    }


def _of_configuration(model: Mapping[str, Any], images: Mapping[str, Any], source: str) -> Declared:
    """What open_clip's configuration of a model says, and that of its images.

    Raises:
        SuiteError: it is none, or not that of a CLIP vision transformer.
    """
    try:
        found = InlineArchitecture.model_validate({name: value for name, value in model.items() if value is not None})
    except ValidationError as error:
        raise SuiteError(f"{source}: {explain(error)}") from None
    vision, reason = found.vision_cfg, found.contradiction()
    if not vision.is_vision_transformer:
        kind = "a ResNet" if vision.timm_model_name is None else f"timm's {vision.timm_model_name[:60]}"
        raise SuiteError(f"{source}: the visual tower is {kind}; only the vision transformers of CLIP are merged")
    if not isinstance(vision.image_size, int) or reason:
        raise SuiteError(f"{source}: {reason or 'images that are not square'}; no such tower can be built")
    facts = {
        **{name: getattr(vision, name) for name in _NAMED_ALIKE},
        "mlp_width": int(vision.width * vision.mlp_ratio),
        "embed_dim": found.embed_dim,
        **unseen(found),
        **_mean_and_std(images.get("mean"), images.get("std"), source),
    }
    asked = {"interpolation": "bicubic", "resize_mode": "shortest"}
    remarks = [
        _not_done(source, name, images[name], done)
        for name, done in asked.items()
        if images.get(name, done) != done  # no file needs to say what is usual
    ]
    text = model.get("text_cfg")
    plain = isinstance(text, dict) and found.text_cfg.hf_model_name is None and not model.get("custom_text")
    return Declared(source, facts, remarks=tuple(remarks), text_cfg=text if plain else None)


def _processor(content: dict[str, Any], source: str) -> Declared | None:
    """Mean and standard deviation, as transformers' image processors write them."""
    images = content.get("image_processor", content)
    if not isinstance(images, dict) or not ({"image_mean", "image_std"} & images.keys()):
        return None
    if images.get("do_normalize") is False:
        return Declared(source, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)})
    resample = images.get("resample", _BICUBIC)
    remarks = () if resample == _BICUBIC else (_not_done(source, "resample", resample, f"{_BICUBIC}, bicubic"),)
    return Declared(source, _mean_and_std(images.get("image_mean"), images.get("image_std"), source), (), remarks)


def _not_done(source: str, name: str, seen: object, done: object) -> str:
    return f"{source}: {name} is {str(seen)[:40]}, images are prepared here with {done}; accuracies may be lower"


def _mean_and_std(mean: object, std: object, source: str) -> dict[str, tuple[float, ...]]:
    facts: dict[str, tuple[float, ...]] = {}
    for name, given in (("mean", mean), ("std", std)):
        if given is None:
            continue
        numbers = given if isinstance(given, list) else []
        if len(numbers) != 3 or not all(type(one) in (int, float) and abs(one) < _LARGEST for one in numbers):
            raise SuiteError(f"{source}: the {name} of images is {str(given)[:60]}; expected three numbers")
        facts[name] = tuple(map(float, numbers))
    if min(facts.get("std", (1.0,))) <= 0:
        raise SuiteError(f"{source}: the std of images is {fact_in_words(facts['std'])}; expected numbers above 0")
    return facts


_READERS = {OPEN_CLIP: _open_clip, _TRANSFORMERS: _config, **dict.fromkeys(_PROCESSORS, _processor)}


# --- names -----------------------------------------------------------------------------------------------------------


def by_name(path: str, tower: Tower) -> Declared | None:
    """What the name of a file, of its folders or of its repository says, for a tower of a published model's sizes.

    A name that speaks of another size, or of two trainers, says nothing.

    >>> from merging.suites.architecture import NAMED
    >>> by_name("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", NAMED["ViT-H-14"]).facts
    {'activation': 'gelu'}
    """
    name = path.lower()
    found = {activation for pattern, activation, sizes in _TRAINERS if tower.name in sizes and pattern.search(name)}
    if tower.name is None or len(found) != 1 or _OTHER_KINDS.search(name) or not _may_be(name, tower.name):
        return None
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if _HALF.search(name) else {}
    return Declared(f"the name {path}, that of a known model", {"activation": found.pop(), **half})


def _may_be(name: str, tower: str) -> bool:
    """Whether no other size than a tower's is part of a name."""
    family, patch = re.findall(r"(\w+)-(\d+)", tower.lower().removeprefix("vit-"))[0]
    sizes = [(_LETTERS[word], number) for word, number in re.findall(rf"({'|'.join(_LETTERS)})[-_]patch(\d+)", name)]
    sizes += re.findall(r"(?<![a-z])(bigg|[bslhg])[-_/]?(14|16|32)(?![\da-z])", name)
    return all(size == (family, patch) for size in sizes)
