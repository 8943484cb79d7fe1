"""``python -m studies.docs``: the tables of the README and of ``docs/`` that come from code or from stored results.

A page holds such a table between two comments that name it, ``<!-- edits: made by make docs -->`` and
``<!-- end of edits -->``; what stands between them is replaced. Everything else on a page is written by hand.
"""

import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from merging.charts.theme import style_of
from merging.cli import main as command_line
from merging.core import limits
from merging.core.files import atomic_path
from merging.core.text import printed
from merging.evaluation.accuracy import best_first
from merging.methods.catalogue import catalogue
from merging.methods.grammar import write_value
from merging.methods.presets import PRESETS
from merging.runs.beyond import ON_CLEAN
from merging.runs.leaderboard import OUR_OWN, data_looked_at, two_settings
from merging.suites.images.corruptions import CORRUPTIONS
from merging.suites.reported import reported_tables, to_markdown
from merging.sweeps.domains import MAX_TRIALS
from studies.beyond import GENERALISE, METHODS, ROBUSTNESS, Difference, corrupted_difference, differences, stored
from studies.tables import gain
from ui.accuracy.preset_runs import METHODS as METHODS_AT_START
from ui.shell import rights

ROOT = Path(__file__).resolve().parents[1]
BOARD = Path(__file__).parent / "results" / "leaderboard.json"  # as `merging leaderboard mini --json` prints it
RELATED_BOARD = BOARD.with_name("leaderboard-related.json")  # the same of mini-related
SECOND_MINI = BOARD.with_name("second-mini.json")  # from another seed; how far the own merge is ahead, in points
VARIANTS = Path(__file__).parent / "results" / "variants.json"  # as studies.variants writes it
PAGES = {
    "README.md": "README",
    "docs/dashboard.md": "Dashboard",
    "docs/runs.md": "Runs",
    "docs/methods.md": "Methods",
    "docs/own-methods.md": "Your own methods",
    "docs/results.md": "Results",
    "docs/suites.md": "Suites",
    "docs/command-line.md": "Command line",
    "docs/cluster.md": "Clusters",
    "docs/python.md": "Python",
    "docs/performance.md": "Performance",
    "docs/hosting.md": "Hosting",
    "docs/security.md": "Security",
    "docs/design.md": "Design",
}  # in the order in which they are read
OWN_MERGE = "docs/own-merge.md"  # one of the studies, beside the pages
FIRST_LOOK = "ui/look/first_look.html"  # what the dashboard shows while it starts
_SHORT = (
    "Individual",
    "DOGE AM",
    "Overlap-scaled WUDI",
    "AdaMerging from WUDI",
    "ACE-Merging",
    "WUDI, closed form",
    "TSV-M",
    "AdaMerging",
    "TIES",
    "AWD + Task Arithmetic",
    "Task Arithmetic",
    "Weight averaging",
    "Zero-shot",
)
_BASELINES = {"Zero-shot": "zero-shot (the base model)", "Individual": "individual (one model a task)"}
_BLOCK = re.compile(r"(?s)(<!-- (?P<name>[\w-]+): made by make docs -->\n).*?( *<!-- end of (?P=name) -->)")


def render(page: str, text: str) -> str:
    """A page with every table made again.

    Args:
        page: its path in the repository.
        text: the page as it is.

    Raises:
        KeyError: it names a table that there is not.
    """
    return _BLOCK.sub(lambda found: f"{found[1]}{TABLES[found['name']](page).rstrip()}\n{found[3]}", text)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """A table whose last columns, so many, are numbers."""
    marks = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    lines = [" | ".join(header), "|".join(marks), *(" | ".join(row) for row in rows)]
    return "\n".join(f"|{line}|" if line == lines[1] else f"| {line} |" for line in lines)


def _pages(page: str) -> str:
    """Links to all other pages."""
    return " · ".join(
        f"**{title}**" if path == page else f"[{title}]({os.path.relpath(path, Path(page).parent)})"
        for path, title in PAGES.items()
    )


def _paper(row: Mapping[str, Any]) -> str:
    return f"[paper]({row['paper']})" if row["paper"] else "–"


