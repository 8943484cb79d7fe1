"""The Markdown of handouts: what it makes of text, and that nothing else gets through."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merging.core.markdown import to_html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo\n\nthree", "<p>one two</p><p>three</p>"),
        ("## Why `a<b`?", "<h3>Why <code>a&lt;b</code>?</h3>"),
        ("1. a\n2. **b**\nend", "<ol><li>a</li><li><strong>b</strong></li></ol><p>end</p>"),
        ("```\n<b>\n*x*\n```\nafter", "<pre>&lt;b&gt;\n*x*</pre><p>after</p>"),
        ("```\nnever closed", "<pre>never closed</pre>"),
        ("[a](https://b.org/?c=1&d=2)", '<p><a href="https://b.org/?c=1&amp;d=2">a</a></p>'),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ("<img src=x onerror=y> &lt;", "<p>&lt;img src=x onerror=y&gt; &amp;lt;</p>"),
        ("2 * 3 * 4 and **open", "<p>2 * 3 * 4 and **open</p>"),
        ("", ""),
    ],
)
def test_markdown_as_html(text: str, expected: str) -> None:
    assert to_html(text) == expected


@given(st.text(alphabet="<>&\"'`*#-1. \n[](){}:/ahtps!", max_size=80))
def test_there_are_no_tags_but_its_own(text: str) -> None:
    tags = set(re.findall(r"<[^>]*>", to_html(text)))
    own = r'</?(p|h3|ul|ol|li|pre|code|strong|em)>|</a>|<a href="https?://[^"<>\s]+">'
    assert all(re.fullmatch(own, tag) for tag in tags)
