"""Values and lists of names as sentences and labels show them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from types import NoneType, UnionType
from typing import Any

_NUMBER = re.compile(r"[0-9]{1,300}")  # as many digits as a file's name can have
SHOWN = 8  # names of a list in a sentence


def visible(text: str) -> str:
    r"""Text from outside for a terminal: what would steer it, or can't be written, by its escape.

    >>> print(visible("caf\udce9\x1b[31m, line\nby line"))
    caf\udce9\x1b[31m, line
    by line
    """
    return "".join(letter if letter == "\n" or letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def in_a_row(names: Iterable[str]) -> str:
    """Names as a sentence lists them.

    >>> in_a_row(["TIES"]), in_a_row(["TIES", "DARE"]), in_a_row(["TIES", "DARE", "TATR"])
    ('TIES', 'TIES and DARE', 'TIES, DARE and TATR')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def counted(number: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "task"), counted(8, "task")
    ('1 task', '8 tasks')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def natural(name: str) -> tuple[tuple[tuple[bool, int, str], ...], str]:
    """A key that sorts numbers in names as numbers, whatever the case of letters.

    >>> sorted(["10", "9", "b2", "B10"], key=natural)
    ['9', '10', 'b2', 'B10']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple((False, int(part), "") if _NUMBER.fullmatch(part) else (True, 0, part) for part in parts if part), name


def kind_of(value: object) -> str:
    """What a value of a file is, for people who know no Python.

    >>> kind_of([1]), kind_of(None), kind_of("a"), kind_of(0.5)
    ('a list', 'nothing', 'text', 'a number')
    """
    kinds: tuple[tuple[type | UnionType, str], ...] = (
        (Mapping, "names with values"),
        (list, "a list"),
        (tuple, "a tuple"),
        (set | frozenset, "a set"),
        (str | bytes, "text"),
        (bool, "true or false"),
        (int | float | complex, "a number"),
        (NoneType, "nothing"),
    )
    return next((words for kind, words in kinds if isinstance(value, kind)), "something else")


def shortened(names: Sequence[str], most: int = SHOWN) -> str:
    """The first names of a list, and how many more there are.

    >>> shortened(["a", "b"]), shortened([f"layer {number}" for number in range(40)], 2)
    ('a, b', 'layer 0, layer 1 and 38 more')
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def side_by_side(left: tuple[str, Sequence[str]], right: tuple[str, Sequence[str]], most: int = 200) -> list[str]:
    """Two lists with their titles in two columns, a line a pair.

    >>> side_by_side(("folders", ["n01", "n02"]), ("classes", ["tench"]))
    ['folders  classes', 'n01      tench', 'n02']
    """
    rows = list(zip_longest(left[1], right[1], fillvalue=""))[:most]
    width = max(len(one) for one, _ in [(left[0], ""), *rows])
    lines = [f"{one:<{width}}  {other}".rstrip() for one, other in [(left[0], right[0]), *rows]]
    more = max(len(left[1]), len(right[1])) - len(rows)
    return [*lines, f"and {more} more"] if more else lines


def printed(value: float, form: str = "g") -> str:
    """A number as people read it: with a minus sign, where Python has a hyphen.

    Files, JSON and what is typed keep the hyphen, as programs read those.

    Args:
        value: the number.
        form: how Python formats it.

    >>> printed(-0.25), printed(-11, "+.1f"), printed(1e-5)
    ('−0.25', '−11.0', '1e−05')
    """
    return format(value, form).replace("-", "−")


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign.

    >>> signed(-0.25, 2), signed(3)
    ('−0.25', '+3.0')
    >>> signed(0.1 + 0.2 - 0.3 - 1e-16), signed(-0.04)  # what is shown as nothing has no minus
    ('+0.0', '+0.0')
    """
    return printed(shown_as(value, digits), f"+.{digits}f")


def shown_as(value: float, digits: int = 1) -> float:
    """A number as it is shown with so many decimals, for what formats it itself: nothing has no minus.

    >>> shown_as(-0.04), shown_as(-0.06)
    (0.0, -0.1)
    """
    return round(value, digits) + 0.0


def short(value: Any) -> str:
    """A parameter's value in a few characters.

    >>> short(0.30000000001), short([0.3, -1.0]), short("row")
    ('0.3', '[0.3, −1]', 'row')
    """
    if isinstance(value, float):
        return printed(value)
    if isinstance(value, list):
        return "[" + ", ".join(short(item) for item in value) + "]"
    return str(value)
