"""What is wrong with YAML, in words that lead somewhere."""

import re

import yaml

_UNKNOWN = "nothing that can be read stands here; look at the indentation, quotes and brackets{1}"
_IN_QUOTES = "put it into quotes"
_ON_WINDOWS = "write '…' for paths of Windows"
# What libyaml and PyYAML say → what that mostly is, and what to do about it; of several that fit the first counts.
_MEANT = (
    (r"'\\t'|tab character", "a tab; indent with blanks, and put text with tabs into quotes"),
    (r"found character '?([@`%])", f"text can't begin with {{0}} by itself; {_IN_QUOTES}"),
    (
        r"found character .{0,8} ?that",
        "a tab, or text that begins with @, ` or %; indent with blanks, and put such text into quotes",
    ),
    (
        r"mapping values are not allowed",
        "a colon, where none can be: put text that holds ': ' into quotes, and let names of one level begin in one "
        "column",
    ),
    (r"quoted scalar.*(?:end of stream|document separator)", "a quote is not closed{1}; close it"),
    (r"unknown escape character(?: '(.))?", f"in double quotes \\{{0}} stands for no sign; {_ON_WINDOWS}"),
    (r"escape sequence|hexdecimal", f"in double quotes \\ begins a sign written as numbers; {_ON_WINDOWS}"),
    (
        r"flow (?:sequence|mapping|node)",
        "a bracket that is not closed, or no comma between two entries{1}; write [a, b] or {{name: value}}",
    ),
    (r"could not find expected ':'", "a line without a colon; write name: value, and text of several lines in quotes"),
    (r"alias|anchor", f"text that begins with * or & is taken for a reference; {_IN_QUOTES}"),
    (r"\btag\b", f"text that begins with ! is taken for a type, and none is taken here; {_IN_QUOTES}"),
    (
        r"<block end>, but found '(?:<scalar>|\]|\}|,)'",
        "something behind a value that has ended; an apostrophe within '…' is written twice",
    ),
    (
        r"block (?:mapping|collection|sequence)|sequence entries are not",
        "not in one column with the other entries of its list or mapping{1}; indent all of them alike, with a blank "
        "behind each dash and colon",
    ),
    (r"block scalar|comment or a line break", f"text behind | or >; begin it on the next line, or {_IN_QUOTES}"),
    (
        r"single document|document (?:start|separator)",
        "a second document begins here; a file holds one, so take out the line ---",
    ),
    (r"nest|depth", "lists or mappings nested too deeply to be read"),
    (r"node content", "a sign where a value is to begin; put text that begins with one into quotes"),
    (r"directive|YAML (?:document|version)", "a line with % at its beginning; take it out"),
)


def yaml_problem_in_words(problem: yaml.YAMLError) -> str:
    """What is wrong with YAML in one line: where, what, and what to do; the parser's own words help few people."""
    if isinstance(problem, yaml.reader.ReaderError):
        sign = chr(problem.character) if isinstance(problem.character, int) else problem.character
        return f"the sign {sign!a} can't stand in it; take it out"
    if not isinstance(problem, yaml.MarkedYAMLError) or problem.problem is None:
        return str(problem)[:300]
    mark = problem.problem_mark
    found = [(saying, re.search(known, f"{problem.context}: {problem.problem}")) for known, saying in _MEANT]
    said, match = next(((saying, match) for saying, match in found if match), (_UNKNOWN, None))
    begun = problem.context_mark
    begins = f" (it begins on line {begun.line + 1})" if begun is not None and mark and begun.line < mark.line else ""
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return where + said.format((match[1] or "")[:80] if match and match.groups() else "", begins)
