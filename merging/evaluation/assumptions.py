"""What a suite's towers are taken to be beyond what tensors show: the activation, the heads, the images they want."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merging.core.errors import MismatchedCheckpoint
from merging.evaluation import clip
from merging.suites.architecture import ACTIVATIONS, tower_of
from merging.suites.declared import UNSEEN, Declared, agreed, beside, beyond_in_words, by_name, fact_in_words, unseen
from merging.suites.inline import InlineArchitecture
from merging.suites.logit_scale import require_no_logarithm, scale_doubts
from merging.suites.suite import FileReference, Suite
from merging.weights.files.other_kinds import other_kind


@dataclass(frozen=True)
class Assumptions:
    """What is taken, and from where.

    Attributes:
        lines: each in words, with who says it in brackets.
        guessed: whether nobody says what the activation is.
        warnings: sentences on what is odd.
    """

    lines: tuple[str, ...]
    guessed: bool
    warnings: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines as one."""
        return ", ".join(self.lines)


def assumptions(suite: Suite) -> Assumptions:
    """What a suite's towers are taken to be, and who says so.

    Raises:
        SuiteError: suite.yaml and the files beside the weights contradict each other; open_clip knows no such model.
    """
    files = require_agreement(suite)
    configured = InlineArchitecture.model_validate(clip.config(suite))
    vision = configured.vision_cfg
    agreeing = [one for one in files if "activation" in one.facts]
    activation, said = _activation(suite)
    confirmed = f"; {agreeing[0].origin} agrees" if agreeing and said else ""
    guessed = not said and not agreeing
    origin = said or (agreeing[0].origin if agreeing else "assumed, as neither suite.yaml nor a file says")
    lines = [f"{activation} ({origin}{confirmed})"]
    warnings = [*(remark for one in files for remark in one.remarks), *scale_doubts(suite)]
    reason = vision.contradiction()
    if reason:
        warnings.append(f"no tower can be built of `architecture`: {reason}")
    elif vision.is_vision_transformer:
        heads = vision.width // vision.head_width
        lines.append(f"{heads} attention heads ({_heads(suite)})")
        lines += _beyond(suite, unseen(configured)["beyond"], files)
        warnings += _doubts(suite, heads, activation, bool(agreeing))
    wanted = clip.input_of(suite)
    images = "suite.yaml: preprocess" if suite.preprocess else "the usual of this architecture"
    lines.append(
        f"images with mean {fact_in_words(wanted.mean)} and standard deviation {fact_in_words(wanted.std)} ({images})"
    )
    if suite.image_size is not None:
        size = f"position embeddings of other sizes interpolated to images of {suite.image_size} × {suite.image_size}"
        lines.append(f"{size} pixels (suite.yaml: image_size)")
    return Assumptions(tuple(lines), guessed, tuple(warnings))


def _activation(suite: Suite) -> tuple[str, str]:
    """What the towers' activation is, and where suite.yaml says so; nothing where it does not."""
    name = ACTIVATIONS["quick_gelu" if suite.quick_gelu else "gelu"]
    if suite.activation is not None:
        return name, "suite.yaml: activation"
    if isinstance(suite.architecture, str):
        return name, f"that of open_clip's {suite.architecture}"
    return name, "suite.yaml: architecture.quick_gelu" if "quick_gelu" in suite.architecture else ""


def _heads(suite: Suite) -> str:
    if suite.heads is not None:
        return "suite.yaml: heads"
    if isinstance(suite.architecture, str):
        return f"those of open_clip's {suite.architecture}"
    if "head_width" in suite.architecture["vision_cfg"]:
        return "suite.yaml: architecture.vision_cfg.head_width"
    return f"assumed, {clip.HEAD_WIDTH} features each, as suite.yaml does not say"


def _beyond(suite: Suite, beyond: Mapping[str, Any], files: Sequence[Declared]) -> Iterator[str]:
    """The epsilon of layer norms, and what else is not usual."""
    agreeing = next((f"; {one.source} agrees" for one in files if "beyond" in one.facts), "")
    written = "suite.yaml: architecture.vision_cfg"
    if isinstance(suite.architecture, str):
        written = f"that of open_clip's {suite.architecture}"
    epsilon, *others = beyond_in_words(beyond)
    yield f"{epsilon} ({written if 'norm_kwargs' in beyond else 'the usual'}{agreeing})"
    yield from (f"{one} ({written}{agreeing})" for one in others)


def _doubts(suite: Suite, heads: int, activation: str, confirmed: bool) -> Iterator[str]:
    """What to say of heads that no published tower of these sizes has, and of a base named after another activation."""
    try:
        tower = tower_of({name: info.shape for name, info in suite.base_checkpoint.infos.items()})
    except MismatchedCheckpoint:  # building the tower says what else it is not
        kind = other_kind(suite.base_checkpoint.infos)
        if kind:
            yield f"{suite.base} is {kind}, `architecture` in suite.yaml a vision transformer: there is no accuracy"
        return
    if tower.usual_heads is not None and tower.usual_heads != heads:
        yield (
            f"{heads} attention heads; all published towers of this width and depth have {tower.usual_heads}: if these "
            f"come from one, write heads: {tower.usual_heads} in suite.yaml"
        )
    named = by_name(str(suite.base), tower)
    known = fact_in_words(named.facts["activation"]) if named is not None else activation
    if known != activation and not confirmed:
        yield (
            f"{activation}; {suite.base} is named like a known model with {known}: if it comes from that one, write "
            f"activation: {named.facts['activation'] if named else ''} in suite.yaml; `check --deep` tries both"
        )


def require_agreement(suite: Suite) -> list[Declared]:
    """What files beside the suite's weights say of the towers, once it is sure that suite.yaml says the same.

    Raises:
        SuiteError: they contradict suite.yaml or each other, or can't be read.
    """
    require_no_logarithm(suite)
    files = list(_beside_weights(suite))
    tower = InlineArchitecture.model_validate(clip.config(suite))
    if not files or tower.contradiction() or not tower.vision_cfg.is_vision_transformer:
        return files  # building it says what is wrong
    images = clip.input_of(suite)
    own = Declared("suite.yaml", {**unseen(tower), "mean": images.mean, "std": images.std})
    on_purpose = {"mean", "std"} if suite.preprocess is not None else set()  # as the models were fine-tuned
    agreed([own, *(one.only(UNSEEN - on_purpose) for one in files)])
    return files


def _beside_weights(suite: Suite) -> Iterator[Declared]:
    """What lies beside the base and the models of tasks, a folder once."""
    seen = set()
    references: list[FileReference] = [suite.base, *(task.checkpoint for task in suite.tasks if task.checkpoint)]
    for reference in references:
        path = suite.path(reference)
        place = path if path.is_dir() else path.parent
        if place not in seen and path.exists():
            seen.add(place)
            yield from beside(path, str(reference))