def _built_in(kind: str) -> list[dict[str, Any]]:
    """What everybody has; methods of whoever makes the pages are none of it."""
    return [row for row in catalogue()[kind] if "source" not in row]


def _stages(kind: str) -> str:
    rows = [
        [f"`{row['name']}`", f"{row['title']}: {row['summary']}", row["needs"], _paper(row)] for row in _built_in(kind)
    ]
    return _table(["name", "what it does", "data needed", ""], rows)


def _presets(_: str) -> str:
    def stage(name: str, values: Mapping[str, Any]) -> str:
        given = ", ".join(f"{key} = {write_value(value)}" for key, value in values.items())
        return f"`{name}`" + (f" ({given})" if given else "")

    rows = [
        [
            f"`{row['name']}`",
            row["title"] + (OUR_OWN if row["own"] else ""),
            stage(row["edit"], row["edit_params"]),
            stage(row["merge"], row["merge_params"]),
            row["needs"],
            row["note"],
        ]
        for row in _built_in("presets")
    ]
    return _table(["preset", "published as", "edit", "merge", "data needed", "note"], rows)


def _parameters(_: str) -> str:
    """A table for every edit and merge that has any."""
    parts = []
    for kind in ("edits", "merges"):
        for row in _built_in(kind):
            if row["parameters"]:
                rows = [
                    [
                        f"`{kind[:-1]}.{each['name']}`",
                        f"`{_written(each['default'])}`",
                        _allowed(each),
                        each["description"].replace("|", "\\|"),
                    ]
                    for each in row["parameters"]
                ]
                title = f"### {row['title']} (`{kind[:-1]}={row['name']}`)"
                parts.append(f"{title}\n\n" + _table(["parameter", "default", "values", "what it is"], rows))
    return "\n\n".join(parts)


