"""PEFT adapters as fine-tuned models: LoRA, rsLoRA, DoRA and linearised LoRA, folded into the base of their training.

A folder that PEFT writes holds ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``.bin``): for every
adapted layer two factors ``lora_A`` ``[r, in]`` and ``lora_B`` ``[out, r]``, and what else was trained: biases, and
whole modules (``modules_to_save``). The layer's weight is W₀ + s·B·A with s = α/r, or α/√r in rsLoRA (arXiv 2106.09685,
2312.03732); in DoRA every row of that is scaled to the norm that ``lora_magnitude_vector`` says (2402.09353). A folder
of linearised LoRA (2310.04742) has ``linearized_adapter_model.safetensors`` with the trained factors and the initial
ones A₀ and B₀; its layer is linear in the input, so that it, too, is a weight: W₀ + s·[(B − B₀)·A₀ + B₀·A].

Folding is done in float64 and rounded once to the base's dtype, tensor by tensor as they are asked for.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from merging.core.errors import CheckpointError, MergingError, MismatchedCheckpoint
from merging.core.files import ADAPTER_FILES
from merging.core.gate import read_json
from merging.core.wording import differences, explain
from merging.weights.files.adapter_bases import CONFIG, called, require_same_base
from merging.weights.files.layouts import Layout, Origin, huggingface_names
from merging.weights.files.reading import Checkpoint, TensorInfo, open_checkpoint, require_content
from merging.weights.files.torch_files import Unread

LINEARISED = "linearized_adapter_model.safetensors"
FILES = ADAPTER_FILES
_MAX_PATTERN = 200  # letters of a key of rank_pattern or alpha_pattern
_MAX_NAME = 300  # letters of a tensor's name

# Fields of the configuration that change nothing in the trained weights.
_HARMLESS = {
    "auto_mapping", "corda_config", "enable_lora", "ensure_weight_tying", "eva_config", "inference_mode",
    "layers_pattern", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "merge_weights",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")  # others change the base's weights before training
_FACTORS = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "A",
    "lora_embedding_B": "B",
    "lora_magnitude_vector": "m",
}
_TEXT = re.compile(r"text_model\.|text_projection|token_embedding\.|ln_final\.|logit_scale$|logit_bias$|text\.")
_TEXT_CLASS = re.compile(r"Text")
_BLOCKS = "transformer.resblocks."
_WRAPPERS = ("module.", "model.", "_orig_mod.", "image_encoder.", "clip_model.", "clip.", "backbone.")
_BEFORE = "original_module"  # what a module of modules_to_save was before training
_BUFFER = "embeddings.position_ids"  # the numbers 0, 1, 2, …
_MERGE_IT = (
    "merge it with PEFT, model.merge_and_unload().save_pretrained(FOLDER), and name that folder as the checkpoint"
)
_NOT_ITS = f"{CONFIG} is of another adapter, or the file incomplete; save the adapter again"
_NO_WEIGHTS = re.compile(
    r"PROMPT|P_TUNING|PREFIX|CPT|POLY"
)  # kinds that add inputs or layers, which no weight can hold


def adapter_in(folder: Path) -> Path | None:
    """The weight file of an adapter that lies in a folder, the safe kind first; None if there is none."""
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def require_one_adapter(folder: Path) -> None:
    """Insist that a folder holds an adapter or a linearised one, not both.

    Raises:
        CheckpointError: it holds both.
    """
    plain = adapter_in(folder)
    if plain is not None and plain.name != LINEARISED and (folder / LINEARISED).is_file():
        raise CheckpointError(f"{folder.name}: holds both {plain.name} and {LINEARISED}; name the file that is meant")


def is_adapter(path: Path) -> bool:
    """Whether a weight file is called as PEFT calls that of an adapter."""
    return path.name in FILES


def files_of(path: Path) -> list[Path]:
    """The files that a model is read from, given that of its weights."""
    return [path, path.with_name(CONFIG)] if is_adapter(path) else [path]


def open_on(base: Checkpoint, path: Path, promised: str | None = None, take: str | None = None) -> Checkpoint:
    """A fine-tuned model on its base: an adapter folded into that, or whole weights.

    Args:
        base: the model that it was fine-tuned from.
        path: its weight file.
        promised: the SHA-256 that the file must have.
        take: which of several towers in a file of whole weights is meant.

    Raises:
        CheckpointError: as :func:`merging.weights.files.open_checkpoint`; or the adapter is of a kind that is not
            folded, contradicts itself, or was trained on another base.
    """
    if is_adapter(path):
        return AdaptedCheckpoint.opened(base, path, promised)
    return open_checkpoint(path, promised=promised, take=take).completed(base)


class AdapterConfig(BaseModel):
    """What ``adapter_config.json`` says of the trained weights; a value of null is the default.

    Attributes:
        peft_type: the kind of adapter.
        r: rank of the factors, where ``rank_pattern`` has no other.
        lora_alpha: α, where ``alpha_pattern`` has no other.
        use_rslora: whether s = α/√r.
        use_dora: whether rows have norms of their own.
        lora_bias: whether ``lora_B`` has a bias.
        bias: which of the base's biases were trained.
        rank_pattern: expression on a layer's name → rank.
        alpha_pattern: expression on a layer's name → α.
        target_modules: names of adapted layers, or one expression.
        modules_to_save: names of modules that were trained as a whole.
        base_model_name_or_path: what the base was called where the adapter was trained.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: str = "LORA"
    r: int = Field(8, ge=1, le=2**16)
    lora_alpha: float = Field(8, gt=0, allow_inf_nan=False)
    use_rslora: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    fan_in_fan_out: bool = False  # PEFT leaves it out of account for the layers that CLIP is made of
    bias: Literal["none", "all", "lora_only"] = "none"
    rank_pattern: dict[str, int] = Field(default_factory=dict, max_length=10_000)
    alpha_pattern: dict[str, float] = Field(default_factory=dict, max_length=10_000)
    target_modules: tuple[str, ...] | str = ()
    exclude_modules: tuple[str, ...] | str = ()
    layers_to_transform: tuple[int, ...] | int | None = None
    modules_to_save: tuple[str, ...] = ()
    init_lora_weights: bool | str = True
    base_model_name_or_path: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _bounded(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Expressions that take no time to try: a pattern from a file must not hang a program."""
        for key in value:
            if len(key) > _MAX_PATTERN or len(re.findall(r"[*+]", key)) > 2 or re.search(r"[){][*+?{]|\{", key):
                raise ValueError(f"the expression {key[:60]!r} is longer or more nested than is tried")
            try:
                re.compile(key)
            except re.error:
                raise ValueError(f"{key[:60]!r} is no regular expression") from None
        return value

    def refusal(self) -> str:
        """Why the adapter can't be folded, by its configuration; empty if it can."""
        if self.peft_type.upper() != "LORA":
            added = "this kind adds to the model what its weights can't hold, so that such models are not merged"
            advice = added if _NO_WEIGHTS.search(self.peft_type.upper()) else _MERGE_IT
            return f"a PEFT adapter of type {self.peft_type[:40]!r}; only LORA (rsLoRA, DoRA) is folded here; {advice}"
        if self.init_lora_weights not in _PLAIN_STARTS:
            return (
                f"init_lora_weights is {str(self.init_lora_weights)[:40]!r}, which changes the base's weights before "
                f"training; convert it with PEFT (path_initial_model_for_weight_conversion), or {_MERGE_IT}"
            )
        if self.use_dora and self.lora_bias:
            return f"use_dora and lora_bias at once are not folded; {_MERGE_IT}"
        unknown = [name for name, value in (self.model_extra or {}).items() if value and name not in _HARMLESS]
        if unknown:
            name = sorted(unknown)[0]
            return f"{CONFIG} sets {name[:60]!r}, of which nothing is known here; {_MERGE_IT}"
        return ""

    def rank(self, layer: str) -> int:
        """The rank of one layer by its name in the trained model."""
        return int(_by_pattern(self.rank_pattern, layer, self.r))

    def scale(self, layer: str, rank: int) -> float:
        """s, the factor before B·A."""
        alpha = float(_by_pattern(self.alpha_pattern, layer, self.lora_alpha))
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _by_pattern(patterns: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
    """The value of the first expression that fits the end of a layer's name, from a dot on."""
    found = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", layer))
    return next(found, otherwise)


def read_config(path: Path) -> AdapterConfig:
    """The configuration that lies beside an adapter's weight file.

    Raises:
        CheckpointError: there is none, it can't be read, or it is of an adapter that can't be folded.
    """
    file = path.with_name(CONFIG)
    if not file.exists():
        raise CheckpointError(f"{path.name}: an adapter without its {CONFIG}, which says how it is scaled; add it")
    try:
        config = AdapterConfig.model_validate(read_json(file, CheckpointError))
    except ValidationError as error:
        raise CheckpointError(f"{CONFIG}: {explain(error)}") from None
    reason = config.refusal()
    if reason:
        raise CheckpointError(f"{_named(path)}: {reason}")
    return config


def _named(path: Path) -> str:
    """File and folder, as all adapters' files are called alike."""
    return f"{path.parent.name}/{path.name}"


@dataclass(frozen=True)
class Place:
    """Where a tensor under another layout's name lies in the tower.

    Attributes:
        name: the tower's tensor.
        part: which of ``parts`` equal blocks of its rows.
        parts: into how many the other layout parts it.
        transposed: whether the tower has the transpose.
    """

    name: str
    part: int = 0
    parts: int = 1
    transposed: bool = False

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """A view of the tower's tensor as the other layout has it."""
        view = weight.chunk(self.parts)[self.part] if self.parts > 1 else weight
        return view.T if self.transposed else view

    def shape(self, info: TensorInfo) -> tuple[int, ...]:
        """The shape of that view."""
        rows = (info.shape[0] // self.parts, *info.shape[1:]) if self.parts > 1 else info.shape
        return rows[::-1] if self.transposed else rows


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor, or a block of its rows; names are those of stored tensors.

    Attributes:
        place: where.
        whole: the tensor that replaces it, if it was trained as a whole.
        a, b: the factors.
        a0, b0: their initial values, where the adapter is linearised.
        magnitude: norms of the rows in DoRA.
        shift: a bias of ``lora_B``, added to the layer's.
        scale: s.
        embedding: whether the weight of the layer is the transpose of what the factors make.
    """

    place: Place
    whole: str | None = None
    a: str = ""
    b: str = ""
    a0: str | None = None
    b0: str | None = None
    magnitude: str | None = None
    shift: str | None = None
    scale: float = 1.0
    embedding: bool = False

    def apply(self, weight: torch.Tensor, stored: Callable[[str], torch.Tensor]) -> None:
        """Change the tower's tensor, float64, in its place."""
        view = self.place.of(weight)
        if self.whole is not None:
            view.copy_(stored(self.whole))
            return
        if self.shift is not None:
            view.add_(stored(self.shift), alpha=self.scale)
            return
        changed = view.reshape(len(view), -1) + (self._delta(stored).T if self.embedding else self._delta(stored))
        if self.magnitude is not None:
            changed *= (stored(self.magnitude).reshape(-1) / torch.linalg.vector_norm(changed, dim=1))[:, None]
        view.copy_(changed.reshape(view.shape))

    def _delta(self, stored: Callable[[str], torch.Tensor]) -> torch.Tensor:
        a, b = stored(self.a).flatten(1), stored(self.b).flatten(1)
        if self.a0 is None or self.b0 is None:
            return self.scale * (b @ a)
        a0, b0 = stored(self.a0), stored(self.b0)
        return self.scale * ((b - b0) @ a0 + b0 @ a)


class _Folded:
    """A source of the tower's tensors: those of the base with the adapter's changes."""

    def __init__(self, base: Checkpoint, adapter: Checkpoint, changes: Sequence[Change]) -> None:
        self._base = base
        self._adapter = adapter
        self._changes: dict[str, list[Change]] = {}
        for change in changes:
            self._changes.setdefault(change.place.name, []).append(change)

    def infos(self) -> dict[str, TensorInfo]:
        return self._base.infos

    def own(self) -> dict[str, str]:
        return {name: name for name in self._base.infos}

    def unread(self) -> Unread:
        return Unread()

    def tensor(self, name: str) -> torch.Tensor:
        weight = self._base[name]
        if name not in self._changes:
            return weight
        folded = weight.to(torch.float64, copy=True)
        for change in self._changes[name]:
            change.apply(folded, self._stored)
        return folded.to(weight.dtype)

    def _stored(self, name: str) -> torch.Tensor:
        return self._adapter[name].to(torch.float64)


class AdaptedCheckpoint(Checkpoint):
    """A base with an adapter folded in; opened by :func:`open_on`.

    Attributes:
        base: what it was trained on.
        trained_on: what its configuration calls that, where nothing shows whether it is this base; else empty.
    """

    base: Checkpoint
    trained_on: str = ""

    @classmethod
    def opened(cls, base: Checkpoint, path: Path, promised: str | None = None) -> "AdaptedCheckpoint":
        """Read an adapter's names and shapes; arguments and errors as :func:`open_on`."""
        require_content(path)
        config = read_config(path)
        adapter = open_checkpoint(path, part="all")
        try:
            unseen = require_same_base(config.base_model_name_or_path, base, path.parent)
            reader = _Reader(base, adapter, config, linearised=path.name == LINEARISED)
            changes = reader.changes()
        except MergingError as error:
            raise type(error)(f"{_named(path)}: {error}") from None
        layout = Layout(
            f"{reader.title} folded into {base.path.name}",
            {name: Origin((name,)) for name in base.infos},
            tuple(reader.text),
            "open_clip",
        )
        source, files = _Folded(base, adapter, changes), tuple(files_of(path))
        made = cls(path, layout, dict(base.infos), source, promised=promised, files=files)
        made.base = base
        made.trained_on = unseen
        return made

    def fingerprint_by(self, of_file: Callable[[Path], str]) -> str:
        """SHA-256 of the fingerprints of the adapter's weights with its configuration, and of the base."""
        parts = [super().fingerprint_by(of_file), self.base.fingerprint_by(of_file)]
        return hashlib.sha256("\n".join(["adapter", *parts]).encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether the base can be another, and whether the text tower was adapted too."""
        name, said = self.path.parent.name, []
        if self.trained_on:
            said.append(
                f"the adapter {name} was trained on {self.trained_on!r}, by its {CONFIG}, and nothing shows whether "
                f"that is the base here, {called(self.base.path)}: taken to be the same weights"
            )
        if self.layout.dropped:
            said.append(
                f"the adapter {name} changes the text tower too; only the visual tower is taken, so that a head made "
                "by the base's text tower is not the one that it was trained with"
            )
        return tuple(said)


class _Reader:
    """Finds out what the tensors of an adapter change.

    Attributes:
        text: names of tensors that belong to the text tower.
        title: what the adapter is, in words.
    """

    def __init__(self, base: Checkpoint, adapter: Checkpoint, config: AdapterConfig, linearised: bool) -> None:
        self._base = base
        self._adapter = adapter
        self._infos = adapter.infos
        self._config = config
        self._linearised = linearised
        self._places = _places(tuple(base.infos))
        self.text: list[str] = []
        self.title = ""

    def changes(self) -> list[Change]:
        """Everything that is to be done to the base; raises as :func:`open_on`."""
        layers, wholes = self._sorted()
        if not layers and not wholes:
            what = f"only the text tower is adapted ({self.text[0]!r})" if self.text else "it holds no tensors"
            raise CheckpointError(f"{what}; expected an adapter of the visual tower")
        found = [self._replaced(name, stored) for name, stored in wholes.items()]
        ranks = set()
        for layer, parts in layers.items():
            ranks.add(self._infos[parts["A"]].shape[0] if "A" in parts and self._infos[parts["A"]].shape else 0)
            found += self._adapted(layer, parts)
        self._require_complete(layers, wholes)
        self.title = self._in_words(len(layers), ranks, len(wholes))
        return found

    def _in_words(self, layers: int, ranks: set[int], wholes: int) -> str:
        kind = "DoRA" if self._config.use_dora else "rsLoRA" if self._config.use_rslora else "LoRA"
        rank = f"rank {min(ranks)}" if len(ranks) == 1 else f"ranks {min(ranks, default=0)} to {max(ranks, default=0)}"
        whole = f" and {wholes} whole tensors" if wholes else ""
        return f"{'linearised ' * self._linearised}{kind} adapter of {rank} on {layers} layers{whole}"

    # --- names -------------------------------------------------------------------------------------------------------

    def _sorted(self) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Layer → its parts with their stored names, and tensors trained as a whole → their stored names.

        Layers and tensors are called as in the model that was trained, without PEFT's own prefix.
        """
        layers: dict[str, dict[str, str]] = {}
        wholes: dict[str, str] = {}
        adapters = set()
        whole_clip = str(self._auto("base_model_class")) == "CLIP" or any(
            _unwrapped(name).startswith("visual.") for name in self._infos
        )
        for stored in self._infos:
            if len(stored) > _MAX_NAME:
                raise CheckpointError(f"a tensor's name is {len(stored)} letters long; expected those that PEFT writes")
            layer, part, adapter = self._split(stored)
            plain = _unwrapped(layer)
            if _TEXT.match(plain) or (whole_clip and plain.startswith(_BLOCKS)):
                self.text.append(plain)
            elif part:
                known = layers.setdefault(layer, {})
                if part in known:
                    raise CheckpointError(f"{stored!r} and {known[part]!r} are the same; expected one adapter")
                known[part] = stored
                adapters.add(adapter)
            elif layer in wholes:
                self._require_equal(stored, wholes[layer])
            elif not layer.endswith(_BUFFER) and _BEFORE not in stored.split("."):
                wholes[layer] = stored
        if _TEXT_CLASS.search(str(self._auto("base_model_class"))):
            named = str(self._auto("base_model_class"))[:60]
            raise CheckpointError(f"an adapter of {named}, a text tower; expected one of the visual tower")
        if len(adapters) > 1:
            raise CheckpointError(f"holds several adapters ({', '.join(sorted(adapters))[:100]}); save the one meant")
        return layers, wholes

    def _require_equal(self, one: str, other: str) -> None:
        """With ``bias: all`` PEFT writes the biases of ``modules_to_save`` under two names."""
        if not torch.equal(self._adapter[one], self._adapter[other]):
            raise CheckpointError(
                f"{one!r} and {other!r} are the same tensor with different numbers; expected one adapter; save it again"
            )

    def _auto(self, field: str) -> Any:
        mapping = (self._config.model_extra or {}).get("auto_mapping")
        return mapping.get(field, "") if isinstance(mapping, dict) else ""

    def _split(self, stored: str) -> tuple[str, str, str]:
        """Layer, part, and name of the adapter of a stored tensor; of one that was trained as a whole no part."""
        steps = stored.removeprefix("base_model.model.").split(".")
        at = next((i for i, step in enumerate(steps) if step in _FACTORS or step == "params0_values"), None)
        if at is None:
            if any(re.match(r"lora_|hada_|lokr_|ia3_|oft_|vera_|boft_", step) for step in steps):
                raise CheckpointError(f"tensor {stored!r} is of no LoRA adapter that can be folded; {_MERGE_IT}")
            return self._whole_name(steps), "", ""
        layer, step, rest = steps[:at], steps[at], steps[at + 1 :]
        if step == "params0_values" or (self._linearised and layer[-1:] == ["model"]):
            if not self._linearised:
                raise CheckpointError(f"tensor {stored!r} is of a linearised adapter; call the file {LINEARISED}")
            if step == "params0_values":
                if len(rest) != 1 or not re.fullmatch(r"\d{1,3}", rest[0]):
                    raise CheckpointError(f"tensor {stored!r}: expected a number after params0_values")
                return ".".join(layer), f"initial {int(rest[0]):03d}", "default"
            layer = layer[:-1]
        kind = rest.pop() if rest and rest[-1] in ("weight", "bias") else "weight"
        if len(rest) > 1 or (kind == "bias" and step != "lora_B"):
            raise CheckpointError(f"tensor {stored!r} is of no LoRA adapter that can be folded; {_MERGE_IT}")
        part = _FACTORS[step] if kind == "weight" else "shift"
        if step.startswith("lora_embedding"):
            part += " of an embedding"
        return ".".join(layer), part, rest[0] if rest else "default"

    @staticmethod
    def _whole_name(steps: list[str]) -> str:
        """The name of a tensor without the modules that PEFT puts around it."""
        if "modules_to_save" in steps[:-1]:
            at = steps.index("modules_to_save")
            rest = steps[at + 1 :]
            steps = steps[:at] + (rest[1:] if rest[0] == "default" else rest)
        return ".".join(step for step in steps if step != "base_layer")

    def _place(self, name: str, stored: str) -> Place:
        plain = _unwrapped(name)
        for prefix in ("vision_model.", "visual."):
            plain = plain.removeprefix(prefix)
        place = self._places.get(plain)
        if place is None:
            raise MismatchedCheckpoint(
                f"tensor {stored!r} belongs to a layer that the base lacks; expected layers of the visual tower, named "
                "as in Hugging Face's CLIPVisionModel or open_clip; a classifier of its own, too, has no place in it: "
                "merge the adapter with PEFT (merge_and_unload), save the visual tower alone, and name that"
            )
        return place

    # --- one layer ---------------------------------------------------------------------------------------------------

    def _replaced(self, name: str, stored: str) -> Change:
        place = self._place(name, stored)
        expected = place.shape(self._base.infos[place.name])
        if self._infos[stored].shape != expected:
            raise MismatchedCheckpoint(
                f"tensor {stored!r} is {list(self._infos[stored].shape)}, in the base {list(expected)}; name the base "
                "that it was trained on"
            )
        return Change(place, whole=stored)

    def _adapted(self, layer: str, parts: dict[str, str]) -> list[Change]:
        embedding = any(part.endswith("embedding") for part in parts)
        parts = {part.removesuffix(" of an embedding"): stored for part, stored in parts.items()}
        if "A" not in parts or "B" not in parts:
            there = "lora_A only" if "A" in parts else "lora_B only" if "B" in parts else "neither lora_A nor lora_B"
            raise CheckpointError(f"layer {layer!r} has {there}; the file is incomplete; save the adapter again")
        if f".{layer}".endswith(".attn") or ".base_layer." in layer:
            # PEFT up to 0.21 at least adds the output projection's part twice there, in training as in merging
            raise CheckpointError(
                f"layer {layer!r} is torch's attention as a whole, to which versions of PEFT do different things; "
                f"with the version that trained it {_MERGE_IT}"
            )
        place = self._place(f"{layer}.weight", parts["A"])
        rank = self._factors(layer, parts, place, embedding)
        scale = self._config.scale(layer, rank)
        if ("m" in parts) != self._config.use_dora:
            has = "has" if "m" in parts else "lacks"
            seen = f"use_dora is {self._config.use_dora}, but layer {layer!r} {has} a magnitude vector"
            raise CheckpointError(f"{seen}; {_NOT_ITS}")
        if embedding and self._config.use_dora:
            raise CheckpointError(f"DoRA on the embedding {layer!r} is not folded; {_MERGE_IT}")
        initial = self._initial(layer, parts)
        found = [Change(place, None, parts["A"], parts["B"], *initial, parts.get("m"), None, scale, embedding)]
        if ("shift" in parts) != self._config.lora_bias:
            has = "has" if "shift" in parts else "lacks"
            seen = f"lora_bias is {self._config.lora_bias}, but lora_B of layer {layer!r} {has} a bias"
            raise CheckpointError(f"{seen}; {_NOT_ITS}")
        if "shift" in parts:
            bias = self._place(f"{layer}.bias", parts["shift"])
            self._require_shape(parts["shift"], bias.shape(self._base.infos[bias.name]))
            found.append(Change(bias, shift=parts["shift"], scale=scale))
        return found

    def _factors(self, layer: str, parts: dict[str, str], place: Place, embedding: bool) -> int:
        """The rank, once the shapes of the factors are those that the layer and the configuration ask for."""
        shape = place.shape(self._base.infos[place.name])
        shape = shape[::-1] if embedding else shape
        rank = self._config.rank(layer)
        seen = [self._infos[parts[part]].shape for part in "AB"]
        ones = (1,) * (len(shape) - 2)
        expected = [(rank, *shape[1:]), (shape[0], rank, *ones)]
        if len(shape) < 2 or seen != expected:
            raise MismatchedCheckpoint(
                f"layer {layer!r} of shape {list(shape)} has factors {[list(each) for each in seen]}; by the base and "
                f"rank {rank} in {CONFIG}, {[list(each) for each in expected]} are expected; "
                "name the base that it was trained on, or put its own configuration beside it"
            )
        if "m" in parts and torch.Size(self._infos[parts["m"]].shape).numel() != shape[0]:
            raise MismatchedCheckpoint(
                f"{parts['m']!r} is {list(self._infos[parts['m']].shape)}; expected {shape[0]} norms"
            )
        return rank

    def _require_shape(self, stored: str, expected: tuple[int, ...]) -> None:
        if self._infos[stored].shape != expected:
            raise MismatchedCheckpoint(
                f"tensor {stored!r} is {list(self._infos[stored].shape)}; expected {list(expected)}"
            )

    def _initial(self, layer: str, parts: dict[str, str]) -> tuple[str | None, str | None]:
        """Names of the initial factors: they are numbered in the order of the layer's parameters, A before B."""
        initial = [stored for part, stored in sorted(parts.items()) if part.startswith("initial")]
        if not self._linearised:
            return None, None
        if len(initial) != 2 or parts.keys() - {"A", "B"} != {p for p in parts if p.startswith("initial")}:
            raise CheckpointError(
                f"layer {layer!r} of a linearised adapter has {sorted(parts)}; expected lora_A, lora_B and the two "
                "initial values of these"
            )
        for stored, part in zip(initial, "AB", strict=True):
            self._require_shape(stored, self._infos[parts[part]].shape)
        return initial[0], initial[1]

    # --- the whole ---------------------------------------------------------------------------------------------------

    def _require_complete(self, layers: Mapping[str, Any], wholes: Mapping[str, str]) -> None:
        """Insist that what the configuration says was trained is there."""
        config = self._config
        adapted = {self._place(f"{layer}.weight", layer) for layer in layers}
        whole = {self._place(name, stored) for name, stored in wholes.items()}
        missing = []
        all_layers = not config.exclude_modules and config.layers_to_transform is None
        if not isinstance(config.target_modules, str) and all_layers:
            missing += [layer for layer in self._targets(config.target_modules) if self._places[layer] not in adapted]
        if config.bias != "none":
            missing += [
                name
                for name, place in self._places.items()
                if name.endswith("bias")
                and self._places.get(f"{name.removesuffix('bias')}weight") in adapted
                and place not in whole
            ]
        for module in config.modules_to_save:
            named = [name for name in self._places if f".{name}".find(f".{module}.") >= 0]
            missing += [name for name in named if self._places[name] not in whole]
        if missing:
            raise CheckpointError(
                f"by {CONFIG} more was trained than the file holds: {differences({'missing': sorted(missing)})}; save "
                "the adapter again"
            )

    def _targets(self, targets: Sequence[str]) -> Iterator[str]:
        """Weights in the blocks whose layers end with one of the names, in the layout that the adapter uses."""
        for name in self._places:
            layer = name.removesuffix(".weight")
            blocks = name.startswith(("encoder.layers.", _BLOCKS))
            if blocks and name.endswith(".weight") and any(f".{layer}".endswith(f".{target}") for target in targets):
                yield name


def _unwrapped(name: str) -> str:
    """A name without the wrappers' prefixes."""
    while True:
        found = next((wrapper for wrapper in _WRAPPERS if name.startswith(wrapper)), None)
        if found is None:
            return name
        name = name.removeprefix(found)


def _places(tower: Sequence[str]) -> dict[str, Place]:
    """Names in both layouts, without the prefix of the tower → places in the tower."""
    places = {name: Place(name) for name in tower}
    try:
        theirs = huggingface_names(tower)
    except CheckpointError:  # a tower that Hugging Face has no class for
        return places
    for name, origin in theirs.items():
        for part, stored in enumerate(origin.stored):
            plain = stored.removeprefix("vision_model.")
            places[plain] = Place(name, part, len(origin.stored), origin.transposed)
    return places
