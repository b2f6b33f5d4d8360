"""Rows of text as a table of aligned columns, and how long ago something was."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows below their headings."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def span(seconds: float) -> str:
    """A time in the largest unit of which it has at least two, such as `3 min`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, math.floor(seconds))} s"


def ago(moment: datetime | None) -> str:
    """How long ago an aware moment was."""
    if moment is None:
        return "never"
    return f"{span((datetime.now(UTC) - moment).total_seconds())} ago"
