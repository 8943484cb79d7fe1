"""The levels of headings, as whoever moves from one to the next is told them."""

import itertools
import re
from collections.abc import Sequence

from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Header, Subheader, Title

_LEVELS = {Title: 1, Header: 2, Subheader: 3}


def levels_of_app(app: AppTest) -> list[int]:
    """Those of a page of the dashboard, in its order."""
    return [_LEVELS[type(node)] for node in app.main if isinstance(node, Title | Header | Subheader)]


def levels_of_html(page: str) -> list[int]:
    """Those of a page of its own."""
    return [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]


def step_by_one(levels: Sequence[int]) -> bool:
    """Whether there is one title, first, and each section is one below what it is a part of.

    >>> step_by_one([1, 2, 3, 2]), step_by_one([1, 3]), step_by_one([1, 2, 1]), step_by_one([])
    (True, False, False, False)
    """
    return [*levels[:1]] == [1] == [one for one in levels if one == 1] and all(
        after <= before + 1 for before, after in itertools.pairwise(levels)
    )
