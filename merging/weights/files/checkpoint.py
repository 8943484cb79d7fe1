"""Lazily read weight files: safetensors, ``.pt`` state dicts through torch's restricted unpickler, shards of either.

Tensors are views of the memory-mapped file, so that opening eight models costs no memory and merging them touches
each page once; those that a layout stores in parts or transposed are put together when they are asked for. A file is
checked before anything is read from it: size, header, declared against actual bytes.
"""

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import torch
from safetensors import SafetensorError, safe_open

from merging.core.errors import CheckpointError, CorruptCheckpoint, MismatchedCheckpoint, NonFiniteWeights
from merging.core.gate import DAMAGE, require_file_itself, require_regular
from merging.core.limits import MAX_TENSORS
from merging.core.places import path_of
from merging.core.text import counted, shortened
from merging.core.wording import differences
from merging.weights.files.containers import require_as_named
from merging.weights.files.folders import (
    SAFE_SUFFIX,
    TORCH_SUFFIXES,
    is_index,
    is_torch_file,
    model_file,
    shards_of,
    weight_suffix,
)
from merging.weights.files.header import read_header
from merging.weights.files.layouts import NO_PREFIX, PROJECTION, Layout, Origin, recognise, recognise_text
from merging.weights.files.torch_files import Unread, read_state_dict, why_unread

Part = Literal["visual", "text", "all"]
_CLASSIFIER = ["classifier", "weight"]  # of transformers' CLIPForImageClassification
_AVERAGE = re.compile(r"ema|shadow|average|swa", re.IGNORECASE)  # in the names of lists of weights
_GAIN = re.compile(r"(^|\.)ln_\w+\.weight$")
PATCHES, POSITIONS = "conv1.weight", "positional_embedding"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a tensor, known without reading it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def floating(self) -> bool:
        """Whether the tensor takes part in merging; integer buffers are copied from the base."""
        return self.dtype.is_floating_point


