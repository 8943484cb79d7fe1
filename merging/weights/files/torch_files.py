"""Reading ``.pt`` state dicts without running what is in them.

torch's restricted unpickler does the reading: it builds tensors and containers and refuses all else. What is here
decides beforehand whether the file is worth reading, and explains afterwards why it was not read.
"""

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch

from merging.core.archive import is_archive, open_archive
from merging.core.errors import CorruptCheckpoint, UnsafeCheckpoint
from merging.core.gate import DAMAGE
from merging.core.limits import MAX_PICKLE_BYTES, MAX_PICKLE_OPERATIONS
from merging.core.text import counted, kind_of, shortened
from merging.weights.files.containers import require_saved_by_torch
from merging.weights.files.folders import is_torch_file
from merging.weights.files.inert_pickle import META
from merging.weights.files.pickle_size import require_bearable

_CONVERT = "`merging convert` takes the tensors out of whole models without running anything"
_HARMLESS = re.compile(
    r"torch\._utils\.|torch\.(\w*Storage|Size|\w*float\w*|\w*int\w*)$|collections\.OrderedDict$"
    r"|(builtins|__builtin__)\.set$"
)
_NUMPY = re.compile(r"numpy\._?core\.(multiarray\._reconstruct|numeric\._frombuffer)$")
_OF_ARRAYS = re.compile(
    rf"{_NUMPY.pattern}|numpy\.(_?core\.multiarray\.scalar|ndarray|dtype)$|_codecs\.encode$"
    r"|torch\.storage\._load_from_bytes$"
)
MAGIC = 0x1950A86A20F9469CFC6C  # the number that begins torch's old format
NESTED = ("state_dict", "model_state_dict", "model")  # what training scripts save their weights under
_MAX_NAME = 1000  # characters; names grow with every dictionary
_DEEPEST = 12  # dictionaries within each other that are looked into
_LISTS_DEEP = 6  # lists and dictionaries within each other that are looked into for tensors
_PICKLES = 5  # torch's old format is five pickles and then raw bytes


@dataclass(frozen=True)
class Unread:
    """What a file holds of tensors that can't be read.

    Attributes:
        tensors: name → what it is, as the end of a sentence.
        lists: where lists hold tensors, which don't tell what is which weight.
    """

    tensors: Mapping[str, str] = field(default_factory=dict)
    lists: tuple[str, ...] = ()

    @property
    def lists_in_words(self) -> str:
        """What to say of the lists where no model is found outside of them; empty without any."""
        if not self.lists:
            return ""
        return (
            f"tensors are in lists: {shortened(self.lists, 3)}, which don't tell what is which weight, or which model "
            "is meant; save that model's state_dict() by itself"
        )


class Lists:
    """Looks for lists with tensors in them; each list and dictionary is looked into once, so that many cost little.

    Attributes:
        found: those there are, in words.
    """

    def __init__(self, *tensors: type) -> None:
        self.found: list[str] = []
        self._tensors = tensors
        self._seen: set[int] = set()

    def look(self, name: str, items: Sequence[object]) -> None:
        """Look into the list under a name."""
        if self._hold(items, _LISTS_DEEP):
            self.found.append(f"{counted(len(items), 'item')} under {name[:80]!r}")

    def _hold(self, value: object, depth: int) -> bool:
        if isinstance(value, self._tensors):
            return True
        if not isinstance(value, list | tuple | Mapping) or not depth or id(value) in self._seen:
            return False
        self._seen.add(id(value))
        return any(self._hold(one, depth - 1) for one in (value.values() if isinstance(value, Mapping) else value))


@dataclass(frozen=True)
class StateDict:
    """What a file of ``torch.save`` holds in dictionaries.

    Attributes:
        tensors: all tensors, however deep, named by the keys that lead to them with points between.
        own: name → name in ``tensors`` of those that are the file's subject: directly in a state dict, or in the first
            of :data:`NESTED`.
        lists: see :class:`Unread`.
    """

    tensors: dict[str, torch.Tensor]
    own: dict[str, str]
    lists: tuple[str, ...] = ()


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
    except Exception:  # damaged files make torch raise nearly anything, asserts and MemoryError included
        require_tensors_of_torch(path)
        names = requested_globals(path)
        if names:
            raise UnsafeCheckpoint(
                f"{path.name}: a pickle of Python objects, not a state dict (it asks for {shortened(names, 5)}); "
                f"loading it could run code, so nothing was loaded; {_CONVERT}"
            ) from None
        raise CorruptCheckpoint(
            f"{path.name}: torch can't read it; it is truncated, damaged or no weight file; download or export it again"
        ) from None
    if not isinstance(loaded, Mapping):
        raise no_state_dict(path, loaded)
    under = next((name for name in NESTED if isinstance(loaded.get(name), Mapping)), "")
    inner = loaded[under] if under else loaded
    direct = [str(name) for name, value in inner.items() if isinstance(value, torch.Tensor)]
    tensors: dict[str, torch.Tensor] = {}
    lists = Lists(torch.Tensor)
    for name, tensor in _walk(path, {under: inner, **loaded} if under else loaded, lists):
        if name in tensors:
            raise CorruptCheckpoint(f"{path.name}: two tensors are called {name[:200]!r}, in dictionaries of two kinds")
        tensors[name] = tensor
    return StateDict(tensors, {name: f"{under}.{name}" if under else name for name in direct}, tuple(lists.found))


