"""The comparison that a document holds, as integrators write it: class, two systems, a verdict.

SOP Class CT Modality PACS Compatibility
CT Image Storage
(1.2.840.10008.5.1.4.1.1.2)
Supported Supported Compatible

or in a spreadsheet, a row for each class, whose UID may stand in the first cell or be left out.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gantry_domain.conformance.model import Entity, Found, Origin, Statement, Support
from gantry_domain.conformance.names import class_named
from gantry_domain.conformance.rows import Row

_HEADING = re.compile(r"SOP Class\s+(.+)\s+(\S+)\s+Compatib\w+")
_ALONE = re.compile(r"\(([12](?:\.\d+)+)\)")
_UID = re.compile(r"[12](?:\.\d+){4,}")
_SAID = {"supported": True, "yes": True, "not supported": False, "no": False}
_ANSWERS = re.compile(r"(Not Supported|Supported)\s+(Not Supported|Supported)\s+(\w[\w ]*)")


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One row: what the document says of both systems, and its verdict."""

    lines: tuple[int, ...]
    uid: str
    name: str
    systems: tuple[str, str]
    supported: tuple[bool, bool]
    verdict: str


def compared_rows(rows: Sequence[Row]) -> Iterator[ComparedRow]:
    """The rows of all comparisons in a document."""
    yield from _of_tables(rows)
    systems: tuple[str, str] | None = None
    for name, uid, answers in zip(rows, rows[1:], rows[2:], strict=False):
        heading = _HEADING.fullmatch(name.text)
        if heading is not None:
            systems = heading[1], heading[2]
        alone, said = _ALONE.fullmatch(uid.text), _ANSWERS.fullmatch(answers.text)
        if systems is not None and alone is not None and said is not None:
            yield ComparedRow(
                (name.line, uid.line, answers.line),
                alone[1],
                name.text,
                systems,
                (said[1] == "Supported", said[2] == "Supported"),
                said[3],
            )


def _of_tables(rows: Sequence[Row]) -> Iterator[ComparedRow]:
    systems: tuple[str, str] | None = None
    for row in rows:
        if len(row.cells) != 4:
            continue
        name, first, second, verdict = row.cells
        if name.lower().startswith("sop class") and verdict.lower().startswith("compatib"):
            systems = first, second
            continue
        answers = _SAID.get(first.lower()), _SAID.get(second.lower())
        if systems is None or None in answers:
            continue
        uid = _UID.search(name)
        named = None if uid else class_named(name)
        if uid is not None or named is not None:
            yield ComparedRow(
                (row.line,),
                uid[0] if uid else named.uid if named else "",
                name[: uid.start()].strip(" (-:") if uid else name,
                systems,
                (bool(answers[0]), bool(answers[1])),
                verdict,
            )


def compared_statements(rows: Iterable[ComparedRow]) -> dict[str, Statement]:
    """What a comparison says of its systems, as their statements; it knows no roles or syntaxes."""
    supports: dict[str, list[Support]] = {}
    for row in rows:
        for system, supported in zip(row.systems, row.supported, strict=True):
            supports.setdefault(system, []).append(
                Support(
                    uid=row.uid,
                    name=row.name,
                    supported=supported,
                    found=Found(line=row.lines[0], text=row.name, confidence=0.8),
                )
            )
    return {
        system: Statement(
            product=system,
            origin=Origin.READ,
            entities=(Entity(name=system, supports=tuple(found)),),
        )
        for system, found in supports.items()
    }