class Checkpoint(Mapping[str, torch.Tensor]):
    """A read-only mapping from tensor name to tensor, in sorted order, with a content fingerprint.

    Indexing gives a contiguous CPU tensor that is a view of the mapped file where the format allows it: never write
    into it.

    Attributes:
        path: the file; of a sharded model its index.
        layout: how its names map to those of the tower.
        infos: shape and dtype of every tensor.
        lender: the model whose projection this one uses, its own file holding none.
        promised: what the fingerprint of the file must be, where that is known.
        files: all files that the weights are in, ``path`` first.
        taken: what was said to choose among several towers in the file; empty if nothing had to be.
        grid: patches across and down that position embeddings are interpolated to; None for those of the file.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        infos: dict[str, TensorInfo],
        source: "TensorSource",
        lender: "Checkpoint | None" = None,
        promised: str | None = None,
        files: tuple[Path, ...] = (),
        taken: str = "",
        grid: int | None = None,
    ) -> None:
        self.path = path
        self.layout = layout
        self.infos = infos
        self.lender = lender
        self.promised = promised
        self.files = files or (path,)
        self.taken = taken
        self.grid = grid
        self._source = source

    def __getitem__(self, name: str) -> torch.Tensor:
        origin = self.layout.origins.get(name)
        if origin is None:
            if self.lender is None:
                raise KeyError(name)
            return self.lender[name]
        tensor = _put_together(self._source, origin)
        return interpolated(tensor, self.grid) if name == POSITIONS and self.grid is not None else tensor

    def __contains__(self, name: object) -> bool:
        return name in self.infos  # without reading it, as a mapping does by itself

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    def __repr__(self) -> str:
        return f"Checkpoint({self.path.name!r}, {len(self)} tensors)"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file's bytes, 64 hexadecimal digits. Reads the whole file the first time.

        That of several files, of one of several towers in a file, or of a tower whose position embeddings are
        interpolated, is made of those of the files.

        Raises:
            CorruptCheckpoint: another one was promised.
        """
        return self.fingerprint_by(file_fingerprint)

    @property
    def known_fingerprint(self) -> str | None:
        """The fingerprint, if it was taken already."""
        return self.__dict__.get("fingerprint")

    def fingerprint_by(self, of_file: Callable[[Path], str]) -> str:
        """The fingerprint, given how to take that of one file; raises as there."""
        prints = [of_file(file) for file in self.files]
        self.verified(prints[0])
        if len(prints) == 1 and not self.taken and self.grid is None:
            return prints[0]
        grid = [] if self.grid is None else [f"on {self.grid} × {self.grid} patches"]
        return hashlib.sha256("\n".join([*prints, self.taken, *grid]).encode()).hexdigest()

    def verified(self, fingerprint: str) -> str:
        """The fingerprint of the first file, if it is the promised one or none was promised."""
        if self.promised is not None and fingerprint != self.promised:
            raise CorruptCheckpoint(
                f"{self.path.name}: its SHA-256 is {fingerprint[:12]}…, expected {self.promised[:12]}…; it is "
                "damaged or another file; delete it and download it again"
            )
        return fingerprint

    def require_finite(self) -> None:
        """Read all tensors and insist on numbers.

        Raises:
            NonFiniteWeights: one holds NaN or infinity.
        """
        for name, tensor in self.items():
            if tensor.is_floating_point() and not _is_finite(tensor):
                raise NonFiniteWeights(f"{self.path.name}: tensor {name!r} holds NaN or infinity; export it again")

    @cached_property
    def gains(self) -> dict[str, float]:
        """Squared norms of the gains of layer norms, by their names; a base's are asked for by each of its models."""
        return {name: float(self[name].float().square().sum()) for name in self.infos if _GAIN.search(name)}

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors of the visual tower."""
        return sum(torch.Size(i.shape).numel() * i.dtype.itemsize for i in self.infos.values())

    @property
    def summary(self) -> str:
        """Number, size and precision of the tensors, whose layout they had, and what was left out, in words."""
        dtypes = sorted({str(info.dtype).removeprefix("torch.") for info in self.infos.values()})
        parts = [counted(len(self), "tensor"), f"{self.nbytes / 2**20:.1f} MiB", "/".join(dtypes), self.layout.title]
        parts += filter(None, [self.layout.repeated_in_words])
        if is_index(self.path):
            parts.append(counted(len(self.files) - 1, "shard"))
        if self.layout.dropped:
            parts.append(self.layout.dropped_in_words)
        if self.lender is not None:
            parts.append(f"{PROJECTION} is that of {self.lender.path.name}")
        if self.grid is not None:
            parts.append(f"position embeddings interpolated to {self.grid} × {self.grid} patches")
        return ", ".join(parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of the model before it is used, in sentences."""
        found = []
        classifier = next((name for name in self.layout.dropped if name.split(".")[-2:] == _CLASSIFIER), None)
        if classifier is not None and self.layout.family == "huggingface":
            found.append(
                f"{self.path.name} was trained with a classifier of its own ({classifier[-80:]!r}) on the mean of all "
                "patches; it is left out, and the suite's head, which sees the projected class token, fits it less"
            )
        averages = [name for name in self._source.unread().lists if _AVERAGE.search(name)]
        if averages:
            found.append(
                f"{self.path.name} holds what looks like a second model, an average of weights, as a list "
                f"({shortened(averages, 3)}), which does not tell what is which weight; the model beside it is taken"
            )
        return tuple(found)

    @property
    def lacks_projection(self) -> bool:
        """Whether this is Hugging Face's ``CLIPVisionModel``, which ends before the projection."""
        return self.layout.family == "huggingface" and PROJECTION not in self.infos

    def completed(self, base: "Checkpoint") -> "Checkpoint":
        """The same model with the base's projection if its own file holds none: fine-tuning leaves that as it is."""
        if not self.lacks_projection or PROJECTION not in base.infos:
            return self
        infos = dict(sorted({**self.infos, PROJECTION: base.infos[PROJECTION]}.items()))
        known = base, self.promised, self.files, self.taken
        return Checkpoint(self.path, self.layout, infos, self._source, *known, self.grid)

    def left_out(self, name: str) -> torch.Tensor:
        """A tensor of the file that is no part of the tower, one of ``layout.dropped``."""
        return self._source.tensor(name)

    def resized(self, image_size: int) -> "Checkpoint":
        """The same tower for images of another size, its position embeddings interpolated as open_clip does.

        Args:
            image_size: side of the images in pixels.

        Raises:
            MismatchedCheckpoint: that is no multiple of the size of patches, or there are no positions in a square.
        """
        patch, positions = self.infos.get(PATCHES), self.infos.get(POSITIONS)
        if patch is None or positions is None or len(patch.shape) != 4 or len(positions.shape) != 2:
            raise MismatchedCheckpoint(f"{self.path.name}: no tower with position embeddings, which could be resized")
        side, own = patch.shape[-1], math.isqrt(max(positions.shape[0] - 1, 0))
        if own * own + 1 != positions.shape[0] or not own:
            raise MismatchedCheckpoint(
                f"{self.path.name}: {positions.shape[0]} position embeddings; expected 1 + n × n"
            )
        if image_size % side:
            raise MismatchedCheckpoint(
                f"{self.path.name}: image_size {image_size} is no multiple of the {side} pixels of a patch; "
                f"expected one such as {side * own} or {side * (own + 1)}"
            )
        grid = image_size // side
        if grid == own:
            return self
        shape = (grid * grid + 1, positions.shape[1])
        infos = {**self.infos, POSITIONS: TensorInfo(shape, positions.dtype)}
        known = self.lender, self.promised, self.files, self.taken
        return Checkpoint(self.path, self.layout, infos, self._source, *known, grid)


