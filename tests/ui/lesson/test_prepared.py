"""Lessons that teachers prepare: kept and found again as they were; files that are none are refused."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.core.errors import SpecError
from merging.core.files import remove_leftovers
from merging.core.limits import MAX_LESSON_BYTES, MAX_LESSON_TEXT
from tests.killing import again_and_again, killed_once
from ui.lesson import prepared
from ui.lesson.prepared import Lessons, Prepared, read

LESSON = Prepared("mini", ("digits", "signs"), {3: "Own **words**\n\n- a\n- b", 1: "", 8: "λ"}, "Merging: a title")
HEAD = "---\nsuite: mini\ntasks: [digits]\n---\n"


def test_a_lesson_is_found_as_it_was_kept(tmp_path: Path) -> None:
    lessons = Lessons(tmp_path)
    name = lessons.keep(LESSON, 8)
    assert lessons.find(name, 8) == LESSON and lessons.find(name, 8).steps == (3, 1, 8)
    assert lessons.keep(LESSON, 8) == name
    other = lessons.keep(Prepared("mini", ("digits",), {1: ""}), 8)
    assert other != name and len(list((tmp_path / "lessons").iterdir())) == 2


def test_a_kill_leaves_no_half_lesson(tmp_path: Path) -> None:
    lessons = Lessons(tmp_path)

    def keep(number: int) -> None:
        lessons.keep(Prepared("mini", ("digits",), {1: f"{number} " * 400}), 8)

    assert killed_once(lambda: len(list(tmp_path.glob("lessons/*.md"))) > 3, again_and_again(keep))
    kept = list(tmp_path.glob("lessons/*.md"))
    for path in kept:
        assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem)
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.glob("lessons/*")) == sorted(kept)


@given(st.dictionaries(st.integers(1, 8), st.text(max_size=60), min_size=1), st.text(max_size=20))
def test_any_words_come_back_or_are_refused(texts: dict[int, str], title: str) -> None:
    lesson = Prepared("a suite: #1", ("one", "- two"), texts, title)
    try:
        found = read(lesson.written(), 8)
    except SpecError:
        return
    assert found.steps == lesson.steps or "## Step" in lesson.written()
    assert (found.suite, found.tasks, found.title) == (lesson.suite, lesson.tasks, title)
    assert all(own.split() == texts[number].split() for number, own in found.texts.items())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("## Step 1\n", "begins with suite and tasks"),
        ("---\nsuite: mini\n## Step 1\n", "begins with suite and tasks"),
        ("---\nsuite: [\n---\n## Step 1\n", "not closed"),
        ("---\nsuite: mini\n---\n## Step 1\n", "expected suite, tasks"),
        (HEAD.replace("suite", "more: 1\nsuite") + "## Step 1\n", "nothing else"),
        (HEAD.replace("[digits]", "digits") + "## Step 1\n", "a list of different names"),
        (HEAD.replace("[digits]", "[digits, digits]") + "## Step 1\n", "a list of different names"),
        (HEAD.replace("mini", "1") + "## Step 1\n", "are text"),
        (HEAD, "no step in it"),
        (HEAD + "words\n## Step 1\n", "before the first"),
        (HEAD + "## Step 9\n", "from 1 to 8"),
        (HEAD + "## Step 0\n", "from 1 to 8"),
        (HEAD + "## Step 1\n## Step 1\n", "once at most"),
        (HEAD + "## Step 1\n" + "x" * (MAX_LESSON_TEXT + 1), "letters"),
    ],
)
def test_what_is_no_lesson_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        read(text, 8)


@pytest.mark.parametrize("name", ["", "../runs", "0" * 12, "0" * 11, "A" * 12, "x\0", "/etc/passwd"])
def test_a_link_finds_lessons_only(name: str, tmp_path: Path) -> None:
    (tmp_path / "runs.md").write_text(LESSON.written())
    with pytest.raises(SpecError, match="no prepared lesson"):
        Lessons(tmp_path).find(name, 8)


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lessons = Lessons(tmp_path)
    with pytest.raises(SpecError, match="can't stand in the words"):
        lessons.keep(Prepared("mini", ("digits",), {1: "a\n## Step 2\nb"}), 8)
    many = dict.fromkeys(range(1, 9), "ä" * MAX_LESSON_TEXT)
    with pytest.raises(SpecError, match="shorten"):
        lessons.keep(Prepared("mini", tuple(f"task {n}" for n in range(1000)), many), 8)
    name = lessons.keep(LESSON, 8)
    (tmp_path / "lessons" / f"{name}.md").write_bytes(b"x" * (MAX_LESSON_BYTES + 1))
    with pytest.raises(SpecError, match="at most"):
        lessons.find(name, 8)
    monkeypatch.setattr(prepared, "MOST", 1)
    with pytest.raises(SpecError, match="kept already"):
        lessons.keep(Prepared("mini", ("digits",), {1: ""}), 8)
