"""What reports are made of: one HTML file, no script, nothing from elsewhere."""

from collections.abc import Collection, Iterable, Sequence

from merging.core.page import static_page
from merging.runs.comparison.protocol import protocol, settings_lines
from merging.runs.comparison.settings import differing
from merging.runs.comparison.svg import escaped
from merging.runs.run import Run

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2128; background: #fff; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; } h3 { margin-top: 2rem; }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; } caption { text-align: left; color: #555; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e5e8; text-align: left; vertical-align: top; }
td:nth-child(-n+2) { white-space: nowrap; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } td.n { white-space: nowrap; }
table.text td { white-space: normal; } table.text td:last-child { min-width: 12rem; overflow-wrap: anywhere; }
td.differs { background: #f9e8cd; }
.wide { overflow-x: auto; } .images { display: flex; flex-wrap: wrap; gap: .6rem; margin: .5rem 0 1rem; }
figure { margin: 0; width: 96px; font-size: 12px; } .note { color: #555; font-size: 13px; }
@media print { body { max-width: none; } svg, figure, tr { break-inside: avoid; } }
"""


def html_page(title: str, body: str) -> str:
    """A whole page; the title may come from anywhere, the body is HTML."""
    return static_page(title, _STYLE, f"<h1>{escaped(title)}</h1>{body}")


def html_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Collection[int] = (), kind: str = ""
) -> str:
    """Texts as a table, the columns with these numbers flush right; of kind ``text``, long ones are broken.

    Where the first cell of each row says what the others are, there is no head.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=n' if place in numeric else ''}>{escaped(cell)}</{tag}>"
                for place, cell in enumerate(cells)
            )
            + "</tr>"
        )

    first = line(head, "th") if head else ""
    return f"<table{kind and f' class={kind}'}>{first}{''.join(line(row, 'td') for row in rows)}</table>"


def settings_that_differ(runs: Sequence[Run], names: Sequence[str]) -> str:
    """A table of them, values unlike the first run's marked."""
    rows = differing(runs)
    if not rows:
        return "<h2>Settings</h2><p>These runs have the same settings and files.</p>"
    cells = "".join(
        f"<tr><td>{escaped(name)}</td>"
        + "".join(f"<td{'' if value == values[0] else ' class=differs'}>{escaped(value)}</td>" for value in values)
        + "</tr>"
        for name, values in rows
    )
    head = "".join(f"<th>{escaped(name)}</th>" for name in ("Setting", *names))
    return f"<h2>Settings that differ</h2><div class='wide'><table><tr>{head}</tr>{cells}</table></div>"


def protocol_section(runs: Sequence[Run], names: Sequence[str]) -> str:
    """How the numbers of runs came about, and each method as the command line takes it."""
    lines = [*protocol(runs, names), *((f"Method of {name}", text) for name, text in settings_lines(runs, names))]
    return f"<h2>Protocol</h2><div class='wide'>{html_table([], lines, kind='text')}</div>"