def interpolated(positions: torch.Tensor, grid: int) -> torch.Tensor:
    """Position embeddings for another number of patches: the class token's kept, those of patches interpolated.

    As open_clip's ``resize_pos_embed`` does: bicubic, with antialiasing.

    Args:
        positions: ``[1 + n · n, width]``.
        grid: patches across and down.

    Returns:
        ``[1 + grid · grid, width]`` in the same precision; the arithmetic is in float32.
    """
    token, patches = positions[:1], positions[1:]
    side, width = math.isqrt(len(patches)), positions.shape[1]
    image = patches.float().reshape(1, side, side, width).permute(0, 3, 1, 2)
    image = torch.nn.functional.interpolate(image, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([token, image.permute(0, 2, 3, 1).reshape(grid * grid, width).to(positions.dtype)])


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether no entry is NaN or infinite; the sum says so in a fraction of the time, unless it overflows."""
    return math.isfinite(float(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())


class TensorSource(Protocol):
    """Where tensors of an open file come from, by their stored names."""

    def infos(self) -> dict[str, TensorInfo]:
        """Shape and dtype of everything that is stored."""

    def own(self) -> dict[str, str]:
        """Name → name as stored, of the tensors that the file is about: none of a training's other dictionaries."""

    def unread(self) -> Unread:
        """What is in the file besides, and can't be read."""

    def tensor(self, name: str) -> torch.Tensor:
        """A contiguous tensor on the CPU."""


class _SafetensorsSource:
    """Tensors are cut from the mapped file here: the library hands each of its own through Python and torch's asarray.

    That takes three times as long, and a Ctrl-C in it comes out as an error about types, which nobody understands.
    """

    def __init__(self, path: Path) -> None:
        self._header = read_header(path)
        size = path.stat().st_size
        try:
            with safe_open(path, framework="pt", device="cpu"):
                pass
            self._mapped = torch.UntypedStorage.from_file(str(path), False, size)
        except (SafetensorError, *DAMAGE) as error:
            raise CorruptCheckpoint(
                f"{path.name}: not a valid safetensors file ({error}); download or export it again"
            ) from None
        self._start = 8 + int.from_bytes(self._mapped[:8].tolist(), "little")
        if self._start + max((entry["data_offsets"][1] for entry in self._header.values()), default=0) != size:
            raise CorruptCheckpoint(f"{path.name}: it changed while it was opened; wait until it is written, try again")

    def infos(self) -> dict[str, TensorInfo]:
        return {
            name: TensorInfo(tuple(entry["shape"]), _DTYPES[entry["dtype"]]) for name, entry in self._header.items()
        }

    def own(self) -> dict[str, str]:
        return {name: name for name in self._header}

    def unread(self) -> Unread:
        return Unread()

    def tensor(self, name: str) -> torch.Tensor:
        entry = self._header[name]
        start, end = (self._start + offset for offset in entry["data_offsets"])
        # A storage of its own for each: who copies or sends a tensor takes all of its storage along.
        part: torch.UntypedStorage = self._mapped[start:end]
        return torch.empty(0, dtype=_DTYPES[entry["dtype"]]).set_(part).view(entry["shape"])


class _TorchSource:
    def __init__(self, path: Path) -> None:
        found = read_state_dict(path)
        self._own = found.own
        why = {name: _why_unread(path, tensor) for name, tensor in found.tensors.items()}
        self._tensors = {name: tensor for name, tensor in found.tensors.items() if not why[name]}
        self._unread = Unread({name: what for name, what in why.items() if what}, found.lists)

    def infos(self) -> dict[str, TensorInfo]:
        return {name: TensorInfo(tuple(t.shape), t.dtype) for name, t in self._tensors.items()}

    def own(self) -> dict[str, str]:
        return self._own

    def unread(self) -> Unread:
        return self._unread

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name].detach().contiguous()


