"""Reading pickles of whole models without running or importing anything.

A pickle is a program for a small stack machine, and two of its instructions make it dangerous: importing a name and
calling it. The machine here has neither. Tensors, ordered dicts and plain containers are recognised by name and kept
as descriptions; whatever else a pickle would import or call becomes an inert :class:`Shell` that records its state.

No instruction copies anything that a pickle can make large, so memory stays proportional to the file; the number of
instructions is limited as well.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch

from merging.core.errors import CheckpointError, CorruptCheckpoint
from merging.core.gate import DAMAGE
from merging.core.limits import MAX_PICKLE_OPERATIONS

_MAX_NAME = 500  # characters of a dotted name; joining its halves is the one thing here that makes text
_MAX_PERSISTENT = 6  # parts of what names a storage
_MAX_DIMENSIONS = 16
_MAX_INTEGER = 2**48
META = "is a meta tensor, a shape without numbers"
_KEYS = (str, int, float, bool, bytes, type(None))  # hashing nested tuples can take for ever
_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}


# torch's functions for tensors that are not plain numbers in this file → what those are
_UNREAD = {
    "_rebuild_sparse_tensor": "is sparse",
    "_rebuild_meta_tensor_no_storage": META,
    "_rebuild_qtensor": "is quantised",
    "_rebuild_nested_tensor": "is nested, rows of several lengths",
    "_rebuild_wrapper_subclass": "is of a class of its own",
    "_rebuild_tensor_v3": "is of a type that can't be merged",
    **dict.fromkeys(
        ("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_xla_tensor"),
        "is that of another device",
    ),
}
_PLAIN = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"}


@dataclass(frozen=True)
class Global:
    """A dotted name that a pickle would import."""

    name: str


class Shell:
    """What stands for an object of an unknown class: the class's name, and the state it would have been given."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: object = None


@dataclass(frozen=True)
class StoredBytes:
    """A storage somewhere in the file: ``numel`` numbers of one dtype under a key."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a window on a storage that it is known to lie within."""

    storage: StoredBytes
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class UnreadTensor:
    """A tensor of a kind that is not read, and what that is, as the end of a sentence."""

    what: str


def load(file: IO[bytes], storages: dict[str, StoredBytes] | None = None) -> object:
    """The object of the pickle that begins here, with descriptions and shells in the place of everything but
    numbers, text, lists, tuples and dicts. Sets come as lists; dict entries whose key is no number or text are left
    out. The file is left where the pickle ends.

    Args:
        file: what to read from.
        storages: where to note the storages that the pickle names, by key.

    Raises:
        CorruptCheckpoint: it is no pickle, or describes impossible tensors.
        CheckpointError: it is too long, or its tensors are of a kind that is not read.
    """
    machine = _Machine({} if storages is None else storages)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= MAX_PICKLE_OPERATIONS:
                raise CheckpointError(
                    f"a pickle of more than {MAX_PICKLE_OPERATIONS} instructions; no model has so many"
                )
            if opcode.name == "STOP":
                return machine.stack.pop()
            _STEPS[opcode.name](machine, argument)
    except DAMAGE:
        raise CorruptCheckpoint("the pickle in it is damaged, cut off, or none; download or export it again") from None
    raise CorruptCheckpoint("the pickle in it ends early; download or export it again")


class _Machine:
    """The stack, what lies below the marks, the memo, and the storages that were named."""

    def __init__(self, storages: dict[str, StoredBytes]) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def mark(self, _: object) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, _: object) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_mark(self, _: object) -> None:
        self.since_mark()

    def last(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):  # what a shell is given besides its state is of no interest
            self.stack[-1].extend(items)

    def set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            target.update((key, value) for key, value in pairs if isinstance(key, _KEYS))

    def build(self, _: object) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Shell):
            self.stack[-1].state = state[0] if isinstance(state, tuple) and len(state) == 2 else state

    def call(self, _: object = None) -> None:
        function, arguments = self.last(2)
        self.push(_called(function, arguments))

    def call_with_names(self, _: object) -> None:
        function, arguments, _names = self.last(3)
        self.push(_called(function, arguments))

    def call_marked(self, _: object) -> None:
        function, *arguments = self.since_mark()
        self.push(_called(function, tuple(arguments)))

    def call_named(self, argument: str) -> None:
        self.push(_called(_global(argument.replace(" ", ".", 1)), tuple(self.since_mark())))

    def stack_global(self, _: object) -> None:
        module, name = self.last(2)
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > _MAX_NAME:
            raise ValueError
        self.push(_global(f"{module}.{name}"))

    def persistent(self, _: object) -> None:
        name = self.stack.pop()
        if not isinstance(name, tuple) or len(name) > _MAX_PERSISTENT:
            raise ValueError
        kind, what, *rest = name
        if kind == "module" and isinstance(what, Global):  # a class with its source text, in torch's old format
            self.push(what)
        else:
            storage = _storage(kind, what, *rest)
            self.storages[storage.key] = storage
            self.push(storage)


