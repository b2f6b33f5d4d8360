"""Storage commitment: what is asked for, what can be wrong with an instance, and the report.

PS3.4 Annex J, the Push Model: N-ACTION names instances under a Transaction UID, and N-EVENT-REPORT
says later which of them are kept.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from gantry_domain.errors import PermanentError
from gantry_domain.identifier_encoding import encode_data_set
from gantry_domain.json_model import Element, valid_uid

STORAGE_COMMITMENT_PUSH = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The well-known instance that every request and report is about (PS3.4 J.3.5)."""

REQUEST_COMMITMENT = 1
"""Action Type ID (0000,1008), PS3.4 Table J.3-1."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs (0000,1002), PS3.4 Table J.3-2."""

TRANSACTION_UID = "00081195"
REFERENCED_SOP_SEQUENCE = "00081199"
_FAILED_SOP_SEQUENCE = "00081198"
_FAILURE_REASON = "00081197"
_RETRIEVE_AE_TITLE = "00080054"
_REFERENCED_SOP_CLASS = "00081150"
_REFERENCED_SOP_INSTANCE = "00081155"


class CommitmentFailure(IntEnum):
    """Why an instance is not committed: Failure Reason (0008,1197), PS3.3 C.14.1.1."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


class BadCommitment(PermanentError):
    """A request or report that cannot be meant; `tag` is the element that is missing or wrong."""

    def __init__(self, tag: str, text: str) -> None:
        super().__init__(text)
        self.tag = tag


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that somebody wants to be kept."""

    SOPClassUID: str
    SOPInstanceUID: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What an N-ACTION asks for; each instance once."""

    TransactionUID: str
    references: tuple[Reference, ...]

    @property
    def digest(self) -> bytes:
        """The same for the same instances, in whatever order."""
        named = sorted(f"{each.SOPClassUID} {each.SOPInstanceUID}" for each in self.references)
        return hashlib.sha256("\n".join(named).encode()).digest()


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What an N-EVENT-REPORT says: `failed` has the reason of each instance that is not kept."""

    TransactionUID: str
    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, int], ...] = ()

    @property
    def event_type(self) -> int:
        """Its Event Type ID."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


def report_of(
    TransactionUID: str, references: Sequence[Reference], failed: Mapping[str, int]
) -> CommitmentReport:
    """The report on these instances; `failed`: reasons by SOP Instance UID."""
    return CommitmentReport(
        TransactionUID,
        tuple(each for each in references if each.SOPInstanceUID not in failed),
        tuple(
            (each, failed[each.SOPInstanceUID])
            for each in references
            if each.SOPInstanceUID in failed
        ),
    )


def read_request(elements: Mapping[str, Element]) -> CommitmentRequest:
    """The Action Information of an N-ACTION (PS3.4 Table J.3-1). Raises `BadCommitment`."""
    uid = _uid(elements, TRANSACTION_UID, "the Transaction UID")
    found = tuple(dict.fromkeys(_references(elements, REFERENCED_SOP_SEQUENCE)))
    if not found:
        raise BadCommitment(REFERENCED_SOP_SEQUENCE, "no instance is named")
    return CommitmentRequest(uid, found)


def read_report(elements: Mapping[str, Element]) -> CommitmentReport:
    """The Event Information of an N-EVENT-REPORT (PS3.4 Table J.3-2). Raises `BadCommitment`."""
    uid = _uid(elements, TRANSACTION_UID, "the Transaction UID")
    items = _items(elements, _FAILED_SOP_SEQUENCE)
    return CommitmentReport(
        uid,
        tuple(_references(elements, REFERENCED_SOP_SEQUENCE)),
        tuple(
            zip(
                _references(elements, _FAILED_SOP_SEQUENCE),
                (_reason(item) for item in items),
                strict=True,
            )
        ),
    )


def encode_request(request: CommitmentRequest, *, transfer_syntax: str) -> bytes:
    """The Action Information of an N-ACTION."""
    document = {
        TRANSACTION_UID: _text("UI", request.TransactionUID),
        REFERENCED_SOP_SEQUENCE: _sequence([_item(each) for each in request.references]),
    }
    return encode_data_set(document, transfer_syntax=transfer_syntax)


def encode_report(report: CommitmentReport, *, retrieve_ae: str, transfer_syntax: str) -> bytes:
    """The Event Information of an N-EVENT-REPORT; `retrieve_ae`: from whom to retrieve."""
    document = {
        _RETRIEVE_AE_TITLE: _text("AE", retrieve_ae),
        TRANSACTION_UID: _text("UI", report.TransactionUID),
    }
    if report.failed:
        document[_FAILED_SOP_SEQUENCE] = _sequence(
            [
                _item(each) | {_FAILURE_REASON: {"vr": "US", "Value": [int(reason)]}}
                for each, reason in report.failed
            ]
        )
    if report.committed:
        document[REFERENCED_SOP_SEQUENCE] = _sequence([_item(each) for each in report.committed])
    return encode_data_set(document, transfer_syntax=transfer_syntax)


def _item(reference: Reference) -> dict[str, Element]:
    return {
        _REFERENCED_SOP_CLASS: _text("UI", reference.SOPClassUID),
        _REFERENCED_SOP_INSTANCE: _text("UI", reference.SOPInstanceUID),
    }


def _text(vr: str, value: str) -> Element:
    return {"vr": vr, "Value": [value]}


def _sequence(items: list[dict[str, Element]]) -> Element:
    return {"vr": "SQ", "Value": items}


def _items(elements: Mapping[str, Element], tag: str) -> list[dict[str, Element]]:
    return [item or {} for item in elements.get(tag, {}).get("Value", [])]


def _references(elements: Mapping[str, Element], tag: str) -> Iterator[Reference]:
    for item in _items(elements, tag):
        yield Reference(
            _uid(item, _REFERENCED_SOP_CLASS, "the class of an instance"),
            _uid(item, _REFERENCED_SOP_INSTANCE, "the UID of an instance"),
        )


def _uid(elements: Mapping[str, Element], tag: str, what: str) -> str:
    values: list[Any] = elements.get(tag, {}).get("Value", [])
    if not values or not isinstance(values[0], str) or not values[0]:
        raise BadCommitment(tag, f"{what} is missing")
    if tag == TRANSACTION_UID and not valid_uid(values[0]):
        raise BadCommitment(tag, f"{what} is no UID")
    return values[0]


def _reason(item: Mapping[str, Element]) -> int:
    values: list[Any] = item.get(_FAILURE_REASON, {}).get("Value", [])
    return values[0] if values and isinstance(values[0], int) else 0
