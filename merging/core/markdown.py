"""A little Markdown as HTML, for pages that are printed: paragraphs, lists, headings, code, bold, italic and links.

Headings of any level are of the third, below the title and a section of the page that the text stands in.

Everything else, markup of HTML above all, stays the text that it is.
"""

import html
import re
from collections.abc import Callable

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\[(?P<words>[^\]]+)\]\((?P<link>https?://[^\s()<>\"]+)\)"
    r"|\*\*(?P<bold>[^*]+)\*\*"
    r"|\*(?P<italic>[^*\s][^*]*)\*"
)
_ITEM = re.compile(r"\s{0,3}(?:[-*+]|(?P<number>\d{1,9})[.)])\s+(?P<text>.*)")
_HEADING = re.compile(r"#{1,6}\s+(?P<text>.*?)\s*#*")
_FENCE = "```"


def to_html(text: str) -> str:
    """Markdown as HTML.

    >>> to_html("**One** <b>line</b>\\nmore\\n\\n- a\\n- *b*")
    '<p><strong>One</strong> &lt;b&gt;line&lt;/b&gt; more</p><ul><li>a</li><li><em>b</em></li></ul>'
    """
    done: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if line.strip().startswith(_FENCE):
            kept = _taken(lines, lambda one: not one.strip().startswith(_FENCE))
            del lines[:1]  # the fence at its end
            done.append(f"<pre>{html.escape(chr(10).join(kept))}</pre>")
        elif heading := _HEADING.fullmatch(line):
            done.append(f"<h3>{_inline(heading['text'])}</h3>")
        elif item := _ITEM.fullmatch(line):
            kind = "ol" if item["number"] else "ul"
            found = [item, *map(_ITEM.fullmatch, _taken(lines, lambda one: _ITEM.fullmatch(one) is not None))]
            items = "".join(f"<li>{_inline(one['text'])}</li>" for one in found if one)
            done.append(f"<{kind}>{items}</{kind}>")
        elif line.strip():
            more = _taken(lines, lambda one: bool(one.strip()) and not _begins_anew(one))
            done.append(f"<p>{_inline(' '.join([line.strip(), *map(str.strip, more)]))}</p>")
    return "".join(done)


def _taken(lines: list[str], goes_on: Callable[[str], bool]) -> list[str]:
    """The first lines that go on what came before, taken out of the list."""
    count = next((place for place, line in enumerate(lines) if not goes_on(line)), len(lines))
    taken, lines[:] = lines[:count], lines[count:]
    return taken


def _begins_anew(line: str) -> bool:
    return line.strip().startswith(_FENCE) or any(kind.fullmatch(line) for kind in (_HEADING, _ITEM))


def _inline(text: str) -> str:
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(html.escape(text[end : found.start()]))
        end = found.end()
        if found["code"]:
            parts.append(f"<code>{html.escape(found['code'])}</code>")
        elif found["link"]:
            parts.append(f'<a href="{html.escape(found["link"])}">{html.escape(found["words"])}</a>')
        elif found["bold"]:
            parts.append(f"<strong>{html.escape(found['bold'])}</strong>")
        else:
            parts.append(f"<em>{html.escape(found['italic'])}</em>")
    return "".join([*parts, html.escape(text[end:])])
