"""Which tensors of the base the tensors of an adapter change, found from their names and shapes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from merging.core.errors import CheckpointError, MismatchedCheckpoint
from merging.core.wording import differences
from merging.weights.files.adapter_bases import CONFIG
from merging.weights.files.adapter_config import LINEARISED, MERGE_IT, AdapterConfig
from merging.weights.files.adapter_folding import Change, Place
from merging.weights.files.checkpoint import Checkpoint
from merging.weights.files.layouts import huggingface_names

_MAX_NAME = 300  # letters of a tensor's name
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
_NOT_ITS = f"{CONFIG} is of another adapter, or the file incomplete; save the adapter again"


class AdapterReader:
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
                raise CheckpointError(f"tensor {stored!r} is of no LoRA adapter that can be folded; {MERGE_IT}")
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
            raise CheckpointError(f"tensor {stored!r} is of no LoRA adapter that can be folded; {MERGE_IT}")
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
                f"with the version that trained it {MERGE_IT}"
            )
        place = self._place(f"{layer}.weight", parts["A"])
        rank = self._factors(layer, parts, place, embedding)
        scale = self._config.scale(layer, rank)
        if ("m" in parts) != self._config.use_dora:
            has = "has" if "m" in parts else "lacks"
            seen = f"use_dora is {self._config.use_dora}, but layer {layer!r} {has} a magnitude vector"
            raise CheckpointError(f"{seen}; {_NOT_ITS}")
        if embedding and self._config.use_dora:
            raise CheckpointError(f"DoRA on the embedding {layer!r} is not folded; {MERGE_IT}")
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
