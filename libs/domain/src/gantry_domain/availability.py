"""Instance Availability Notification: who is told which instances can be retrieved (PS3.4 Annex R).

One notification is about instances of one study. It says of each whether it is `ONLINE`, or
`UNAVAILABLE`: deleted, or refused.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from gantry_domain.identifier_encoding import encode_data_set
from gantry_domain.json_model import Element
from gantry_domain.statuses import (
    DUPLICATE_SOP_INSTANCE,
    INVALID_ATTRIBUTE_VALUE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    NOT_AUTHORIZED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Status,
)
from gantry_domain.telling import TAKEN, Answer, Outcome

INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"

_REFERENCED_PERFORMED_STEPS = "00081111"
_STUDY_INSTANCE_UID = "0020000D"
_REFERENCED_SERIES = "00081115"
_SERIES_INSTANCE_UID = "0020000E"
_REFERENCED_SOPS = "00081199"
_REFERENCED_SOP_CLASS = "00081150"
_REFERENCED_SOP_INSTANCE = "00081155"
_INSTANCE_AVAILABILITY = "00080056"
_RETRIEVE_AE_TITLE = "00080054"

NOTIFICATION_ANSWERS: tuple[tuple[Status, Outcome], ...] = (
    (SUCCESS, Outcome.TAKEN),
    # PS3.7 10.1.5.1.6: attributes were left out or altered; the rest was taken.
    (Status(0x0001, "Warning", "PS3.7 Annex C.4.1"), Outcome.TAKEN),
    (Status(0x0107, "Attribute list error", "PS3.7 Annex C.4.2"), Outcome.TAKEN),
    (DUPLICATE_SOP_INSTANCE, Outcome.TAKEN),
    (Status(0x0116, "Attribute value out of range", "PS3.7 Annex C.4.3"), Outcome.TAKEN),
    (PROCESSING_FAILURE, Outcome.LATER),
    (RESOURCE_LIMITATION, Outcome.LATER),
    # They are about all notifications: somebody has to allow them.
    (SOP_CLASS_NOT_SUPPORTED, Outcome.AWAY),
    (NOT_AUTHORIZED, Outcome.AWAY),
    (UNRECOGNIZED_OPERATION, Outcome.AWAY),
    # What is wrong with a notification stays so.
    (INVALID_ATTRIBUTE_VALUE, Outcome.REFUSED),
    (MISSING_ATTRIBUTE, Outcome.REFUSED),
    (MISSING_ATTRIBUTE_VALUE, Outcome.REFUSED),
)
"""What the statuses of an N-CREATE's response mean for the notification; any other: refused."""
_OUTCOMES = {status.code: outcome for status, outcome in NOTIFICATION_ANSWERS}
# Of the UIDs that are made of a notification's contents (PS3.5 B.2).
_SPACE = uuid.UUID("1b6b0c2e-6c0b-4c4f-9d2e-5d7c0f6b6f2a")


@dataclass(frozen=True, slots=True, order=True)
class InstanceAvailability:
    """An instance, and whether it can be retrieved."""

    SeriesInstanceUID: str
    SOPClassUID: str
    SOPInstanceUID: str
    online: bool


def notification_uid(subscriber: str, event: int, part: int) -> str:
    """The SOP Instance UID of a notification; one that is sent again keeps it."""
    return f"2.25.{uuid.uuid5(_SPACE, f'{subscriber} {event} {part}').int}"


def encode_notification(
    StudyInstanceUID: str,
    instances: Iterable[InstanceAvailability],
    *,
    retrieve_ae: str,
    transfer_syntax: str,
) -> bytes:
    """The attributes of an N-CREATE (PS3.4 Table R.3.2-1)."""
    by_series = groupby(sorted(instances), key=lambda each: each.SeriesInstanceUID)
    series = [
        {
            _REFERENCED_SOPS: _sequence([_item(each, retrieve_ae) for each in found]),
            _SERIES_INSTANCE_UID: _text("UI", uid),
        }
        for uid, found in by_series
    ]
    document = {
        # Required, and empty where no step is known (PS3.4 R.3.2.1.1).
        _REFERENCED_PERFORMED_STEPS: _sequence([]),
        _REFERENCED_SERIES: _sequence(series),
        _STUDY_INSTANCE_UID: _text("UI", StudyInstanceUID),
    }
    return encode_data_set(document, transfer_syntax=transfer_syntax)


def judge_notified(status: int) -> Answer:
    """What the status of the N-CREATE's response means for the notification."""
    outcome = _OUTCOMES.get(status, Outcome.REFUSED)
    return TAKEN if outcome is Outcome.TAKEN else Answer(outcome, f"status {status:04X}")


def _item(each: InstanceAvailability, retrieve_ae: str) -> dict[str, Element]:
    return {
        _RETRIEVE_AE_TITLE: _text("AE", retrieve_ae),
        _INSTANCE_AVAILABILITY: _text("CS", "ONLINE" if each.online else "UNAVAILABLE"),
        _REFERENCED_SOP_CLASS: _text("UI", each.SOPClassUID),
        _REFERENCED_SOP_INSTANCE: _text("UI", each.SOPInstanceUID),
    }


def _text(vr: str, value: str) -> Element:
    return {"vr": vr, "Value": [value]}


def _sequence(items: Sequence[dict[str, Element]]) -> Element:
    return {"vr": "SQ", "Value": list(items)}
