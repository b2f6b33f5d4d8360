"""A document as blocks, which every form (Markdown, HTML) renders alike."""

from collections.abc import Sequence
from dataclasses import dataclass

NOT_APPLICABLE = "N/A"
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of level 1 (the title) to 4."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of plain texts, all rows as long as the headings."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing as SVG, and what it shows in words."""

    svg: str
    words: str


Block = Heading | Paragraph | Table | Picture
Document = Sequence[Block]
