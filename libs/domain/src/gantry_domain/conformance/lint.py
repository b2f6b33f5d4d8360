"""What is wrong with a statement by itself: names, UIDs, syntaxes, roles, and contradictions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gantry_domain.conformance.compared_rows import ComparedRow
from gantry_domain.conformance.model import Support
from gantry_domain.conformance.names import Agreement, agreement
from gantry_domain.conformance.reading import Reading
from gantry_domain.conformance.registry import Service, class_name, retired, service_of
from gantry_domain.conformance.rows import Row
from gantry_domain.information_models import MODALITY_PERFORMED_PROCEDURE_STEP
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN

_MPPS = re.compile(r"\bMPPS\b|Modality Performed Procedure Step")
_FULLY_COMPATIBLE = re.compile(r"\bfully compatible\b|\bfully supported\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong: its rule, the line of the document (0: the whole), and words."""

    rule: str
    line: int
    text: str


def lint(reading: Reading) -> list[Finding]:
    """All findings, in the order of the document."""
    supports = tuple(reading.statement.supports())
    found = [
        *_names(supports),
        *_retired(supports),
        *_syntaxes(supports),
        *_wholeness(supports),
        *_contradictions(supports, reading.compared),
        *_comparison(reading.compared),
        *_prose(reading.rows, reading.compared),
    ]
    return sorted(set(found), key=lambda each: (each.line, each.rule, each.text))


def _line(support: Support) -> int:
    return support.found.line if support.found else 0


def _names(supports: Sequence[Support]) -> Iterator[Finding]:
    for each in supports:
        how, other = agreement(each.name, each.uid)
        right = class_name(each.uid)
        if how is Agreement.OTHER and other is not None:
            yield Finding(
                rule="wrong_name_or_uid",
                line=_line(each),
                text=f'"{each.name}" is {other}; {each.uid} is {right}',
            )
        elif how is Agreement.MISSPELT:
            yield Finding(
                rule="misspelt_name",
                line=_line(each),
                text=f'"{each.name}": {each.uid} is {right}',
            )


def _retired(supports: Sequence[Support]) -> Iterator[Finding]:
    for each in supports:
        if each.supported and retired(each.uid):
            yield Finding(
                rule="retired_class",
                line=_line(each),
                text=f"{class_name(each.uid)} ({each.uid}) is retired",
            )


def _syntaxes(supports: Sequence[Support]) -> Iterator[Finding]:
    for each in supports:
        syntaxes = each.transfer_syntaxes
        if each.supported and syntaxes and IMPLICIT_VR_LITTLE_ENDIAN not in syntaxes:
            yield Finding(
                rule="missing_default_syntax",
                line=_line(each),
                text=f"{class_name(each.uid)} lacks Implicit VR Little Endian (PS3.5 10.1)",
            )


def _wholeness(supports: Sequence[Support]) -> Iterator[Finding]:
    if supports and not any(each.uid == VERIFICATION for each in supports):
        yield Finding(rule="missing_verification", line=0, text="Verification is not mentioned")
    without = [each for each in supports if each.role is None]
    if without:
        yield Finding(
            rule="missing_roles",
            line=_line(without[0]),
            text=f"{len(without)} SOP classes have no role: neither SCU nor SCP",
        )


def _contradictions(
    supports: Sequence[Support], compared: Sequence[ComparedRow]
) -> Iterator[Finding]:
    said: dict[tuple[str, object], Support] = {}
    for each in supports:
        before = said.setdefault((each.uid, each.role), each)
        if before.supported is not each.supported:
            yield Finding(
                rule="contradiction",
                line=_line(each),
                text=f"{class_name(each.uid)} is said to be supported and not to be",
            )
    for row in compared:
        for each in supports:
            if each.uid == row.uid and each.supported is not row.supported[0]:
                said_here, said_there = (
                    "supported" if value else "not supported"
                    for value in (row.supported[0], each.supported)
                )
                yield Finding(
                    rule="contradiction",
                    line=row.lines[0],
                    text=(
                        f"{class_name(row.uid)} is {said_here} by {row.systems[0]} here, and "
                        f"{said_there} in line {_line(each)}"
                    ),
                )


def _comparison(compared: Sequence[ComparedRow]) -> Iterator[Finding]:
    if compared:
        yield Finding(
            rule="syntaxes_not_compared",
            line=compared[0].lines[0],
            text="the comparison does not look at transfer syntaxes",
        )
    for row in compared:
        if service_of(row.uid) is Service.QUERY_RETRIEVE and row.systems[1].upper() == "RIS":
            yield Finding(
                rule="query_retrieve_with_ris",
                line=row.lines[0],
                text=f"{class_name(row.uid)} is provided by a PACS, and compared with a RIS here",
            )


def _prose(rows: Sequence[Row], compared: Sequence[ComparedRow]) -> Iterator[Finding]:
    unlike = [row for row in compared if row.verdict.lower() == "incompatible"]
    for row in rows:
        if _MPPS.search(row.text):
            yield from _of_steps(row)
        if unlike and _FULLY_COMPATIBLE.search(row.text):
            name = class_name(unlike[0].uid)
            yield Finding(
                rule="contradiction",
                line=row.line,
                text=f"the text speaks of full support, and {name} is incompatible in the table",
            )


def _of_steps(row: Row) -> Iterator[Finding]:
    name = class_name(MODALITY_PERFORMED_PROCEDURE_STEP)
    if "C-STORE" in row.text:
        yield Finding(
            rule="mpps_as_c_store",
            line=row.line,
            text=f"{name} is N-CREATE and N-SET (PS3.4 F.7), not C-STORE",
        )
    if "paused" in row.text.lower():
        yield Finding(
            rule="mpps_paused",
            line=row.line,
            text=f"{name} is IN PROGRESS, COMPLETED or DISCONTINUED (PS3.4 F.7), never paused",
        )