def no_state_dict(path: Path, found: object) -> CorruptCheckpoint:
    """The error for a file with something else in it: tensors in a list, say, which don't tell what is which weight."""
    kind = "a tensor" if type(found).__name__.endswith("Tensor") else kind_of(found)
    count = f" of {len(found)}" if isinstance(found, list | tuple | set) else ""
    return CorruptCheckpoint(
        f'{path.name}: holds {kind}{count}; expected a state dict, name → tensor, or {{"state_dict": …}}; save '
        'model.state_dict(), or {"weight": tensor} of a head'
    )


def _walk(path: Path, root: Mapping[Any, Any], lists: Lists) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of dictionaries within each other, level by level; one in two places is walked once."""
    level: list[tuple[str, Mapping[Any, Any]]] = [("", root)]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        below = []
        for prefix, value in level:
            for key, child in value.items() if id(value) not in seen else ():
                if isinstance(child, list | tuple):
                    lists.look(f"{prefix}{key}", child)
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
    return sorted(name for name in _all_globals(path) if not _HARMLESS.match(name))


def _all_globals(path: Path) -> set[str]:
    found: set[str] = set()
    with suppress(*DAMAGE):  # the rest is no pickle; what was found up to there still counts
        for pickled in _pickles(path, is_archive(path)):
            found.update(_globals_of(pickled))
    return found


def require_tensors_of_torch(path: Path) -> None:
    """Refuse a file that is a pickle of other things than :func:`torch.save` makes of tensors, with what to do.

    Raises:
        UnsafeCheckpoint: its weights are arrays of numpy, or it was written by pickle alone. In both the numbers stand
            in the pickle itself, which would have to be as large as a model to be of use.
    """
    names = _all_globals(path)
    if not all(_HARMLESS.match(name) or _OF_ARRAYS.match(name) for name in names):
        return  # no advice to load what asks for anything else
    if "torch.storage._load_from_bytes" in names:
        what, save = "tensors in a pickle that torch.save did not write", "state"
    elif any(map(_NUMPY.match, names)) and not any(name.startswith("torch._utils._rebuild") for name in names):
        what = "arrays of numpy, not tensors of torch"
        save = "{name: torch.as_tensor(array) for name, array in state.items()}"
    else:
        return
    with path.open("rb") as file:
        of_torch = is_archive(path) or MAGIC.to_bytes(10, "little") in file.read(32)
    load = f"torch.load({path.name!r}, weights_only=False)" if of_torch else f"pickle.load(open({path.name!r}, 'rb'))"
    raise UnsafeCheckpoint(
        f"{path.name}: {what}; loading it could run code, so nothing was loaded, by convert neither; where you trust "
        f"who made it, write it anew in Python: state = {load}; torch.save({save}, 'tensors.pt'); where the weights "
        "lie in a dictionary within, take that as state"
    )


def arrays_beside(path: Path) -> str:
    """What to say of a file whose tensors are not all there, if it holds arrays of numpy, too; empty otherwise."""
    if not is_torch_file(path) or not any(map(_NUMPY.match, _all_globals(path))):
        return ""
    return (
        "; the file holds arrays of numpy besides, which are not read: where these are the missing ones, save a state "
        "dict in which torch.as_tensor(array) stands for each"
    )


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
    memo: dict[int, str] = {}
    count, last = 0, ""  # of what was remembered, and what the instruction before put there if that was text
    for opcode, argument, _ in islice(pickletools.genops(file), MAX_PICKLE_OPERATIONS):
        if opcode.name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[count if argument is None else int(argument)] = last
            count += 1
            continue
        last = memo.get(int(str(argument)), "") if opcode.name in ("GET", "BINGET", "LONG_BINGET") else ""
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            last = argument
        strings += [last] if last else []


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
    require_saved_by_torch(path, members)
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


def why_unread(path: Path, tensor: torch.Tensor) -> str:
    """What keeps a tensor from being read, as the end of a sentence; empty if nothing does.

    Only plain tensors are whose numbers are really in the file: a stride of 0 makes terabytes out of four bytes.
    """
    if tensor.device.type == "meta":
        return META
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is sparse" if tensor.layout != torch.strided else "is nested"
    if tensor.is_quantized or tensor.device.type != "cpu":
        return "is quantised" if tensor.is_quantized else f"is that of another device, {tensor.device.type}"
    if tensor.numel() * tensor.itemsize > path.stat().st_size:
        size = path.stat().st_size
        return f"declares {tensor.numel() * tensor.itemsize} bytes, more than the whole file of {size}"
    return ""