def _why_unread(path: Path, tensor: torch.Tensor) -> str:
    """What keeps a tensor from being read and merged, as the end of a sentence; empty if nothing does."""
    other_type = tensor.dtype not in _DTYPES.values()
    return why_unread(path, tensor) or (f"is {tensor.dtype}, a type that can't be merged" if other_type else "")


class _ShardedSource:
    """The shards of one model, each opened as a file of its own; together they hold what the index says, once."""

    def __init__(self, index: Path, shards: Mapping[Path, frozenset[str]]) -> None:
        self._sources: dict[str, TensorSource] = {}
        for path, wanted in shards.items():
            require_content(path)
            source = _source_of(path)
            stored = source.infos().keys()
            twice = sorted(stored & self._sources.keys())
            if twice:
                raise CorruptCheckpoint(f"{index.name}: tensor {twice[0]!r} is in two shards, one of them {path.name}")
            wrong = differences({"missing": wanted - stored, "not in the index": stored - wanted})
            if wrong:
                raise CorruptCheckpoint(
                    f"{index.name}: the shard {path.name} has {wrong}; download or export both again"
                )
            self._sources.update(dict.fromkeys(stored, source))

    def infos(self) -> dict[str, TensorInfo]:
        return {name: info for source in {*self._sources.values()} for name, info in source.infos().items()}

    def own(self) -> dict[str, str]:
        return {name: name for name in self._sources}

    def unread(self) -> Unread:
        each = [source.unread() for source in {*self._sources.values()}]
        return Unread({name: what for one in each for name, what in one.tensors.items()})

    def tensor(self, name: str) -> torch.Tensor:
        return self._sources[name].tensor(name)


