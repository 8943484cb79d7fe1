"""What a pickle would cost whoever follows it, found out without making anything of it."""

import pickletools
from typing import IO

from merging.core.errors import CorruptCheckpoint
from merging.core.limits import MAX_PICKLE_OPERATIONS, MAX_TUPLE_DEPTH, MAX_TUPLE_VALUES

_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"}
_SMALL = (0, 1)  # depth and values of what is no tuple

_Size = tuple[int, int]


def require_bearable(file: IO[bytes]) -> None:
    """Walk through the pickle that begins here, and leave the file at its end.

    Tuples are measured, as they can be keys: to hash one takes a call for each tuple in it, those in those included,
    which a few bytes can make more of than there are atoms, or than fit on a processor's stack.

    Raises:
        CorruptCheckpoint: it has too many instructions, or tuples too deep or too large.
        ValueError, LookupError, …: it is no pickle.
    """
    stack: list[_Size | None] = []  # None is a mark
    memo: dict[int, _Size] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= MAX_PICKLE_OPERATIONS:
            raise CorruptCheckpoint(
                f"a pickle of more than {MAX_PICKLE_OPERATIONS} instructions; no model has so many, so it is not read"
            )
        if opcode.name == "MARK":
            stack.append(None)
        elif opcode.name in _PUT:
            memo[len(memo) if argument is None else int(argument)] = stack[-1] or _SMALL
        elif opcode.name in _GET:
            stack.append(memo[int(argument)])  # type: ignore[arg-type]
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        elif opcode.name == "POP":
            stack.pop()
        else:
            inside = _taken(stack, opcode)
            stack += [_joined(inside)] if opcode.name in _TUPLES else [_SMALL] * len(opcode.stack_after)


def _taken(stack: list[_Size | None], opcode: pickletools.OpcodeInfo) -> list[_Size]:
    """What an instruction takes from the stack, down to the last mark if it takes that."""
    before = opcode.stack_before
    count = len(before)
    if pickletools.markobject in before:
        count = stack[::-1].index(None) + 1 + before.index(pickletools.markobject)
    if count > len(stack):
        raise IndexError("nothing is left on the stack")
    taken = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return [one for one in taken if one is not None]


def _joined(inside: list[_Size]) -> _Size:
    depth = 1 + max((one[0] for one in inside), default=0)
    values = 1 + sum(one[1] for one in inside)
    if depth > MAX_TUPLE_DEPTH or values > MAX_TUPLE_VALUES:
        raise CorruptCheckpoint("a pickle with tuples in tuples without end; no model has those, so nothing was loaded")
    return depth, values
