"""What people write about a run: a name, a note, tags, a star. None of it changes what the run is."""

import json
import re
from collections.abc import Iterable

from merging.core.errors import RunError
from merging.runs.run import Run
from merging.runs.table import RunStore

MAX_NAME, MAX_NOTE, MAX_TAG, MAX_TAGS = 120, 10_000, 40, 20  # letters, and tags of a run


def annotate(
    store: RunStore,
    run_id: str,
    *,
    name: str | None = None,
    note: str | None = None,
    tags: Iterable[str] | None = None,
    star: bool | None = None,
) -> Run:
    """Write about a run; what is None stays as it is.

    Args:
        store: where it is.
        run_id: its id or an unambiguous beginning of it.
        name: one line, empty for none.
        note: Markdown, empty for none.
        tags: all of its tags.
        star: whether it is marked.

    Raises:
        RunError: there is no such run, it came with its suite, or something is too long.
    """
    run = store.get(run_id)
    if run.shipped:
        raise RunError(f"run {run.id} came with its suite, and is nobody's own to write about; run it again first")
    values: dict[str, object] = {}
    if name is not None:
        values["name"] = fitting_name(name)
    if note is not None:
        values["note"] = fitting_note(note)
    if tags is not None:
        values["tags"] = json.dumps(fitting_tags(tags), ensure_ascii=False)
    if star is not None:
        values["star"] = int(star)
    if values:
        settings = ", ".join(f"{column} = ?" for column in values)
        with store.writing() as connection:
            connection.execute(f"update runs set {settings} where id = ?", (*values.values(), run.id))
            connection.execute("delete from listed where run = ?", (run.id,))
    return store.get(run.id)


def fitting_name(name: str) -> str:
    """A name on one line.

    Raises:
        RunError: it is too long.

    >>> fitting_name("  the one \\n for the paper")
    'the one for the paper'
    """
    name = " ".join(_readable(name).split())
    if len(name) > MAX_NAME:
        raise RunError(f"a name of {len(name)} letters; at most {MAX_NAME} are kept, put the rest into the note")
    return name


def fitting_note(note: str) -> str:
    """A note without what terminals would obey.

    Raises:
        RunError: it is too long.
    """
    note = _readable(note).strip()
    if len(note) > MAX_NOTE:
        raise RunError(f"a note of {len(note):,} letters; at most {MAX_NOTE:,} are kept")
    return note


def fitting_tags(tags: Iterable[str]) -> list[str]:
    """Tags, each once whatever the case of its letters; with commas between them one text may hold several.

    Raises:
        RunError: one is too long, or there are too many.

    >>> fitting_tags(["paper, Seed study", "PAPER"])
    ['paper', 'Seed study']
    """
    found: dict[str, str] = {}
    for part in ",".join(tags).split(","):
        tag = " ".join(_readable(part).split())
        if len(tag) > MAX_TAG:
            raise RunError(f"a tag of {len(tag)} letters ({tag[:MAX_TAG]} …); at most {MAX_TAG} are kept")
        if tag:
            found.setdefault(tag.casefold(), tag)
    if len(found) > MAX_TAGS:
        raise RunError(f"{len(found)} tags; a run can have {MAX_TAGS}")
    return list(found.values())


def _readable(text: str) -> str:
    return "".join(letter for letter in text if letter in "\n\t" or letter.isprintable())


def note_as_markdown(note: str) -> str:
    """A note for a page: Markdown, in which HTML stays text and nothing is fetched from elsewhere.

    A picture would be loaded from where it lies as soon as the note is looked at, so that it becomes a link.

    >>> note_as_markdown("![a](http://x/y.png) <b>bold</b> **bold**")
    '[a](http://x/y.png) &lt;b>bold&lt;/b> **bold**'
    """
    return re.sub(r"!+(?=\[)", "", note).replace("<", "&lt;")