def _written(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _allowed(parameter: Mapping[str, Any]) -> str:
    bounds = [f"{sign} {printed(parameter[name])}" for name, sign in _BOUNDS.items() if name in parameter]
    return ", ".join([parameter["type"].replace(" | ", " or "), *bounds])


def _commands(_: str) -> str:
    rows = [[f"`merging {name}`", first_sentence(command)] for name, command in commands(command_line)]
    return _table(["command", "what it does"], rows)


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """All commands by the words that call them, those of groups as well."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def first_sentence(command: click.Command) -> str:
    """What its help begins with."""
    return str(re.split(r"(?<=\.)\s", " ".join((command.help or "").split()), maxsplit=1)[0])


def _board(stored: Path = BOARD) -> list[dict[str, Any]]:
    """The rows of a stored leaderboard, best average first."""
    rows = json.loads(stored.read_text(encoding="utf-8"))["rows"]
    return [rows[place] for place in best_first([row["average"] for row in rows])]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _name(row: Mapping[str, Any]) -> str:
    """A row's method, or what its model is called."""
    return _BASELINES.get(row["method"], str(row["method"])) + (OUR_OWN if row["method"] in _own() else "")


def _own() -> set[str]:
    return {preset.title for preset in PRESETS.values() if preset.ours}


def _needs(row: Mapping[str, Any]) -> str:
    """What data a method needs by itself; a base or task model is no method."""
    return "" if row["method"] in _BASELINES else str(row["needs"])


def _short_leaderboard(_: str) -> str:
    rows = [
        [_name(row), _needs(row), f"**{_percent(row['average'])}**", _percent(row["normalised"])]
        for row in _board()
        if row["method"] in _SHORT
    ]
    return _table(["method", "data needed", "average", "normalised"], rows, numbers=2)


def _first_look(_: str) -> str:
    """Rows in HTML: the methods of the page Start, each with a bar as long as its average is high."""
    found = {row["method"]: _percent(row["average"]) for row in _board()}
    titles = ["Zero-shot", *(PRESETS[name].title for name in METHODS_AT_START), "Individual"]
    return "\n".join(
        f'        <tr><th scope="row">{title}</th>'
        f'<td><div style="width: {found[title]}%; background: {style_of(title).color}"></div></td>'
        f"<td>{found[title]} %</td></tr>"
        for title in titles
    )


def _leaderboard(_: str) -> str:
    """The methods that give one model, with the models that are not merged."""
    return _long_leaderboard([row for row in _board() if row["method"] not in _localised()])


def _leaderboard_localised(_: str) -> str:
    """The methods that give a model for each task."""
    return _long_leaderboard([row for row in _board() if row["method"] in _localised()])


def _leaderboard_related(_: str) -> str:
    """Those measured on the suite of related tasks that give one model."""
    return _long_leaderboard([row for row in _board(RELATED_BOARD) if row["method"] not in _localised()])


def _second_mini(_: str) -> str:
    """Methods on the suite trained again, and how far the project's own is ahead of each."""
    rows = [
        [
            _BASELINES.get(row["method"], row["method"]),
            row["needs"] if row["method"] not in _BASELINES else "",
            "" if row["scaling"] is None else f"{row['scaling']:g}",
            _percent(row["average"]),
            "" if row["difference"] is None else f"{row['difference'][0]:.1f} ± {row['difference'][1]:.1f}",
        ]
        for row in json.loads(SECOND_MINI.read_text(encoding="utf-8"))["rows"]
    ]
    return _table(["merge", "data needed", "λ", "average", "difference"], rows, numbers=3)


def _localised() -> set[str]:
    return {preset.title for preset in PRESETS.values() if preset.pair.localised}


def _long_leaderboard(board: Sequence[Mapping[str, Any]]) -> str:
    tasks = list(board[0]["accuracy"])
    rows = [
        [
            _name(row),
            _needs(row),
            _chosen(row),
            *(_percent(row["accuracy"][task]) for task in tasks),
            f"**{_percent(row['average'])}**",
            _percent(row["normalised"]),
            "" if row["scaling"] is None else f"{row['scaling']:g}",
        ]
        for row in board
    ]
    header = ["method", "data needed", "chosen", *tasks, "**average**", "normalised", "λ"]
    return _table(header, rows, numbers=len(tasks) + 3)


def _chosen(row: Mapping[str, Any]) -> str:
    """What was chosen on validation, as people call it."""
    titles = {preset.title: preset for preset in PRESETS.values()}
    return data_looked_at(titles[row["method"]]).chosen_words if row["method"] in titles else ""


def _variants(table: str) -> list[dict[str, Any]]:
    """The stored rows of one table."""
    return [row for row in json.loads(VARIANTS.read_text(encoding="utf-8")) if row["table"] == table]


def _scaling(row: Mapping[str, Any]) -> str:
    return "" if row["scaling"] is None else f"{row['scaling']:g}"


def _layers(_: str) -> str:
    """Published layers, as in the leaderboard, beside all linear ones."""
    board = {row["method"]: row for row in _board()}
    rows = []
    for row in _variants("layers"):
        known = board[row["method"]]
        more = gain(100 * (row["average"] - known["average"]))
        cells = [_percent(known["average"]), _scaling(known), _percent(row["average"]), _scaling(row)]
        rows.append([row["method"], *cells, more])
    return _table(["method", "published", "λ", "all linear layers", "λ", "difference"], rows, numbers=5)


def _choices(table: str, first: str) -> str:
    """Variants one below the other, with the words that run them."""
    rows = [
        [row["method"], row["choice"], f"`{row['settings']}`", _scaling(row), _percent(row["average"])]
        for row in _variants(table)
    ]
    return _table([first, "variant", "settings", "λ chosen", "average"], rows, numbers=2)


def _published(_: str) -> str:
    """One heading below the page's own."""
    return to_markdown(reported_tables().select()).replace("\n## ", "\n### ")


def _limits(_: str) -> str:
    """What the gate of each kind of file lets through, from the constants in the code."""
    rows = [
        ["`suite.yaml`", _size(limits.MAX_SUITE_BYTES), _YAML],
        ["recipe", _size(limits.MAX_RECIPE_BYTES), f"{_YAML}; a finite number for every task and tensor"],
        ["sweep", _size(limits.MAX_SWEEP_BYTES), f"{_YAML}; {MAX_TRIALS} trials"],
        [
            "prepared lesson",
            _size(limits.MAX_LESSON_BYTES),
            f"{_YAML}; {limits.MAX_LESSON_TEXT:,} letters for a step",
        ],
        [
            "results that come with an embedded suite",
            _size(limits.MAX_SHIPPED_BYTES),
            f"{_size(limits.MAX_SHIPPED_TEXT)} unpacked",
        ],
        [
            "runs of others, in a zip archive",
            "the disk",
            f"{limits.MAX_MOVED_RUNS:,} runs, {_size(limits.MAX_MOVED_TEXT)} unpacked, {_size(limits.MAX_MOVED_LINE)} "
            "each; numbers that can be what they are called, names without paths",
        ],
        ["JSON: configuration", _size(limits.MAX_JSON_BYTES), f"{limits.MAX_JSON_VALUES:,} values"],
        ["JSON: index, catalogue; lists in text", _size(limits.MAX_INDEX_BYTES), f"{limits.MAX_JSON_VALUES:,} values"],
        [
            "safetensors",
            "the disk",
            f"header of {_size(limits.MAX_HEADER_BYTES)}, {limits.MAX_JSON_VALUES:,} values; {limits.MAX_TENSORS:,} "
            f"tensors of {limits.MAX_DIMENSIONS} dimensions, names of {limits.MAX_TENSOR_NAME:,} letters, without gaps",
        ],
        [
            "`.pt`, `.pth`, `.bin`, `.ckpt`",
            "the disk",
            f"pickle of {_size(limits.MAX_PICKLE_BYTES)} and {limits.MAX_PICKLE_OPERATIONS:,} instructions; tuples "
            f"{limits.MAX_TUPLE_DEPTH} deep; {limits.MAX_TENSORS:,} tensors, within the bytes of the file",
        ],
        [
            "zip archives (`.pt`, `.npz`)",
            "the disk",
            f"{limits.MAX_MEMBERS:,} members and a directory of {_size(limits.MAX_DIRECTORY_BYTES)}, exactly at the "
            "end; members that differ in name and do not overlap",
        ],
        [
            "`.npz`",
            "half of the free memory",
            f"beyond {_size(limits.MAX_SMALL_BYTES)}, {limits.MAX_GROWTH} times the packed bytes; no objects",
        ],
        [
            "parquet",
            "the disk",
            f"{limits.MAX_IMAGES:,} rows; pictures of {_size(limits.MAX_CELLS_BYTES)} at once, as images below",
        ],
        [
            "image",
            _size(limits.MAX_IMAGE_BYTES),
            f"{limits.MAX_PIXELS / 1e6:.0f} million pixels, also once the shorter side is the model's",
        ],
    ]
    return _table(["file", "at most", "and within it"], rows)


_YAML = f"{limits.MAX_YAML_VALUES:,} values with aliases written out, {limits.MAX_YAML_DEPTH} deep, each name once"


def _size(count: int) -> str:
    """Bytes in the largest unit that fits.

    >>> _size(64 * 2**10)
    '64 KiB'
    """
    units = ("bytes", "KiB", "MiB", "GiB")
    place = max(power for power in range(len(units)) if count % 1024**power == 0 and count >= 1024**power)
    return f"{count // 1024**place} {units[place]}"


def _beyond_rows() -> list[list[str]]:
    """Name, accuracy on clean images, on corrupted ones, share kept, accuracy on tasks merged and on others."""
    robust, unseen = stored(ROBUSTNESS), stored(GENERALISE)
    (severity,) = robust["severities"]
    tasks = {"zero_shot": robust["zero_shot"]["accuracy"], **robust["accuracy"]}
    clean = {"zero_shot": robust["zero_shot"]["clean"], **robust["clean"]}
    rows = []
    for method in [*robust["methods"], "zero_shot"]:
        corrupted = [_mean(tasks[method][name][str(severity)]) for name in robust["corruptions"]]
        shifted, plain = sum(corrupted) / len(corrupted), _mean(clean[method])
        found = {part: unseen["averages"].get(method, {}).get(part, {}) for part in ("seen", "unseen")}
        split = [_spread(found[part]) for part in found]
        name = robust["titles"].get(method, _BASELINES["Zero-shot"])
        rows.append([name, _percent(plain), _percent(shifted), _percent(shifted / plain), *split])
    return rows


def _severity() -> str:
    return f"corrupted, severity {stored(ROBUSTNESS)['severities'][0]}"


def _beyond(_: str) -> str:
    return _table(["method", "clean", _severity(), "kept", "seen tasks", "unseen tasks"], _beyond_rows(), numbers=5)


def _corruptions(_: str) -> str:
    """Methods × corruptions, means over the tasks."""
    robust = stored(ROBUSTNESS)
    (severity,) = robust["severities"]
    accuracy = {**robust["accuracy"], "zero_shot": robust["zero_shot"]["accuracy"]}
    rows = [
        [
            robust["titles"].get(method, _BASELINES["Zero-shot"]),
            *(_percent(_mean(accuracy[method][name][str(severity)])) for name in robust["corruptions"]),
        ]
        for method in accuracy
    ]
    titles = [CORRUPTIONS[name].title for name in robust["corruptions"]]
    return _table(["method", *titles], rows, numbers=len(titles))


def _beyond_short(_: str) -> str:
    """The README's: methods on merged tasks, on tasks left out, and on corrupted images."""
    rows = [[name, seen, unseen, clean, shifted] for name, clean, shifted, _, seen, unseen in _beyond_rows() if seen]
    return _table(["method", "six merged tasks", "two left out", "all eight, clean", _severity()], rows, numbers=4)


def _beyond_differences(_: str) -> str:
    """How two methods differ from Task Arithmetic, in points, with standard errors."""
    titles, parts = stored(ROBUSTNESS)["titles"], ("clean", "corrupted", "seen", "unseen")
    rows = []
    for method in METHODS:
        found = differences(method, "task_arithmetic")
        rows.append([titles[method], *(_with_error(found[part]) for part in parts)])
    adapted = _with_error(corrupted_difference("adamerging", f"adamerging{ON_CLEAN}"))
    rows.append([f"{titles['adamerging']}, less itself adapted on clean images", "", adapted, "", ""])
    return _table(["less Task Arithmetic", "clean", "corrupted", "seen tasks", "unseen tasks"], rows, numbers=4)


def _with_error(difference: Difference) -> str:
    return f"{printed(difference[0], '+.1f')} ± {difference[1]:.1f}"


def _mean(accuracy: Mapping[str, float]) -> float:
    return sum(accuracy.values()) / len(accuracy)


def _spread(found: Mapping[str, Any]) -> str:
    """A mean over splits, with its standard deviation if there are several; empty if it was not measured."""
    if not found:
        return ""
    deviation = found["spread"]
    return _percent(found["average"]) + ("" if deviation is None else f" ± {_percent(deviation)}")


TABLES: dict[str, Callable[[str], str]] = {
    "pages": _pages,
    "edits": lambda _: _stages("edits"),
    "merges": lambda _: _stages("merges"),
    "presets": _presets,
    "parameters": _parameters,
    "two-settings": lambda _: textwrap.fill(two_settings(), 120),
    "commands": _commands,
    "short-leaderboard": _short_leaderboard,
    "first-look": _first_look,
    "leaderboard": _leaderboard,
    "leaderboard-localised": _leaderboard_localised,
    "leaderboard-related": _leaderboard_related,
    "second-mini": _second_mini,
    "layers": _layers,
    "units": lambda _: _choices("units", "method"),
    "fisher": lambda _: _choices("fisher", "normalised"),
    "beyond": _beyond,
    "corruptions": _corruptions,
    "beyond-short": _beyond_short,
    "beyond-differences": _beyond_differences,
    "published": _published,
    "limits": _limits,
    "rights": lambda _: _table(["act", "owner", "guests", ""], rights.rows()),
}


@click.command()
def main() -> None:
    """Make the tables of the README and of docs again."""
    for page in (*PAGES, OWN_MERGE, FIRST_LOOK):
        path = ROOT / page
        old = path.read_text(encoding="utf-8")
        new = render(page, old)
        if new != old:
            with atomic_path(path) as temporary:
                temporary.write_text(new, encoding="utf-8")
            click.echo(f"{page} is written", err=True)


if __name__ == "__main__":
    main()
