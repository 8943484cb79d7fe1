"""A lesson that a teacher prepared: which steps, with words of one's own, as a Markdown file.

::

    ---
    title: Merging models
    suite: mini
    tasks: [digits, signs]
    ---

    ## Step 1

    ## Step 3

    What **we** saw last week …

Steps are shown in the order of the file; one without words keeps its own. The file's name is a hash of what is in it,
so that a link shows what it showed when it was made, or nothing.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from merging.core import gate
from merging.core.errors import SpecError
from merging.core.files import atomic_path
from merging.core.limits import MAX_LESSON_BYTES, MAX_LESSON_TEXT
from merging.core.yaml_problems import yaml_problem_in_words
from merging.core.yaml_text import parse_yaml

MOST = 500  # lessons that are kept
_NAMES = ("title", "suite", "tasks")
_FENCE = "---"
_STEP = re.compile(r"##\s+Step\s+(\d{1,3})\s*")
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Prepared:
    """A prepared lesson.

    Attributes:
        suite: short name of the suite, as in links.
        tasks: the tasks.
        texts: number of each step shown, from 1, in order → words instead of its own, in Markdown; none if empty.
        title: of lesson and handout; none, and a usual one on paper, if empty.
    """

    suite: str
    tasks: tuple[str, ...]
    texts: Mapping[int, str] = field(default_factory=dict)
    title: str = ""

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of the steps."""
        return tuple(self.texts)

    def written(self) -> str:
        """The file."""
        about: dict[str, Any] = {"title": self.title} if self.title else {}
        about |= {"suite": self.suite, "tasks": list(self.tasks)}
        head = yaml.safe_dump(about, allow_unicode=True, sort_keys=False, width=10_000)
        parts = [f"## Step {number}\n\n{text.strip()}".strip() for number, text in self.texts.items()]
        return "\n\n".join([f"{_FENCE}\n{head}{_FENCE}", *parts]) + "\n"


def read(text: str, steps: int, name: str = "the lesson") -> Prepared:
    """What a file says.

    Args:
        text: its content.
        steps: how many steps there are.
        name: of the file, for errors.

    Raises:
        SpecError: it is no such file, or names what there is not.
    """
    lines = text.splitlines()
    if lines[:1] != [_FENCE] or _FENCE not in lines[1:]:
        raise SpecError(f"{name}: a lesson begins with suite and tasks between two lines of {_FENCE}; this does not")
    end = lines.index(_FENCE, 1)
    about = _about("\n".join(lines[1:end]), name)
    texts: dict[int, list[str]] = {}
    words: list[str] | None = None
    for line in lines[end + 1 :]:
        if found := _STEP.fullmatch(line):
            number = int(found[1])
            if not 1 <= number <= steps or number in texts:
                raise SpecError(f"{name}: ## Step {number} is expected once at most, and from 1 to {steps}")
            words = texts[number] = []
        elif words is not None:
            words.append(line)
        elif line.strip():
            raise SpecError(f"{name}: {line.strip()[:40]!r} stands before the first ## Step; put it below one")
    if not texts:
        raise SpecError(f"{name}: no step in it; write a line such as ## Step 1 for each")
    joined = {number: "\n".join(lines).strip() for number, lines in texts.items()}
    for number, own in joined.items():
        if len(own) > MAX_LESSON_TEXT:
            raise SpecError(f"{name}: the text of step {number} has {len(own)} letters; at most {MAX_LESSON_TEXT} fit")
    return Prepared(about["suite"], tuple(about["tasks"]), joined, about.get("title", ""))


def _about(text: str, name: str) -> dict[str, Any]:
    try:
        about = parse_yaml(text)
    except yaml.YAMLError as problem:
        raise SpecError(f"{name}: {yaml_problem_in_words(problem)}") from None
    if not isinstance(about, dict) or not set(about) <= set(_NAMES) or not {"suite", "tasks"} <= set(about):
        raise SpecError(f"{name}: expected suite, tasks and maybe title between the lines of {_FENCE}, nothing else")
    tasks = about["tasks"]
    named = isinstance(tasks, list) and tasks and len(set(map(str, tasks))) == len(tasks)
    if not named or not all(isinstance(one, str) for one in (*tasks, about["suite"], about.get("title", ""))):
        raise SpecError(f"{name}: suite and title are text, tasks a list of different names")
    return about


class Lessons:
    """The prepared lessons of a folder for runs."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "lessons"

    def keep(self, lesson: Prepared, steps: int) -> str:
        """Keep a lesson; gives the name by which a link finds it.

        Raises:
            SpecError: it is no lesson, too long, or there are too many already.
            CheckpointError: the folder can't be written to.
        """
        text = lesson.written()
        content = text.encode()
        if len(content) > MAX_LESSON_BYTES:
            raise SpecError(f"the lesson has {len(content)} bytes; at most {MAX_LESSON_BYTES} are kept; shorten it")
        if tuple(read(text, steps).texts) != lesson.steps:
            raise SpecError("a line such as ## Step 3 can't stand in the words of a step; leave it out")
        name = hashlib.sha256(content).hexdigest()[:12]
        path = self._folder / f"{name}.md"
        if not path.exists():
            if sum(1 for _ in self._folder.glob("*.md")) >= MOST:
                raise SpecError(f"{MOST} lessons are kept already; delete some in the folder lessons beside the runs")
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        return name

    def find(self, name: str, steps: int) -> Prepared:
        """The lesson that a link names.

        Raises:
            SpecError: there is none, or its file is broken or was changed.
        """
        if not _ID.fullmatch(name) or not (self._folder / f"{name}.md").exists():
            raise SpecError(f"there is no prepared lesson {name[:40]!r} here")
        path = self._folder / f"{name}.md"
        text = gate.read_text(path, SpecError, MAX_LESSON_BYTES)
        return read(text, steps, path.name)
