"""What messages of HL7 mean: the changes that they make, or why they make none."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.errors import ConfigurationError
from gantry_domain.hl7.acknowledgement import Refusal, acknowledgement
from gantry_domain.hl7.interpretation import Understood, interpret
from gantry_domain.hl7.mapping import order_mapping
from gantry_domain.hl7.message import UnreadableMessage, read_message
from gantry_domain.hl7.rules import Rules, StationRule
from gantry_domain.orders.attributes import tag_of
from gantry_domain.orders.changes import (
    ChangeState,
    ChangeVisit,
    MergePatients,
    OrderNumbers,
    PatientKey,
    PlaceOrder,
    RegisterPatient,
)
from gantry_domain.orders.states import StepState
from gantry_testkit.hl7_samples import EXPECTED, SAMPLES, order_message, patient_message

HONG_KONG = ZoneInfo("Asia/Hong_Kong")
RULES = Rules(order_mapping(), zone=HONG_KONG)


def understood(raw: bytes, rules: Rules = RULES) -> Understood:
    meaning = interpret(read_message(raw), rules)
    assert isinstance(meaning, Understood), meaning
    return meaning


def refusal(raw: bytes) -> Refusal:
    meaning = interpret(read_message(raw), RULES)
    assert isinstance(meaning, Refusal), meaning
    return meaning


def placed(raw: bytes, rules: Rules = RULES) -> PlaceOrder:
    (order,) = understood(raw, rules).changes
    assert isinstance(order, PlaceOrder)
    return order


def values(attributes, keyword):
    element = attributes.get(tag_of(keyword))
    return None if element is None else element.get("Value", [])


def replaced(raw: bytes, *pairs: tuple[str, str]) -> bytes:
    for old, new in pairs:
        assert old.encode() in raw
        raw = raw.replace(old.encode(), new.encode())
    return raw


@pytest.mark.parametrize("name", EXPECTED)
def test_samples(name: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the samples are not beside the project")
    meaning = interpret(read_message((SAMPLES / name).read_bytes()), RULES)
    if isinstance(meaning, Understood):
        assert EXPECTED[name] == "AA"
        assert meaning.changes
    else:
        assert EXPECTED[name] == f"{meaning.ack} {meaning.condition[0]}"


def test_every_sample_is_expected() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the samples are not beside the project")
    names = {str(path.relative_to(SAMPLES)) for path in SAMPLES.rglob("*") if path.is_file()}
    assert names - {"SOURCES.md"} == set(EXPECTED)
    assert len(EXPECTED) == 35


def test_a_new_order_has_what_a_worklist_needs() -> None:
    order = placed(order_message(name="CHAN^TAI MAN~陳^大文^^^^^^I"))
    assert order.new
    assert order.numbers == OrderNumbers("A1", "PLA1", "FIA1", "RPA1")
    assert order.patient.key == PatientKey("P1", "HOSP")
    patient = order.patient.attributes
    assert values(patient, "PatientName") == [
        {"Alphabetic": "CHAN^TAI MAN", "Ideographic": "陳^大文"}
    ]
    assert values(patient, "PatientID") == ["P1"]
    assert values(patient, "IssuerOfPatientID") == ["HOSP"]
    assert values(patient, "PatientBirthDate") == ["19700102"]
    assert values(patient, "PatientSex") == ["F"]
    attributes = order.attributes
    assert values(attributes, "AccessionNumber") == ["A1"]
    assert values(attributes, "ReferringPhysicianName") == [{"Alphabetic": "WONG^SIU MING"}]
    assert values(attributes, "RequestingPhysician") == [{"Alphabetic": "LEE^KA YAN"}]
    assert values(attributes, "CurrentPatientLocation") == ["WARD 3^B12"]
    assert values(attributes, "AdmissionID") == ["V77"]
    assert values(attributes, "RequestedProcedurePriority") == ["ROUTINE"]
    assert values(attributes, "RequestedProcedureDescription") == ["CT of the head"]
    (code,) = values(attributes, "RequestedProcedureCodeSequence")
    assert [code[tag]["Value"] for tag in ("00080100", "00080102", "00080104")] == [
        ["CTHEAD"], ["L"], ["CT of the head"],
    ]  # fmt: skip
    (step,) = order.steps
    assert step.number == "SPA1"
    assert step.start_told
    assert values(step.attributes, "Modality") == ["CT"]
    assert values(step.attributes, "ScheduledProcedureStepStartDate") == ["20261121"]
    assert values(step.attributes, "ScheduledProcedureStepStartTime") == ["083000"]
    assert values(step.attributes, "ScheduledProcedureStepDescription") == ["CT head plain"]
    (protocol,) = values(step.attributes, "ScheduledProtocolCodeSequence")
    assert protocol["00080100"]["Value"] == ["P7"]


def test_an_imaging_order_names_steps_of_its_own() -> None:
    raw = replaced(order_message(), ("ORM^O01", "OMI^O23"), ("2.3.1", "2.5.1")) + (
        b"IPC|A9|RP9|1.2.3.4|S1|MR|C1^Knee^L|ROOM 1|MR1|MR01~MR02\r"
        b"IPC|A9|RP9|1.2.3.4|S2|CT|C2^Head^L||CT1|CT01\r"
    )
    order = placed(raw)
    assert order.numbers.accession == "A9"
    assert values(order.attributes, "StudyInstanceUID") == ["1.2.3.4"]
    first, second = order.steps
    assert (first.number, second.number) == ("S1", "S2")
    assert values(first.attributes, "ScheduledStationAETitle") == ["MR01", "MR02"]
    assert values(first.attributes, "ScheduledProcedureStepLocation") == ["MR1"]
    assert values(second.attributes, "Modality") == ["CT"]


def test_observations_are_weight_and_height_and_b6_is_pregnant() -> None:
    raw = order_message() + b"OBX|1|NM|29463-7^^LN||65|kg\rOBX|2|NM|^Body Height||165|cm\r"
    raw = raw.replace(b"|||||||||||V77", b"|||||||B6||||V77")
    order = placed(raw)
    assert values(order.attributes, "PatientWeight") == [65]
    assert values(order.attributes, "PatientSize") == [1.65]
    assert values(order.attributes, "PregnancyStatus") == [3]


@pytest.mark.parametrize(
    ("control", "status", "state"),
    [
        ("CA", "", StepState.CANCELLED),
        ("OC", "", StepState.CANCELLED),
        ("DC", "", StepState.DISCONTINUED),
        ("SC", "IP", StepState.IN_PROGRESS),
        ("SC", "CM", StepState.COMPLETED),
        ("SC", "SC", StepState.SCHEDULED),
        ("SC", "CA", StepState.CANCELLED),
    ],
)
def test_states_of_orders(control: str, status: str, state: StepState) -> None:
    (change,) = understood(order_message(control=control, status=status)).changes
    assert change == ChangeState(
        PatientKey("P1", "HOSP"), OrderNumbers("A1", "PLA1", "FIA1", "RPA1"), state
    )


def test_changed_orders_and_states_without_effect() -> None:
    assert not placed(order_message(control="XO")).new
    held = understood(order_message(control="SC", status="HD"))
    assert held.changes == ()
    assert held.findings == ("state_without_effect ORC-5",)


@pytest.mark.parametrize(
    ("raw", "condition", "where"),
    [
        (order_message(patient=""), "101", ("PID", 3)),
        (order_message(accession="A" * 17), "102", ("OBR", 18)),
        (order_message(control="QQ"), "103", ("ORC", 1)),
        (order_message(control="SC", status="ER"), "103", ("ORC", 5)),
        (replaced(order_message(), ("ORC|", "ZRC|")), "100", ("ORC", 0)),
        (replaced(order_message(), ("PID|", "ZID|")), "100", ("PID", 0)),
        (order_message() + b"ZDS|1.2.bad^100\r", "102", ("ZDS", 1)),
        (patient_message("A40"), "100", ("MRG", 0)),
        (order_message() + b"IPC|A1\r" * 200, "100", ("", 0)),
        (patient_message("A08", patient="^^^HOSP"), "101", ("PID", 3)),
    ],
)
def test_bad_content_is_an_error_and_says_where(
    raw: bytes, condition: str, where: tuple[str, int]
) -> None:
    found = refusal(raw)
    assert (found.ack, found.condition[0]) == ("AE", condition)
    assert (found.segment, found.field) == where


@pytest.mark.parametrize(
    ("pair", "condition"),
    [
        (("ADT^A08", "ADT^A24"), "201"),
        (("ADT^A08", "MDM^T02"), "200"),
        (("|P|2.5|", "|P|3.0|"), "203"),
        (("|1|P|", "||P|"), "101"),
    ],
)
def test_what_is_not_understood_is_rejected(pair: tuple[str, str], condition: str) -> None:
    found = refusal(replaced(patient_message("A08"), pair))
    assert (found.ack, found.condition[0], found.segment) == ("AR", condition, "MSH")


def test_types_may_be_ignored() -> None:
    rules = Rules(order_mapping(), zone=HONG_KONG, ignored=frozenset(("ORU", "ADT^A24")))
    for kind in ("ORU^R01", "ADT^A24"):
        meaning = understood(replaced(patient_message("A08"), ("ADT^A08", kind)), rules)
        assert meaning.ignored
        assert meaning.changes == ()


@pytest.mark.parametrize("event", "A01 A02 A03 A04 A05 A06 A07 A08 A11 A12 A13 A28 A31".split())
def test_patients_are_registered_and_are_somewhere(event: str) -> None:
    patient, visit = understood(patient_message(event, location="W1^R2")).changes
    assert isinstance(patient, RegisterPatient)
    assert isinstance(visit, ChangeVisit)
    place = visit.attributes[tag_of("CurrentPatientLocation")]
    gone = event in ("A03", "A11")
    assert place == ({"vr": "LO"} if gone else {"vr": "LO", "Value": ["W1^R2"]})


@pytest.mark.parametrize("event", ["A18", "A34", "A40", "A47"])
def test_patients_are_merged(event: str) -> None:
    (merge,) = understood(patient_message(event, patient="NEW^^^H", old="OLD^^^H")).changes
    assert isinstance(merge, MergePatients)
    assert (merge.survivor.key, merge.old) == (PatientKey("NEW", "H"), PatientKey("OLD", "H"))


def test_several_merges_in_one_message() -> None:
    raw = patient_message("A40", patient="N1", old="O1") + b"PID|||N2\rMRG|O2\rPID|||N3\rMRG|N3\r"
    meaning = understood(raw)
    assert [type(change) for change in meaning.changes] == [
        MergePatients, MergePatients, RegisterPatient,
    ]  # fmt: skip
    assert meaning.findings == ("merged_with_itself MRG-1",)


APPOINTMENT = (
    b"MSH|^~\\&|RIS|H|G|H|2026||SIU^%s^SIU_S12|7|P|2.5\r"
    b"SCH|AP1|FA1|||||^Knee|||||^^^20261122093000\rPID|||P1||CHAN\rRGS|1\r"
    b"AIS|1|A|MRK^MR knee^L|20261122093000\rAIL|1|A|MR1\rAIP|1|A|9^LAM^KA\r"
)


@pytest.mark.parametrize("event", [b"S12", b"S13", b"S14"])
def test_appointments_are_booked(event: bytes) -> None:
    order = placed(APPOINTMENT % event)
    assert order.new == (event == b"S12")
    assert order.numbers == OrderNumbers("", "AP1", "FA1")
    (step,) = order.steps
    assert values(step.attributes, "ScheduledProcedureStepStartTime") == ["093000"]
    assert values(step.attributes, "ScheduledProcedureStepLocation") == ["MR1"]
    assert values(step.attributes, "ScheduledPerformingPhysicianName") == [{"Alphabetic": "LAM^KA"}]
    assert values(order.attributes, "RequestedProcedureDescription") == ["MR knee"]


@pytest.mark.parametrize("event", [b"S15", b"S17", b"S26"])
def test_appointments_are_called_off(event: bytes) -> None:
    (change,) = understood(APPOINTMENT % event).changes
    assert isinstance(change, ChangeState)
    assert change.state is StepState.CANCELLED


def test_one_message_may_hold_several_orders() -> None:
    one = order_message(accession="A1")
    other = order_message(accession="A2", control="CA").split(b"\rORC|")[1]
    first, second = understood(one + b"ORC|" + other).changes
    assert isinstance(first, PlaceOrder)
    assert isinstance(second, ChangeState)
    assert (first.numbers.accession, second.numbers.accession) == ("A1", "A2")


def test_a_null_empties_and_nothing_leaves() -> None:
    order = placed(order_message(name='""').replace(b"19700102", b""))
    assert order.patient.attributes[tag_of("PatientName")] == {"vr": "PN"}
    assert tag_of("PatientBirthDate") not in order.patient.attributes


@pytest.mark.parametrize(
    ("sent", "date", "time"),
    [
        ("20261121083015.123+0800", "20261121", "083015"),
        ("20261121003000+0000", "20261121", "083000"),
        ("202611210830", "20261121", "083000"),
        ("20261121", "20261121", "000000"),
        ("20261121T0830", "20261121", "083000"),
    ],
)
def test_times_are_those_of_the_department(sent: str, date: str, time: str) -> None:
    (step,) = placed(order_message(start=sent)).steps
    assert values(step.attributes, "ScheduledProcedureStepStartDate") == [date]
    assert values(step.attributes, "ScheduledProcedureStepStartTime") == [time]


@pytest.mark.parametrize("sent", ["", "2026", "20261341", "soon"])
def test_no_time_is_told_as_none(sent: str) -> None:
    (step,) = placed(order_message(start=sent)).steps
    assert not step.start_told


def test_stations_follow_from_modality_and_room() -> None:
    rules = Rules(
        order_mapping({"ScheduledProcedureStepLocation": ["PV1-3.1"]}),
        zone=HONG_KONG,
        stations=(
            StationRule(ae_titles=("CT03",), modality="CT", location="WARD 3"),
            StationRule(ae_titles=("CT01", "CT02"), modality="CT"),
        ),
    )
    (near,) = placed(order_message(), rules).steps
    assert values(near.attributes, "ScheduledStationAETitle") == ["CT03"]
    (far,) = placed(replaced(order_message(), ("WARD 3", "WARD 4")), rules).steps
    assert values(far.attributes, "ScheduledStationAETitle") == ["CT01", "CT02"]
    (other,) = placed(order_message(modality="US"), rules).steps
    assert values(other.attributes, "ScheduledStationAETitle") is None


def test_the_identifier_is_chosen_by_authority_and_type() -> None:
    raw = order_message(patient="900^^^MRN^MR~A123456(3)^^^HKID^NI")
    assert placed(raw).patient.key == PatientKey("900", "MRN")
    hkid = Rules(order_mapping(), zone=HONG_KONG, authority="HKID")
    assert placed(raw, hkid).patient.key == PatientKey("A123456(3)", "HKID")
    national = Rules(order_mapping(), zone=HONG_KONG, identifier_type="NI")
    assert placed(raw, national).patient.key.PatientID == "A123456(3)"


def test_the_mapping_may_be_written_over() -> None:
    rules = Rules(order_mapping({"AccessionNumber": ["ORC-3"]}), zone=HONG_KONG)
    assert placed(order_message(), rules).numbers.accession == "FIA1"
    with pytest.raises(ConfigurationError, match="AccesionNumber"):
        order_mapping({"AccesionNumber": ["ORC-3"]})
    with pytest.raises(ConfigurationError, match="PID"):
        order_mapping({"AccessionNumber": ["PID:3"]})


def test_findings_name_fields_and_never_values() -> None:
    raw = replaced(order_message(), ("|F\r", "|Q\r"))
    raw = raw.replace(b"|RPA1|SPA1|", b"|" + b"R" * 20 + b"|" + b"S" * 20 + b"|")
    meaning = understood(raw)
    assert set(meaning.findings) == {
        "value_invalid PID-8", "value_too_long OBR-19", "value_too_long OBR-20",
    }  # fmt: skip


def test_acknowledgements() -> None:
    now = datetime(2026, 11, 21, 8, tzinfo=UTC)
    raw = order_message(control_id="MSG 7", control="QQ")
    accepted = acknowledgement(raw, control_id="G1", now=now)
    assert accepted == (
        b"MSH|^~\\&|GANTRY|HOSP|RIS|HOSP|20261121080000+0000||ACK^O01|G1|P|2.3.1\rMSA|AA|MSG 7\r"
    )
    found = refusal(raw)
    old = acknowledgement(raw, control_id="G1", now=now, refusal=found).split(b"\r")
    assert old[1:] == [
        b"MSA|AE|MSG 7|ORC-1 is not understood",
        b"ERR|ORC^1^1^103&Table value not found&HL70357",
        b"",
    ]
    newer = raw.replace(b"|2.3.1|", b"|2.5.1|")
    new = acknowledgement(newer, control_id="G1", now=now, refusal=found).split(b"\r")
    assert new[2] == (
        b"ERR||ORC^1^1|103^Table value not found^HL70357|E||||ORC-1 is not understood"
    )
    nothing = acknowledgement(b"rubbish", control_id="G1", now=now, refusal=found)
    assert nothing.startswith(b"MSH|^~\\&|||||")
    assert b"\rMSA|AE||ORC-1" in nothing


@given(st.integers(0, 10_000), st.binary(max_size=12), st.integers(0, 30))
def test_whatever_a_message_says_it_means_something(place: int, junk: bytes, cut: int) -> None:
    raw = order_message(name="CHAN^TAI MAN~陳^大文")
    place %= len(raw)
    changed = raw[:place] + junk + raw[place + cut :]
    try:
        message = read_message(changed)
    except UnreadableMessage:
        return
    meaning = interpret(message, RULES)
    assert isinstance(meaning, Understood | Refusal)
    # Pure: it means the same each time.
    assert interpret(message, RULES) == meaning
