"""What an adapter's ``adapter_config.json`` says of its trained weights, and which adapters can't be folded."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from merging.core.errors import CheckpointError
from merging.core.gate import read_json
from merging.core.wording import explain
from merging.weights.files.adapter_bases import CONFIG

LINEARISED = "linearized_adapter_model.safetensors"
MERGE_IT = (
    "merge it with PEFT, model.merge_and_unload().save_pretrained(FOLDER), and name that folder as the checkpoint"
)
_MAX_PATTERN = 200  # letters of a key of rank_pattern or alpha_pattern

# Fields of the configuration that change nothing in the trained weights.
_HARMLESS = {
    "auto_mapping", "corda_config", "enable_lora", "ensure_weight_tying", "eva_config", "inference_mode",
    "layers_pattern", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core", "merge_weights",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")  # others change the base's weights before training
_NO_WEIGHTS = re.compile(r"PROMPT|P_TUNING|PREFIX|CPT|POLY")  # they add inputs or layers, which no weight can hold


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
            advice = added if _NO_WEIGHTS.search(self.peft_type.upper()) else MERGE_IT
            return f"a PEFT adapter of type {self.peft_type[:40]!r}; only LORA (rsLoRA, DoRA) is folded here; {advice}"
        if self.init_lora_weights not in _PLAIN_STARTS:
            return (
                f"init_lora_weights is {str(self.init_lora_weights)[:40]!r}, which changes the base's weights before "
                f"training; convert it with PEFT (path_initial_model_for_weight_conversion), or {MERGE_IT}"
            )
        if self.use_dora and self.lora_bias:
            return f"use_dora and lora_bias at once are not folded; {MERGE_IT}"
        unknown = [name for name, value in (self.model_extra or {}).items() if value and name not in _HARMLESS]
        if unknown:
            name = sorted(unknown)[0]
            return f"{CONFIG} sets {name[:60]!r}, of which nothing is known here; {MERGE_IT}"
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
        raise CheckpointError(f"{file_in_folder(path)}: {reason}")
    return config


def file_in_folder(path: Path) -> str:
    """File and folder, as all adapters' files are called alike."""
    return f"{path.parent.name}/{path.name}"
