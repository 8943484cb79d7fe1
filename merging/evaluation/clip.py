"""Building the towers of a suite's CLIP with open_clip, and heads from its text tower.

open_clip is imported where it is used: loading it takes longer than merging eight models, which needs none of it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from merging.core.errors import MismatchedCheckpoint, MissingPart, SuiteError
from merging.core.process import start_method
from merging.core.wording import differences
from merging.suites.images.kinds import Preprocess
from merging.suites.inline import InlineArchitecture
from merging.suites.suite import Suite
from merging.weights.files import Checkpoint

_Module = TypeVar("_Module", bound=torch.nn.Module)
_UNBUILDABLE = (
    TypeError,
    ValueError,
    AssertionError,
    KeyError,
    RuntimeError,
    ZeroDivisionError,
    AttributeError,
    OSError,
)
# Modules that open_clip and torchvision load for single functions, and which those are.
_LATER = {
    "timm": ("create_model",),
    "timm.layers": ("AttentionPool2d", "Mlp", "RotAttentionPool2d", "to_2tuple"),
    "torch._dynamo.utils": ("is_compile_supported",),
}
_VISION_TRANSFORMER = "VisionTransformer"  # open_clip's class of towers
HEAD_WIDTH = 64  # open_clip's, where a configuration gives none
_NO_VISION = {"image_size": 8, "patch_size": 8, "layers": 1, "width": 8, "head_width": 8}
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}


def load_open_clip() -> Any:
    """The package open_clip, without what it loads for what nothing here uses.

    That is transformers, where it is installed, for text towers; timm, for other towers than CLIP's; and torch's
    compiler, for both timm and torchvision. They take longer than all the rest. Whatever calls timm has it loaded then.
    """
    hidden = "transformers" not in sys.modules
    if hidden:
        sys.modules["transformers"] = None  # type: ignore[assignment]  # makes importing it fail
    later = [_Later(name, called) for name, called in _LATER.items() if name not in sys.modules]
    sys.modules.update({module.__name__: module for module in later})
    try:
        return importlib.import_module("open_clip")
    finally:
        if hidden:
            del sys.modules["transformers"]
        for module in later:
            module.make_way()


def load_before_forks() -> None:
    """Load what towers need in a process that is copied for each piece of work; where none is, each loads it itself."""
    if start_method() == "fork":
        load_open_clip()


class _Later(ModuleType):
    """Stands for a module while others are loaded that name some of its functions; these load it when they are called.

    Args:
        name: the module.
        called: functions, or classes of which objects are made. Whoever names anything else has it loaded at once.
    """

    def __init__(self, name: str, called: Sequence[str]) -> None:
        super().__init__(name)
        for one in called:
            setattr(self, one, self._calling(one))

    def make_way(self) -> None:
        """Let whoever imports the module have itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def _calling(self, name: str) -> Callable[..., Any]:
        return lambda *given, **named: self._real(name)(*given, **named)

    def _real(self, name: str) -> Any:
        self.make_way()
        return getattr(importlib.import_module(self.__name__), name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what importing asks of any module
        return self._real(name)


@dataclass(frozen=True)
class Input:
    """What the tower wants to see: square images of ``size`` pixels, normalised per channel."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def config(suite: Suite) -> dict[str, Any]:
    """The open_clip model configuration of a suite's architecture, with what suite.yaml says besides.

    Raises:
        SuiteError: open_clip knows no model of that name, or one with another number of heads.
    """
    return _with_the_rest(suite, _architecture(suite))


def _with_the_rest(suite: Suite, found: dict[str, Any]) -> dict[str, Any]:
    """A configuration with ``activation``, ``heads`` and ``image_size`` of suite.yaml in it."""
    if suite.activation is not None:
        found["quick_gelu"] = suite.activation == "quick_gelu"
    vision = dict(found["vision_cfg"])
    if suite.image_size is not None:
        vision["image_size"] = suite.image_size
    if suite.heads is not None:
        width = vision.get("width", 768)
        own = width // vision.get("head_width", HEAD_WIDTH)
        if isinstance(suite.architecture, str) and own != suite.heads:
            raise SuiteError(
                f"suite {suite.name!r}: suite.yaml says heads: {suite.heads}, open_clip's {suite.architecture} has "
                f"{own}; leave one out, or write the architecture inline"
            )
        vision["head_width"] = width // suite.heads
    return {**found, "vision_cfg": vision}


def _architecture(suite: Suite) -> dict[str, Any]:
    if isinstance(suite.architecture, dict):
        return dict(suite.architecture)
    open_clip = load_open_clip()

    found = open_clip.get_model_config(suite.architecture)
    if found is None:
        raise SuiteError(
            f"suite {suite.name!r}: open_clip knows no model {suite.architecture!r}; "
            "see open_clip.list_models(), for example ViT-B-32"
        )
    return dict(found)


def input_of(suite: Suite) -> Input:
    """Image size and normalisation: the suite's own, else the architecture's.

    A named architecture is taken to have the normalisation of its pre-trained weights in open_clip (OpenAI's where
    there are several); an inline one has CLIP's.
    """
    size = config(suite)["vision_cfg"].get("image_size", 224)
    if not isinstance(size, int):
        raise SuiteError(f"suite {suite.name!r}: image_size {size!r}; only square images are supported")
    chosen = suite.preprocess or _usual_preprocess(suite.architecture)
    return Input(size, chosen.mean, chosen.std)


def settings_of(suite: Suite) -> dict[str, Any]:
    """What an ``open_clip_config.json`` says of a suite's base as its file is, before it is fitted to other images."""
    wanted = input_of(suite)
    return {
        "model_cfg": config(suite.model_copy(update={"image_size": None})),
        "preprocess_cfg": {"mean": list(wanted.mean), "std": list(wanted.std)},
    }


def _usual_preprocess(architecture: str | dict[str, Any]) -> Preprocess:
    open_clip = load_open_clip()

    found: dict[str, Any] = {}
    if isinstance(architecture, str):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        tag = "openai" if "openai" in tags else next(iter(tags), "")
        found = open_clip.get_pretrained_cfg(architecture, tag)
    return Preprocess(
        mean=found.get("mean") or open_clip.OPENAI_DATASET_MEAN, std=found.get("std") or open_clip.OPENAI_DATASET_STD
    )


def build_tower(suite: Suite, device: torch.device, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The visual tower with the base model's weights, in evaluation mode.

    Raises:
        SuiteError: open_clip can't build the architecture.
        MismatchedCheckpoint: the base checkpoint's names or shapes are not the architecture's.
    """

    def empty() -> torch.nn.Module:
        visual: torch.nn.Module = _build(suite, {"text_cfg": _NO_TEXT}).visual
        return visual

    tower = _loaded(empty, suite.base_checkpoint, suite, str(suite.base))
    return tower.to(device, dtype).eval().requires_grad_(True)


@contextmanager
def other_activation(tower: torch.nn.Module) -> Iterator[None]:
    """A tower with GELU where it has QuickGELU, or the other way round, for as long as this lasts."""
    from open_clip.transformer import QuickGELU

    before = [(name, one) for name, one in tower.named_modules() if isinstance(one, torch.nn.GELU | QuickGELU)]
    try:
        for name, one in before:
            tower.set_submodule(name, QuickGELU() if isinstance(one, torch.nn.GELU) else torch.nn.GELU())
        yield
    finally:
        for name, one in before:
            tower.set_submodule(name, one)


def count_weights(suite: Suite) -> tuple[int, int]:
    """Weights of the visual tower, and of the whole model with its text tower, by the architecture alone.

    Raises:
        SuiteError: open_clip can't build the architecture.
    """
    with torch.device("meta"), _NothingDrawn():  # shapes without memory
        model = _build(suite, {})
    tower, whole = (sum(one.numel() for one in part.parameters()) for part in (model.visual, model))
    return tower, whole


def build_head(suite: Suite, task_name: str, device: torch.device | None = None) -> torch.Tensor:
    """Zero-shot head of a task from the text tower: float32 ``[classes, embed_dim]`` on the CPU, rows of norm 1.

    For every class the normalised embeddings of all templates are averaged and normalised again (arXiv 2103.00020).

    Args:
        suite: the suite.
        task_name: one of its tasks.
        device: where the text tower runs; the CPU by default.

    Raises:
        MissingPart: the suite has no text tower, or the task no class names.
    """
    task = suite.task(task_name)
    if suite.text_tower is None or not task.classes:
        raise MissingPart(
            f"suite {suite.name!r}, task {task_name!r}: no head; name a `head` file, or `classes` and a `text_tower`"
        )
    open_clip = load_open_clip()

    settings = config(suite)

    def empty() -> Any:
        model = _build(suite, {"vision_cfg": _NO_VISION})
        model.visual = torch.nn.Identity()
        return model

    model = _loaded(empty, suite.text_checkpoint, suite, str(suite.text_tower))
    length = settings.get("text_cfg", {}).get("context_length", 77)
    named = isinstance(suite.architecture, str)
    tokenizer = (
        open_clip.get_tokenizer(suite.architecture) if named else open_clip.SimpleTokenizer(context_length=length)
    )
    templates = task.templates or suite.templates
    model.to(device or "cpu").eval()
    rows = []
    with torch.inference_mode():
        for name in task.classes:
            tokens = tokenizer([template.replace("{}", name) for template in templates])
            embedded = model.encode_text(tokens.to(device or "cpu"), normalize=True)
            rows.append(torch.nn.functional.normalize(embedded.mean(dim=0), dim=0))
    return torch.stack(rows).cpu().clone()


class _NothingDrawn(TorchFunctionMode):
    """For tensors that have shapes only: to draw their numbers, or to scale them, torch would load its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **given)
        if func in (torch.nn.init.normal_, torch.Tensor.normal_, torch.Tensor.triu_):  # in place
            return given["tensor"] if "tensor" in given else args[0]
        if func is torch.Tensor.mul and isinstance(args[1], float):
            return args[0]
        return func(*args, **given)


def _build(suite: Suite, changes: dict[str, Any]) -> Any:
    open_clip = load_open_clip()

    settings = config(suite)
    wanted = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
    arguments = {**{key: value for key, value in settings.items() if key in wanted}, **changes}
    arguments.setdefault("text_cfg", _NO_TEXT)
    arguments["vision_cfg"] = {**arguments["vision_cfg"], "timm_model_pretrained": False}  # nothing is downloaded
    if {"hf_model_name", "hf_tokenizer_name"} & arguments["text_cfg"].keys():
        raise SuiteError(
            f"suite {suite.name!r}: this text tower comes from the Hugging Face hub, which is not asked; "
            "name a `head` file for every task"
        )
    unbuildable = f"suite {suite.name!r}: open_clip can't build this architecture"
    if isinstance(suite.architecture, dict):
        reason = InlineArchitecture.model_validate(settings).contradiction()
        if reason:
            raise SuiteError(f"{unbuildable}: {reason}")
    try:
        with torch.random.fork_rng(devices=[]):
            return open_clip.CLIP(**arguments)
    except _UNBUILDABLE as error:
        raise SuiteError(f"{unbuildable}: {error}") from None


def _loaded(empty: Callable[[], _Module], stored: Checkpoint, suite: Suite, file: str) -> _Module:
    """A new module with the weights of a file, which must be exactly its own by name and shape.

    They are compared before anything is built: the architecture comes from outside and may be of any size.
    """
    with torch.device("meta"), _NothingDrawn():  # shapes without memory
        shell = empty()
    expected = {name: tuple(tensor.shape) for name, tensor in shell.state_dict().items()}
    reshaped = {name for name in expected.keys() & stored.keys() if tuple(stored.infos[name].shape) != expected[name]}
    wrong = differences(
        {
            "missing": expected.keys() - stored.keys(),
            "unexpected": stored.keys() - expected.keys(),
            "of another shape": reshaped,
        }
    )
    if wrong:
        raise MismatchedCheckpoint(
            f"{file}: not the weights of {suite.architecture_label}: {wrong}; check `architecture` in suite.yaml"
        )
    if type(shell).__name__ == _VISION_TRANSFORMER:  # its file holds all of it: no weights need be drawn before
        copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in stored.items()}
        shell.load_state_dict(copies, assign=True)
        return shell
    module = empty()
    module.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    return module
