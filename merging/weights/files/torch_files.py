"""Reading ``.pt`` state dicts without running what is in them.

torch's restricted unpickler does the reading: it builds tensors and containers and refuses all else. What is here
decides beforehand whether the file is worth reading, and explains afterwards why it was not read.
"""

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch

from merging.core.archive import is_archive, open_archive
from merging.core.errors import CheckpointError, CorruptCheckpoint, UnsafeCheckpoint
from merging.core.gate import DAMAGE
from merging.core.limits import MAX_PICKLE_BYTES, MAX_PICKLE_OPERATIONS
from merging.core.text import shortened
from merging.weights.files.pickle_size import require_bearable

_ADVICE = "save model.state_dict() or a .safetensors file instead"
_CONVERT = "`merging convert` takes the tensors out of whole models without running anything"
_HARMLESS = re.compile(
    r"torch\._utils\.|torch\.(\w*Storage|Size|\w*float\w*|\w*int\w*)$|collections\.OrderedDict$"
    r"|(builtins|__builtin__)\.set$"
)
NESTED = ("state_dict", "model_state_dict", "model")  # what training scripts save their weights under
_MAX_NAME = 1000  # characters; names grow with every dictionary
_DEEPEST = 12  # dictionaries within each other that are looked into
_PICKLES = 5  # torch's old format is five pickles and then raw bytes


@dataclass(frozen=True)
class StateDict:
    """What a file of ``torch.save`` holds in dictionaries.

    Attributes:
        tensors: all tensors, however deep, named by the keys that lead to them with points between.
        own: name → name in ``tensors`` of those that are the file's subject: directly in a state dict, or in the first
            of :data:`NESTED`.
    """

    tensors: dict[str, torch.Tensor]
    own: dict[str, str]


def read_state_dict(path: Path) -> StateDict:
    """All tensors of a state dict, or of a training checkpoint; memory-mapped where possible.

    Raises:
        UnsafeCheckpoint: reading it would run code, or it unpacks to more than it holds.
        CorruptCheckpoint: it is truncated, no state dict, or contradicts itself.
    """
    zipped = check_archive(path)
    try:
        for pickled in _pickles(path, zipped):
            require_bearable(pickled)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of old pickles is said by our own errors
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CorruptCheckpoint as error:
        raise CorruptCheckpoint(f"{path.name}: {error}") from None
    except Exception as error:  # damaged files make torch raise nearly anything, asserts and MemoryError included
        names = requested_globals(path)
        if names:
            raise UnsafeCheckpoint(
                f"{path.name}: a pickle of Python objects, not a state dict (it asks for {shortened(names, 5)}); "
                f"loading it could run code, so nothing was loaded; {_CONVERT}"
            ) from None
        raise CorruptCheckpoint(
            f"{path.name}: torch can't read it ({type(error).__name__}); it is truncated, damaged or no weight file; "
            "download or export it again"
        ) from None
    if not isinstance(loaded, Mapping):
        raise no_state_dict(path, loaded)
    under = next((name for name in NESTED if isinstance(loaded.get(name), Mapping)), "")
    inner = loaded[under] if under else loaded
    direct = [str(name) for name, value in inner.items() if isinstance(value, torch.Tensor)]
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in _walk(path, {under: inner, **loaded} if under else loaded):
        if name in tensors:
            raise CorruptCheckpoint(f"{path.name}: two tensors are called {name[:200]!r}, in dictionaries of two kinds")
        tensors[name] = tensor
    return StateDict(tensors, {name: f"{under}.{name}" if under else name for name in direct})


def no_state_dict(path: Path, found: object) -> CorruptCheckpoint:
    """The error for a file with something else in it: tensors in a list, say, which don't tell what is which weight."""
    kind = type(found).__name__.removeprefix("Stored").lower()
    count = f" of {len(found)}" if isinstance(found, list | tuple | set) else ""
    return CorruptCheckpoint(
        f'{path.name}: holds a {kind}{count}; expected a state dict, name → tensor, or {{"state_dict": …}}; save '
        "model.state_dict()"
    )