def _global(name: str) -> Global:
    if len(name) > _MAX_NAME:
        raise ValueError
    return Global(name)


def _called(function: object, arguments: object) -> object:
    """What stands for the result of a call; the arguments of a call that is not known are dropped."""
    name = function.name if isinstance(function, Global) else "an object"
    arguments = arguments if isinstance(arguments, tuple) else ()
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return _tensor(*arguments[:4])
    if name.startswith("torch._utils.") and name.removeprefix("torch._utils.") in _UNREAD:
        return UnreadTensor(_UNREAD[name.removeprefix("torch._utils.")])
    if name == "torch._tensor._rebuild_from_type_v2" and len(arguments) == 4:
        return _of_a_class(*arguments[:3])
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    if name == "collections.OrderedDict" and not arguments:
        return {}
    if name in ("builtins.set", "__builtin__.set", "torch.Size") and len(arguments) == 1:
        return arguments[0]
    if name in ("copyreg._reconstructor", "copy_reg._reconstructor") and arguments and isinstance(arguments[0], Global):
        return Shell(arguments[0].name)  # how objects were made before protocol 2
    return Shell(name)


def _of_a_class(function: object, kind: object, arguments: object) -> object:
    """A tensor with a class, or attributes, besides its numbers."""
    if isinstance(kind, Global) and kind.name in _PLAIN and function != Global("torch._tensor._rebuild_from_type_v2"):
        return _called(function, arguments)
    return UnreadTensor("is of a class of its own" + (f", {kind.name[:80]}" if isinstance(kind, Global) else ""))


def _storage(
    kind: object, storage_type: object, key: object, _location: object, numel: object, view: object = None
) -> StoredBytes:
    name = storage_type.name if isinstance(storage_type, Global) else ""
    dtype = _STORAGES.get(name.removeprefix("torch.").removesuffix("Storage"))
    if dtype is None or not name.startswith("torch."):
        raise CheckpointError(
            f"holds numbers of a kind that is not read ({name[:80] or 'unnamed'}), such as complex ones or those of 8 "
            "bits; save it with floating-point numbers of 16 bits or more"
        )
    if kind != "storage" or type(key) is not str or not _natural(numel) or view is not None:
        raise ValueError
    assert isinstance(numel, int)
    return StoredBytes(key, dtype, numel)


def _tensor(storage: object, offset: object, shape: object, stride: object) -> StoredTensor:
    """A tensor, once it is sure that it lies within its storage and has no more numbers than that."""
    if not isinstance(storage, StoredBytes) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS or not all(map(_natural, (offset, *shape, *stride))):
        raise ValueError
    if math.prod(max(size, 1) for size in shape) >= _MAX_INTEGER:
        raise ValueError  # a size of 0 hides others whose product overflows
    assert isinstance(offset, int)
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and (last >= storage.numel or math.prod(shape) > storage.numel):
        raise CorruptCheckpoint(
            f"a tensor of shape {list(shape)} reaches beyond its storage of {storage.numel} numbers"
        )
    return StoredTensor(storage, offset, shape, stride)


def _natural(number: object) -> bool:
    return type(number) is int and 0 <= number < _MAX_INTEGER


_Step = Callable[[_Machine, Any], None]


def _constant(make: Callable[[], object]) -> _Step:
    return lambda machine, _: machine.push(make())


def _tuple(count: int) -> _Step:
    return lambda machine, _: machine.push(tuple(machine.last(count)))


# Opcodes that are not here (extension registries, buffers outside the pickle, textual persistent names) end the reading
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(
        (
            "INT",
            "BININT",
            "BININT1",
            "BININT2",
            "LONG",
            "LONG1",
            "LONG4",
            "FLOAT",
            "BINFLOAT",
            "STRING",
            "BINSTRING",
            "SHORT_BINSTRING",
            "UNICODE",
            "BINUNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE8",
            "BINBYTES",
            "SHORT_BINBYTES",
            "BINBYTES8",
            "BYTEARRAY8",
        ),
        _Machine.push,
    ),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_SET": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_TUPLE": _constant(tuple),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": lambda machine, _: _dict(machine),
    "APPEND": lambda machine, _: machine.append(machine.last(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.set(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.push(_global(name.replace(" ", ".", 1))),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_names,
    "OBJ": _Machine.call_marked,
    "INST": _Machine.call_named,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}


def _dict(machine: _Machine) -> None:
    items = machine.since_mark()
    machine.push({})
    machine.set(items)
