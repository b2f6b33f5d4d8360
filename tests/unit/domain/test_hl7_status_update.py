"""The message that tells a RIS of images, and what its answers mean."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gantry_domain.dictionary import KEYWORDS
from gantry_domain.hl7.message import read_message
from gantry_domain.hl7.status_update import (
    ImagedProcedure,
    Receiver,
    judge_acknowledgement,
    status_update,
)
from gantry_domain.telling import Outcome

AT = datetime(2026, 11, 22, 8, 30, 5, tzinfo=ZoneInfo("Asia/Hong_Kong"))
RIS = Receiver(application="RIS", facility="HOSP", order_status="CM")


def attributes(**values: Any) -> dict[str, Any]:
    return {f"{KEYWORDS[keyword]:08X}": {"Value": [value]} for keyword, value in values.items()}


PATIENT = attributes(
    PatientID="P1",
    IssuerOfPatientID="HKID",
    PatientName={"Alphabetic": "CHAN^TAI MAN^^Dr^Jr", "Ideographic": "陳^大文"},
    PatientBirthDate="19700102",
    PatientSex="F",
)
CODE = attributes(CodeValue="CTHEAD", CodeMeaning="CT | head", CodingSchemeDesignator="L")
ORDER = attributes(
    AccessionNumber="A1",
    PlacerOrderNumberImagingServiceRequest="PL1",
    FillerOrderNumberImagingServiceRequest="FI1",
    RequestedProcedureID="RP1",
    RequestedProcedureCodeSequence=CODE,
)


def told(**values: Any) -> bytes:
    facts = {"patient": PATIENT, "order": ORDER, "modalities": ["CT", "SR"]} | values
    procedure = ImagedProcedure(StudyInstanceUID="1.2.3", **facts)
    return status_update(procedure, sender="GANTRY", receiver=RIS, control_id="17", at=AT)


def test_the_message_as_it_is_sent() -> None:
    assert told().decode().split("\r") == [
        "MSH|^~\\&|GANTRY||RIS|HOSP|20261122083005||ORM^O01|17|P|2.3.1||||||UNICODE UTF-8",
        "PID|1||P1^^^HKID||CHAN^TAI MAN^^Jr^Dr^^^A~陳^大文^^^^^^I||19700102|F",
        "ORC|SC|PL1|FI1||CM||||20261122083005",
        "OBR|1|PL1|FI1|CTHEAD^CT \\F\\ head^L||||||||||||||A1|RP1|||20261122083005||CT",
        "ZDS|1.2.3^GANTRY^Application^DICOM",
        "",
    ]


def test_what_a_value_holds_neither_ends_a_field_nor_a_segment() -> None:
    hostile = attributes(AccessionNumber="A^1&2~3\\4\rZZZ|5\n")
    message = read_message(told(order=hostile))
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "ORC", "OBR", "ZDS"]
    order = message.first("OBR")
    assert order is not None
    assert order.text(18) == "A^1&2~3\\4 ZZZ|5"


def test_what_is_not_known_is_empty() -> None:
    message = read_message(told(order={}, patient={}, modalities=[]))
    for name, fields in (("PID", (3, 5, 7, 8)), ("ORC", (2, 3)), ("OBR", (2, 4, 18, 19, 24))):
        segment = message.first(name)
        assert segment is not None
        assert [segment.raw(number) for number in fields] == [""] * len(fields)
    assert not ImagedProcedure(
        StudyInstanceUID="1.2.3", modalities=(), patient=PATIENT, order={}
    ).known_to_others


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (b"MSA|AA|17", Outcome.TAKEN, None),
        (b"MSA|CA|17", Outcome.TAKEN, None),
        (b"MSA|AA|", Outcome.TAKEN, None),
        (b"MSA|AE|17|CHAN TAI MAN is not known", Outcome.LATER, "answered AE"),
        (b"MSA|AR|17|no such message", Outcome.REFUSED, "answered AR"),
        (b"MSA|AA|16", Outcome.LATER, "the answer is to another message"),
        (b"MSA|XX|17", Outcome.LATER, "answered without a known code"),
        (b"PID|1", Outcome.LATER, "the answer is to another message"),
    ],
)
def test_what_an_answer_means(answer: bytes, outcome: Outcome, reason: str | None) -> None:
    head = b"MSH|^~\\&|RIS|HOSP|GANTRY||20261122083006||ACK^O01|9|P|2.3.1\r"
    found = judge_acknowledgement(head + answer + b"\r", control_id="17")
    assert (found.outcome, found.reason) == (outcome, reason)


def test_an_answer_that_is_none() -> None:
    found = judge_acknowledgement(b"PONG", control_id="17")
    assert found.outcome is Outcome.LATER
    assert found.reason == "the answer is no message: it does not begin with MSH"
