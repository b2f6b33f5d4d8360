"""The message that tells a RIS that the images of a procedure are here, and what its answer means.

MSH|^~\\&|...|ORM^O01|17...|P|2.3.1
PID|1||ID^^^issuer||family^given~ideographic||birth date|sex
ORC|SC|placer|filler||CM           SC: its status has changed, CM: to completed
OBR|1|placer|filler|code^meaning^scheme|...|accession number|requested procedure
ZDS|Study Instance UID^GANTRY^Application^DICOM     IHE RAD TF-2 4.4
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gantry_domain.dictionary import KEYWORDS
from gantry_domain.hl7.acknowledgement import ACCEPTED_FOR_NOW, Ack
from gantry_domain.hl7.message import UnreadableMessage, read_message
from gantry_domain.telling import TAKEN, Answer, Outcome

_VERSION = "2.3.1"
_CHARSET, _CODEC = "UNICODE UTF-8", "utf_8"
_PN_GROUPS = {"Alphabetic": "A", "Ideographic": "I", "Phonetic": "P"}
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}

Attributes = Mapping[str, Any]
"""In the DICOM JSON model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Whom the message is for, MSH-5 and MSH-6, and the status that it gives orders (ORC-5)."""

    application: str
    facility: str
    order_status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagedProcedure:
    """What is known of a procedure whose study is here.

    `patient` and `order` are those of the order that the study is for; where there is none, those
    of the study itself.
    """

    StudyInstanceUID: str
    modalities: Sequence[str]
    patient: Attributes = field(repr=False)
    order: Attributes = field(repr=False)

    @property
    def known_to_others(self) -> bool:
        """Whether anybody could tell which procedure it is."""
        keywords = (
            "AccessionNumber",
            "PlacerOrderNumberImagingServiceRequest",
            "FillerOrderNumberImagingServiceRequest",
        )
        return any(_text(self.order, keyword) for keyword in keywords)


def status_update(
    procedure: ImagedProcedure,
    *,
    sender: str,
    receiver: Receiver,
    control_id: str,
    at: datetime,
) -> bytes:
    """The message, without its frame. `at`: when the study was complete; sent again it is the
    same."""
    order, patient = procedure.order, procedure.patient
    placer = _escaped(_text(order, "PlacerOrderNumberImagingServiceRequest"))
    filler = _escaped(_text(order, "FillerOrderNumberImagingServiceRequest"))
    moment = at.strftime("%Y%m%d%H%M%S")
    issuer = _escaped(_text(patient, "IssuerOfPatientID"))
    identifier = _escaped(_text(patient, "PatientID"))
    segments = (
        _segment(
            "MSH",
            {
                2: "^~\\&",
                3: _escaped(sender),
                5: _escaped(receiver.application),
                6: _escaped(receiver.facility),
                7: moment,
                9: "ORM^O01",
                10: _escaped(control_id),
                11: "P",
                12: _VERSION,
                18: _CHARSET,
            },
        ),
        _segment(
            "PID",
            {
                1: "1",
                3: f"{identifier}^^^{issuer}" if issuer else identifier,
                5: _name(patient),
                7: _escaped(_text(patient, "PatientBirthDate")),
                8: _escaped(_text(patient, "PatientSex")),
            },
        ),
        _segment("ORC", {1: "SC", 2: placer, 3: filler, 5: receiver.order_status, 9: moment}),
        _segment(
            "OBR",
            {
                1: "1",
                2: placer,
                3: filler,
                4: _procedure(order),
                18: _escaped(_text(order, "AccessionNumber")),
                19: _escaped(_text(order, "RequestedProcedureID")),
                22: moment,
                24: _escaped(next(iter(procedure.modalities), "")),
            },
        ),
        _segment("ZDS", {1: f"{_escaped(procedure.StudyInstanceUID)}^GANTRY^Application^DICOM"}),
    )
    return "".join(segments).encode(_CODEC, "replace")


def judge_acknowledgement(raw: bytes, *, control_id: str) -> Answer:
    """What an answer means for the message with this control identifier (HL7 v2 2.9.2)."""
    try:
        message = read_message(raw)
    except UnreadableMessage as error:
        return Answer(Outcome.LATER, f"the answer is no message: {error}")
    told = message.first("MSA")
    code = "" if told is None else told.text(1).upper()
    if told is None or told.text(2) not in (control_id, ""):
        return Answer(Outcome.LATER, "the answer is to another message")
    if code in (Ack.ACCEPTED, ACCEPTED_FOR_NOW):
        return TAKEN
    if code in (Ack.REJECTED, "CR"):
        return Answer(Outcome.REFUSED, f"answered {code}")
    # Many say AE while the order, or their own database, is not there yet.
    known = code in (Ack.ERROR, "CE")
    return Answer(Outcome.LATER, f"answered {code}" if known else "answered without a known code")


def _segment(name: str, fields: Mapping[int, str]) -> str:
    # MSH-1 is the separator itself.
    first = 2 if name == "MSH" else 1
    values = [fields.get(number, "") for number in range(first, max(fields) + 1)]
    return "|".join([name, *values]) + "\r"


def _procedure(order: Attributes) -> str:
    coded = order.get(f"{KEYWORDS['RequestedProcedureCodeSequence']:08X}", {}).get("Value") or [{}]
    first = coded[0] or {}
    code, scheme = _text(first, "CodeValue"), _text(first, "CodingSchemeDesignator")
    meaning = _text(first, "CodeMeaning") or _text(order, "RequestedProcedureDescription")
    return "^".join(map(_escaped, (code, meaning, scheme))).rstrip("^")


def _name(patient: Attributes) -> str:
    """XPN: the suffix stands before the prefix, and each group is a repetition (HL7 v2 2.8.51)."""
    values = patient.get(f"{KEYWORDS['PatientName']:08X}", {}).get("Value") or [{}]
    value = values[0] or {}
    groups = {"Alphabetic": value} if isinstance(value, str) else value
    found = []
    for group, representation in _PN_GROUPS.items():
        text = str(groups.get(group, ""))
        if text.strip("^ "):
            family, given, middle, prefix, suffix = [*text.split("^"), *[""] * 5][:5]
            parts = [family, given, middle, suffix, prefix]
            name = "^".join(map(_escaped, parts)).rstrip("^")
            found.append((name, representation))
    if len(found) == 1:
        return found[0][0]
    return "~".join(
        name + "^" * (7 - name.count("^")) + representation for name, representation in found
    )


def _text(attributes: Attributes, keyword: str) -> str:
    values = attributes.get(f"{KEYWORDS[keyword]:08X}", {}).get("Value") or ()
    value = values[0] if values else None
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _escaped(text: str) -> str:
    plain = "".join(" " if ord(each) < 0x20 or each == "\x7f" else each for each in text)
    return "".join(_ESCAPES.get(each, each) for each in plain)