def _source_of(path: Path) -> TensorSource:
    """A weight file by its suffix."""
    if weight_suffix(path.name):
        require_as_named(path)
    if path.suffix.lower() == SAFE_SUFFIX:
        return _SafetensorsSource(path)
    if is_torch_file(path):
        return _TorchSource(path)
    raise CheckpointError(
        f"{path.name}: unknown kind of weight file {path.suffix!r}; expected .safetensors, one of "
        f"{', '.join(TORCH_SUFFIXES)}, the index of a sharded checkpoint (.index.json), or a folder with one of these; "
        "a file of torch.save or safetensors under another name is to be renamed, any other to be written anew by these"
    )


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(
    path: Path | str, part: Part = "visual", promised: str | None = None, take: str | None = None
) -> Checkpoint:
    """Open a weight file lazily.

    Args:
        path: ``.safetensors``, or ``.pt``, ``.pth``, ``.bin``, ``.ckpt`` holding a state dict; the index of a sharded
            checkpoint, ``.index.json``; or a folder with one of these, as transformers writes it.
        part: the visual tower or the text tower, each under open_clip's names, or all tensors under those in the file.
        promised: the SHA-256 that the file must have; looked at when its fingerprint is taken.
        take: of several towers in the file the one whose names begin with this, or have these words in front that no
            other one has: ``ema`` in ``ema.visual.conv1.weight``.

    Raises:
        CheckpointError: the file is missing, of an unknown kind, its names are those of no layout, or those of several
            towers of which ``take`` names none.
        CorruptCheckpoint: it is truncated or contradicts itself.
        UnsafeCheckpoint: it is a pickle that would run code.

    >>> import merging
    >>> base = merging.open_checkpoint(merging.load_suite("mini").folder / "base.safetensors")
    >>> tuple(base["conv1.weight"].shape)
    (96, 3, 4, 4)
    """
    path = model_file(path_of(path))
    require_content(path)
    if is_index(path):
        shards = shards_of(path)
        return checkpoint_from(path, _ShardedSource(path, shards), part, promised, take, (path, *shards))
    return checkpoint_from(path, _source_of(path), part, promised, take)


def require_content(path: Path) -> None:
    """Insist on a file that is there, may be read and is not empty.

    Raises:
        CheckpointError: it is not.
    """
    try:
        there = path.is_file()
        size = 0
        if there:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise CheckpointError(f"{path.name}: can't be read ({error.strerror}); check its permissions") from None
    if not there:
        if path.exists() and not path.is_dir():
            require_regular(path, CheckpointError)
        if {"http:", "https:"} & {*path.parts}:
            raise CheckpointError(
                f"{path.name}: an address, and nothing is fetched by one; download the file and name that, or, of a "
                "model on the Hugging Face hub, write {hub: OWNER/NAME} in suite.yaml"
            )
        raise CheckpointError(f"{path.name}: no such weight file; check the path that names it")
    if size == 0:
        raise CorruptCheckpoint(f"{path.name}: the file is empty; download or export it again")
    require_file_itself(path, CorruptCheckpoint)


def checkpoint_from(
    path: Path,
    source: TensorSource,
    part: Part,
    promised: str | None = None,
    take: str | None = None,
    files: tuple[Path, ...] = (),
) -> Checkpoint:
    """The tensors of an open file under the names of a layout; arguments and errors as :func:`open_checkpoint`."""
    stored, unread = source.infos(), source.unread()
    if not stored and not unread.tensors:
        raise CorruptCheckpoint(f"{path.name}: the file holds no tensors{_in_lists(unread)}")
    if len(stored) > MAX_TENSORS:
        raise CorruptCheckpoint(f"{path.name}: {len(stored)} tensors; at most {MAX_TENSORS} are read")
    own = source.own()
    if part == "all":
        layout = Layout("all tensors", {name: Origin((own[name],)) for name in own}, (), "unknown")
    elif any(".lora_A." in name for name in stored):
        raise CheckpointError(
            f"{path.name}: holds factors of a LoRA adapter, no whole model; an adapter's folder as PEFT writes it can "
            "be the checkpoint of a task in suite.yaml; anything else is to be saved merged (PEFT's merge_and_unload)"
        )
    else:
        try:
            find = recognise if part == "visual" else recognise_text
            names = [*stored, *unread.tensors]
            layout = find(names, take, own, lambda one, other: _same(source, one, other))
        except CheckpointError as error:
            raise CheckpointError(f"{path.name}: {error}") from None
    if not layout.origins:
        seen = f"{layout.dropped_in_words}{_in_lists(unread)}"
        raise CorruptCheckpoint(f"{path.name}: the file holds no tensors of a model; {seen}")
    if layout.family == "unknown" and part == "visual" and unread.lists and "weight" not in layout.origins:
        raise CorruptCheckpoint(f"{path.name}: holds no CLIP visual transformer by itself{_in_lists(unread)}")
    _require_readable(path, layout, unread)
    _require_same(path, source, layout)
    infos = {name: _joined(path, stored, layout.origins[name]) for name in sorted(layout.origins)}
    taken = "" if take is None or part == "all" else layout.root or NO_PREFIX
    return Checkpoint(path, layout, infos, source, promised=promised, files=files, taken=taken)


