"""A document as Markdown (GitHub's tables); pictures become their words, for text holds no SVG."""

import re
from collections.abc import Iterable

from gantry_domain.conformance.document import Block, Document, Heading, Paragraph, Picture, Table

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|])")


def to_markdown(document: Document) -> str:
    """The document as text that ends with a line feed."""
    return "\n\n".join(_rendered(block) for block in document) + "\n"


def _rendered(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_escaped(text)}"
        case Paragraph(text):
            return _escaped(text)
        case Picture(_, words):
            return _escaped(words)
        case Table(caption, headings, rows):
            lines = (headings, tuple("---" for _ in headings), *rows)
            table = "\n".join(
                _line(line) if n != 1 else f"|{'|'.join(line)}|" for n, line in enumerate(lines)
            )
            return f"**{_escaped(caption)}**\n\n{table}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
