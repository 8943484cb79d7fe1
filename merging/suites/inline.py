"""An ``architecture`` that is written out in a suite.yaml, with open_clip's names for the parts of a CLIP.

Fields, types and defaults are those of open_clip's ``CLIPVisionCfg`` and ``CLIPTextCfg``, which check nothing. They are
repeated here since importing open_clip takes longer than anything that is done with a suite without images.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Size = Annotated[int, Field(gt=0, le=2**20, strict=True)]
_Layers = Annotated[int, Field(gt=0, le=1000, strict=True)]  # each is built: a million would take hours and all memory
_Blocks = Annotated[int, Field(gt=0, le=100, strict=True)]  # of one stage of a ResNet; the largest published has 36
_Whole = Annotated[int, Field(strict=True)]
_Share = Annotated[float, Field(ge=0, lt=1, strict=True)]
_Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
_Ratio = Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False, strict=True)]
_Flag = Annotated[bool, Field(strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Transformer(_Strict):
    """What both towers may say of their transformer."""

    mlp_ratio: _Ratio = 4.0
    ls_init_value: _Finite | None = None
    final_ln_after_pool: _Flag = False
    output_tokens: _Flag = False
    act_kwargs: dict[str, Any] | None = None
    norm_kwargs: dict[str, Any] | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: _Flag = False
    scaled_cosine_attn: _Flag = False
    scale_heads: _Flag = False
    scale_attn_inner: _Flag = False
    scale_attn: _Flag = False
    scale_fc: _Flag = False


class VisionConfig(_Transformer):
    """``vision_cfg``: the visual tower. Four ``layers`` make a ResNet, a ``timm_model_name`` one of timm's models."""

    layers: _Layers | tuple[_Blocks, _Blocks, _Blocks, _Blocks] = 12
    width: _Size = 768
    head_width: _Size = 64
    patch_size: _Size | None = 16
    image_size: _Size | tuple[_Size, _Size] = 224
    patch_dropout: _Share = 0.0
    attentional_pool: _Flag | Literal["parallel", "cascade"] = False
    attn_pooler_queries: _Size = 256
    attn_pooler_heads: _Size = 8
    no_ln_pre: _Flag = False
    pos_embed_type: Literal["learnable", "sin_cos_2d"] = "learnable"
    pool_type: Literal["tok", "avg", "none"] = "tok"
    timm_model_name: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,100}$")  # an address would be asked for it
    timm_model_pretrained: _Flag = False
    timm_pool: str = "avg"
    timm_proj: str | None = "linear"
    timm_proj_bias: _Flag = False
    timm_drop: _Share = 0.0
    timm_drop_path: _Share | None = None

    @property
    def is_vision_transformer(self) -> bool:
        """Whether it is open_clip's own, neither a ResNet nor one of timm's models."""
        return self.timm_model_name is None and not isinstance(self.layers, tuple)

    def contradiction(self) -> str:
        """Which values of a vision transformer do not go together; empty if all do."""
        if not self.is_vision_transformer:
            return ""
        if self.patch_size is None:
            return "vision_cfg.patch_size = None: must be a whole number"
        smallest = self.image_size if isinstance(self.image_size, int) else min(self.image_size)
        if self.patch_size > smallest:
            return f"vision_cfg.patch_size = {self.patch_size}: must be at most image_size, {smallest}"
        if "head_width" not in self.model_fields_set and self.width % self.head_width:
            return (
                f"vision_cfg.width = {self.width}: no multiple of {self.head_width}, which is the width of attention "
                "heads where none is written, so that nothing says how many there are; write vision_cfg.head_width, or "
                "heads beside `architecture` in suite.yaml"
            )
        heads = self.width // self.head_width
        if not heads or self.width % heads:
            return (
                f"vision_cfg.width = {self.width}: must be a multiple of the number of attention heads, "
                f"which is width // head_width = {self.width} // {self.head_width} = {heads}"
            )
        return ""


class TextConfig(_Transformer):
    """``text_cfg``: the text tower."""

    context_length: _Size = 77
    vocab_size: _Size = 49408
    hf_tokenizer_name: str | None = None
    tokenizer_mode: str | None = None
    tokenizer_kwargs: dict[str, Any] | None = None
    width: _Size = 512
    heads: _Size = 8
    layers: _Layers = 12
    embed_cls: _Flag = False
    pad_id: _Whole = 0
    eos_id: _Whole = 2
    no_causal_mask: _Flag = False
    pool_type: Literal["first", "last", "argmax", "eos", "none"] = "argmax"
    proj_bias: _Flag = False
    proj_type: Literal["linear", "none"] = "linear"
    hf_model_name: str | None = None
    hf_model_pretrained: _Flag = True
    hf_proj_type: str = "mlp"
    hf_pooler_type: str = "mean_pooler"

    def contradiction(self) -> str:
        """Which values do not go together; empty if all do."""
        if self.hf_model_name is None and self.width % self.heads:
            return f"text_cfg.width = {self.width}: must be a multiple of heads, {self.heads}"
        return ""


class InlineArchitecture(_Strict):
    """The whole of it. What open_clip's own files say besides the two towers is allowed, and not looked at.

    It only judges: open_clip gets the mapping as it is written.
    """

    embed_dim: _Size
    vision_cfg: VisionConfig
    text_cfg: TextConfig = TextConfig()
    quick_gelu: _Flag = False
    custom_text: Any = None
    init_logit_scale: Any = None
    init_logit_bias: Any = None
    nonscalar_logit_scale: Any = None
    multimodal_cfg: Any = None

    def contradiction(self) -> str:
        """Which values do not go together, so that no model can be built of them; empty if all do."""
        return self.vision_cfg.contradiction() or self.text_cfg.contradiction()