def _in_lists(unread: Unread) -> str:
    return f"; {unread.lists_in_words}" if unread.lists else ""


def _require_readable(path: Path, layout: Layout, unread: Unread) -> None:
    """Insist on tensors that can be read; what else a training keeps may be of any kind."""
    blocked = sorted(layout.stored & unread.tensors.keys())
    if blocked:
        more = f", and {counted(len(blocked) - 1, 'more tensor')} can't be read either" if blocked[1:] else ""
        raise CheckpointError(
            f"{path.name}: tensor {blocked[0][-99:]!r} {unread.tensors[blocked[0]]}{more}; expected plain tensors with "
            "their numbers in the file; load the model whole on the CPU, save model.state_dict() again"
        )


def _same(source: TensorSource, one: Layout, other: Layout) -> bool:
    """Whether two towers of a file hold the same numbers under the same names."""
    unread = source.unread().tensors.keys()
    if one.origins.keys() != other.origins.keys() or unread & (one.stored | other.stored):
        return False
    return all(
        torch.equal(_put_together(source, one.origins[name]), _put_together(source, other.origins[name]))
        for name in one.origins
    )


def _require_same(path: Path, source: TensorSource, layout: Layout) -> None:
    """Insist that tensors that are there twice are the same."""
    for one, other in layout.twins:
        if not torch.equal(source.tensor(one), source.tensor(other)):
            raise CheckpointError(
                f"{path.name}: tensors {one[-99:]!r} and {other[-99:]!r} are one and the same without their wrappers, "
                "and hold different numbers; save the one that is meant"
            )


def _put_together(source: TensorSource, origin: Origin) -> torch.Tensor:
    """A tensor of the tower from its stored parts, contiguous."""
    if len(origin.stored) > 1:
        return torch.cat([source.tensor(part) for part in origin.stored])
    tensor = source.tensor(origin.stored[0])
    return tensor.T.contiguous() if origin.transposed else tensor


def _joined(path: Path, stored: dict[str, TensorInfo], origin: Origin) -> TensorInfo:
    """Shape and dtype of what a tower tensor's parts give together."""
    parts = [stored[name] for name in origin.stored]
    first = parts[0]
    if len(parts) > 1:
        if any(part != first or len(part.shape) == 0 for part in parts):
            seen = {name: list(stored[name].shape) for name in origin.stored}
            raise CheckpointError(f"{path.name}: expected tensors of the same shape and dtype, got {seen}")
        return TensorInfo((len(parts) * first.shape[0], *first.shape[1:]), first.dtype)
    if origin.transposed:
        if len(first.shape) != 2:
            raise CheckpointError(f"{path.name}: {origin.stored[0]!r} is {list(first.shape)}; expected a matrix")
        return TensorInfo(first.shape[::-1], first.dtype)
    return first