def _walk(path: Path, root: Mapping[Any, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of dictionaries within each other, level by level; one in two places is walked once."""
    level: list[tuple[str, Mapping[Any, Any]]] = [("", root)]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        below = []
        for prefix, value in level:
            for key, child in value.items() if id(value) not in seen else ():
                if not isinstance(child, torch.Tensor | Mapping) or (prefix and not isinstance(key, str | int)):
                    continue
                name = f"{prefix}{key}"
                if prefix and len(name) > _MAX_NAME:
                    raise CorruptCheckpoint(f"{path.name}: names of more than {_MAX_NAME} letters")
                if isinstance(child, torch.Tensor):
                    yield name, child
                else:
                    below.append((f"{name}.", child))
            seen.add(id(value))
        level = below


def requested_globals(path: Path) -> list[str]:
    """What a pickle file would import, besides the parts of tensors, sorted; reads opcodes and imports nothing."""
    found: set[str] = set()
    with suppress(*DAMAGE):  # the rest is no pickle; what was found up to there still counts
        for pickled in _pickles(path, is_archive(path)):
            found.update(_globals_of(pickled))
    return sorted(name for name in found if not _HARMLESS.match(name))


def _pickles(path: Path, zipped: bool) -> Iterator[IO[bytes]]:
    """Every pickle of a file, to be read from its beginning; from memory, so that it can't ask for more than there is.

    That of torch's old format has to be read to its end before the next one comes.
    """
    if zipped:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".pkl"):
                    with archive.open(member) as file:
                        yield io.BytesIO(file.read(MAX_PICKLE_BYTES))
    else:
        with path.open("rb") as file:
            head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
        for _ in range(_PICKLES):
            yield head


def _globals_of(file: IO[bytes]) -> Iterator[str]:
    """Dotted names of the globals of one pickle."""
    strings: list[str] = []
    for opcode, argument, _ in islice(pickletools.genops(file), MAX_PICKLE_OPERATIONS):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def check_archive(path: Path, torchscript: bool = False) -> bool:
    """Whether this is a zip archive; those of code or that unpack to more than they hold are refused.

    torch stores tensors uncompressed, so that no weight file grows.

    Args:
        path: the file.
        torchscript: let an archive of code pass, for somebody who leaves its code alone.

    Raises:
        CorruptCheckpoint: the archive is broken.
        UnsafeCheckpoint: it is one of those that are refused.
    """
    if not is_archive(path):
        return False
    with open_archive(path, CorruptCheckpoint, "a whole zip archive") as archive:
        members = archive.infolist()
    scripted = any(member.filename.endswith("/constants.pkl") for member in members)
    code = [member for member in members if scripted and "/code/" in member.filename]  # compressed, never read
    unpacked = sum(member.file_size for member in members) - sum(member.file_size for member in code)
    if unpacked > path.stat().st_size:
        raise UnsafeCheckpoint(
            f"{path.name}: the archive unpacks to {unpacked} bytes from {path.stat().st_size}; "
            "weight files are stored uncompressed, so this one is refused"
        )
    if scripted and not torchscript:
        raise UnsafeCheckpoint(
            f"{path.name}: a TorchScript archive, as OpenAI's original CLIP files are: code beside weights, so nothing "
            f"was loaded; {_CONVERT}"
        )
    return True


def check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Only plain tensors whose numbers are really in the file: a stride of 0 makes terabytes out of four bytes."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise CheckpointError(f"{path.name}: tensor {name!r} is sparse, quantized or empty of data; {_ADVICE}")
    if tensor.numel() * tensor.itemsize > path.stat().st_size:
        raise CorruptCheckpoint(
            f"{path.name}: tensor {name!r} declares {tensor.numel() * tensor.itemsize} bytes, "
            f"more than the whole file of {path.stat().st_size}"
        )
