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
from collections.abc import Callable
from pathlib import Path

from merging.core.errors import CheckpointError, MergingError
from merging.core.files import ADAPTER_FILES
from merging.weights.files.adapter_bases import CONFIG, called, require_same_base
from merging.weights.files.adapter_config import LINEARISED, file_in_folder, read_config
from merging.weights.files.adapter_folding import Folded
from merging.weights.files.adapter_reading import AdapterReader
from merging.weights.files.checkpoint import Checkpoint, open_checkpoint, require_content
from merging.weights.files.layouts import Layout, Origin

FILES = ADAPTER_FILES


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
            reader = AdapterReader(base, adapter, config, linearised=path.name == LINEARISED)
            changes = reader.changes()
        except MergingError as error:
            raise type(error)(f"{file_in_folder(path)}: {error}") from None
        layout = Layout(
            f"{reader.title} folded into {base.path.name}",
            {name: Origin((name,)) for name in base.infos},
            tuple(reader.text),
            "open_clip",
        )
        source, files = Folded(base, adapter, changes), tuple(files_of(path))
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
