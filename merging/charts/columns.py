"""Columns that tables of runs have in common: a method's marker, its name, its average."""

from merging.charts.theme import Style, marker_image

MARK, METHOD, AVERAGE = "Mark", "Method", "Average (%)"


def mark(style: Style) -> str:
    """A cell of the column :data:`MARK`."""
    return marker_image(style)
