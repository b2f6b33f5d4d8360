"""An outline of PS3.2 as sections with a number, a title and blocks, made into a document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gantry_domain.conformance.document import (
    NOT_APPLICABLE,
    NOT_STATED,
    Block,
    Heading,
    Paragraph,
)
from gantry_domain.conformance.model import Origin, Statement

Blocks = Sequence[Block]
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Section:
    """A section; `blocks` is None where it only holds those below it, empty where it is unused."""

    number: str
    title: str
    blocks: Blocks | None = None


def document(statement: Statement, sections: Iterable[Section]) -> list[Block]:
    """The statement as a document. An unused section keeps its heading, with N/A.

    Of a statement that is not ours nobody knows whether it is unused.
    """
    nothing = NOT_APPLICABLE if statement.origin is Origin.OWN else NOT_STATED
    title = f"DICOM Conformance Statement: {statement.product} {statement.version}".strip()
    blocks: list[Block] = [Heading(1, title)]
    for section in sections:
        level = min(section.number.removeprefix("A.").count(".") + 2, _DEEPEST)
        blocks.append(Heading(level, f"{section.number} {section.title}"))
        if section.blocks is not None:
            blocks += section.blocks or [Paragraph(nothing)]
    return blocks


def told(statement: Statement, *paragraphs: str) -> Blocks:
    """Paragraphs that we write of ourselves: nothing of others."""
    return text(*paragraphs) if statement.origin is Origin.OWN else []


def text(*paragraphs: str) -> Blocks:
    """Paragraphs, without those that are empty."""
    return [Paragraph(each) for each in paragraphs if each]
