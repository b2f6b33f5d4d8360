"""Decisions of people as they lie in the object store, beside the objects that they are about.

    journal/YYYY/MM/DD/<uuid7>.json      {"v": 1, "kind": "deletion", "partition": ..., ...}

They are kept for ever, so that an index that is built anew from the store says what people decided.
"""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from gantry_domain.decisions import DecisionKind, StudyDecision, Undoing
from gantry_domain.deletions import Deletion, Restoration
from gantry_domain.errors import PermanentError
from gantry_domain.keys import received_at

JOURNAL = "journal/"

Decision = Deletion | Restoration | StudyDecision | Undoing

_VERSION = 1
_KEY = re.compile(r"journal/\d{4}/\d{2}/\d{2}/([0-9a-f-]{36})\.json")


class UnknownDecision(PermanentError):
    """An entry of another version, or not one of ours."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the journal entry {key} cannot be read")


def journal_key(entry_id: UUID) -> str:
    """The key of the entry with this identifier, a UUID of version 7."""
    return f"{JOURNAL}{received_at(entry_id):%Y/%m/%d}/{entry_id}.json"


def encode_decision(decision: Decision) -> bytes:
    """The content of an entry."""
    return orjson.dumps({"v": _VERSION, **_fields(decision)})


def _fields(decision: Decision) -> dict[str, object]:
    match decision:
        case Deletion():
            return {
                "kind": "deletion",
                "partition": decision.partition,
                "study": decision.StudyInstanceUID,
                "series": decision.SeriesInstanceUID,
                "instance": decision.SOPInstanceUID,
                "at": decision.deleted_at,
                "by": decision.deleted_by,
            }
        case Restoration():
            return {
                "kind": "restoration",
                "deletion": decision.deletion_id,
                "by": decision.restored_by,
            }
        case StudyDecision():
            return {
                "kind": decision.kind.value,
                "partition": decision.partition,
                "study": decision.StudyInstanceUID,
                "order": decision.order_uid,
                "accepted": sorted(decision.accepted),
                "corrected": dict(decision.corrected),
                "from": decision.moved_from,
                "series": sorted(decision.series),
                "at": decision.decided_at,
                "by": decision.decided_by,
                "reason": decision.reason,
            }
        case Undoing():
            return {
                "kind": "undoing",
                "decision": decision.decision_id,
                "at": decision.undone_at,
                "by": decision.undone_by,
                "reason": decision.reason,
            }


def decode_decision(key: str, content: bytes) -> Decision:
    """The decision of an entry. Raises `UnknownDecision`."""
    match = _KEY.fullmatch(key)
    try:
        if match is None:
            raise UnknownDecision(key)
        entry_id = UUID(match[1])
        fields = orjson.loads(content)
        if fields["v"] != _VERSION:
            raise UnknownDecision(key)
        return _decision(entry_id, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownDecision(key) from error


def _decision(entry_id: UUID, fields: dict[str, Any]) -> Decision:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is none."""
    match fields["kind"]:
        case "restoration":
            return Restoration(
                id=entry_id, deletion_id=UUID(fields["deletion"]), restored_by=str(fields["by"])
            )
        case "deletion":
            return Deletion(
                id=entry_id,
                partition=str(fields["partition"]),
                StudyInstanceUID=str(fields["study"]),
                SeriesInstanceUID=fields["series"],
                SOPInstanceUID=fields["instance"],
                deleted_at=datetime.fromisoformat(fields["at"]),
                deleted_by=str(fields["by"]),
            )
        case "undoing":
            return Undoing(
                id=entry_id,
                decision_id=UUID(fields["decision"]),
                undone_at=datetime.fromisoformat(fields["at"]),
                undone_by=str(fields["by"]),
                reason=str(fields["reason"]),
            )
        case kind:
            return StudyDecision(
                id=entry_id,
                partition=str(fields["partition"]),
                StudyInstanceUID=str(fields["study"]),
                kind=DecisionKind(kind),
                order_uid=str(fields["order"]),
                accepted=frozenset((str(rule), str(code)) for rule, code in fields["accepted"]),
                # Entries of an older Gantry have none of these.
                corrected={key: str(text) for key, text in fields.get("corrected", {}).items()},
                moved_from=str(fields.get("from", "")),
                series=frozenset(map(str, fields.get("series", ()))),
                decided_at=datetime.fromisoformat(fields["at"]),
                decided_by=str(fields["by"]),
                reason=str(fields["reason"]),
            )
