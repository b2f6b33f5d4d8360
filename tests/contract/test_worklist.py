"""Worklist and MPPS over real associations: orders come by HL7, modalities ask and perform."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from sqlalchemy.engine import Engine

from gantry_domain.information_models import (
    MODALITY_PERFORMED_PROCEDURE_STEP as MPPS,
)
from gantry_domain.information_models import (
    MODALITY_WORKLIST_FIND as WORKLIST,
)
from gantry_runtime.metrics import sample
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.order_tables import performed_step
from gantry_testkit.hl7_samples import order_message, patient_message
from gantry_testkit.orders_door import OrdersDoor, acknowledged, orders_door
from gantry_testkit.query_scu import answers, associated

CONFIGURATION = """
timezone: Asia/Hong_Kong
worklist: {stations: [{modality: MR, ae_titles: [MR01, MR02]}]}
partners:
  - {ae_title: CHINA, charset: GB18030}
  - {ae_title: JAPAN, charset: "ISO 2022 IR 6\\\\ISO 2022 IR 87"}
  - {ae_title: FUSSY, empty_sequences: item}
  - {ae_title: CAMERA, may: [store]}
"""
CONTEXTS = [build_context(WORKLIST), build_context(MPPS)]


@pytest.fixture(scope="module")
def module_engine(module_postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(module_postgres_url, pool_size=8)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def door(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDoor]:
    folder = tmp_path_factory.mktemp("orders")
    with orders_door(module_engine, folder, CONFIGURATION) as door:
        yield door


@pytest.fixture(scope="module")
def listed(door: OrdersDoor) -> OrdersDoor:
    """With orders that no other test changes."""
    tell(
        door,
        order_message(
            accession="W1", name="Smith^John^Q", patient="W1^^^HOSP", start="20300105080000"
        ),
        order_message(
            accession="W2",
            name="CHAN^TAI MAN~陳^大文^^^^^^I",
            patient="W2^^^HOSP",
            start="20300105140000",
            modality="MR",
        ),
        order_message(
            accession="W3", name="Smithers^Ann", patient="W3^^^HOSP", start="20300107100000"
        ),
        order_message(
            accession="W4", name="Müller^Jörg", patient="W4^^^HOSP", start="20300106090000",
            modality="US",
        ).replace(b"|CTHEAD^CT of the head^L^P7^CT head plain^L|", b"||"),
    )  # fmt: skip
    return door


def tell(door: OrdersDoor, *messages: bytes) -> None:
    numbered = [message.replace(b"|1|P|", f"|{generate_uid()}|P|".encode()) for message in messages]
    assert acknowledged(door.hl7, *numbered) == ["AA"] * len(messages)


def question(step: dict[str, Any] | None = None, **keys: Any) -> Dataset:
    """A query with what a modality asks for (PS3.2 Table B.4.2-24), and these keys."""
    ds = Dataset()
    for keyword in (
        "AccessionNumber PatientName PatientID PatientBirthDate PatientSex PatientWeight"
        " MedicalAlerts PregnancyStatus CurrentPatientLocation RequestedProcedureID"
        " RequestedProcedureDescription StudyInstanceUID RequestedProcedurePriority"
        " ReferringPhysicianName PatientTransportArrangements"
    ).split():
        setattr(ds, keyword, keys.pop(keyword, None))
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    item = Dataset()
    for keyword in (
        "ScheduledStationAETitle ScheduledProcedureStepStartDate Modality"
        " ScheduledProcedureStepStartTime ScheduledProcedureStepDescription"
        " ScheduledProcedureStepID ScheduledProcedureStepStatus ScheduledProcedureStepLocation"
    ).split():
        setattr(item, keyword, (step or {}).get(keyword))
    code = Dataset()
    code.CodeValue = code.CodingSchemeDesignator = code.CodeMeaning = None
    item.ScheduledProtocolCodeSequence = [code]
    ds.ScheduledProcedureStepSequence = [item]
    return ds


def asked(door: OrdersDoor, ds: Dataset, calling: str = "CT01") -> tuple[list[int], list[Dataset]]:
    with associated(door.dimse, calling=calling, contexts=CONTEXTS) as assoc:
        statuses, found = answers(assoc, ds, WORKLIST)
    return [status.Status for status in statuses], found


def accessions(door: OrdersDoor, ds: Dataset, calling: str = "CT01") -> list[str]:
    statuses, found = asked(door, ds, calling)
    assert statuses[-1] == 0, statuses
    return [match.AccessionNumber for match in found]


WEEK = {"ScheduledProcedureStepStartDate": "20300101-20300131"}
QUESTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a week, soonest first": (WEEK, {}, ["W1", "W2", "W4", "W3"]),
    "a day": ({"ScheduledProcedureStepStartDate": "20300105"}, {}, ["W1", "W2"]),
    "until": ({"ScheduledProcedureStepStartDate": "-20300106"}, {"PatientID": "W4"}, ["W4"]),
    "from": ({"ScheduledProcedureStepStartDate": "20300107-"}, {}, ["W3"]),
    "date and time are one range": (
        {
            "ScheduledProcedureStepStartDate": "20300105-20300107",
            "ScheduledProcedureStepStartTime": "1200-0930",
        },
        {},
        ["W2", "W4"],
    ),
    "time alone": (
        {"ScheduledProcedureStepStartTime": "0800-0930"}, {"AccessionNumber": "W?"}, ["W1", "W4"],
    ),
    "modality": ({**WEEK, "Modality": "MR"}, {}, ["W2"]),
    "a station of the rules": ({**WEEK, "ScheduledStationAETitle": "MR02"}, {"PatientID": "W2"},
                               ["W2"]),
    "another station": ({**WEEK, "ScheduledStationAETitle": "MR09"}, {"PatientID": "W2"}, []),
    "whoever asks may do what has no station": (
        {**WEEK, "ScheduledStationAETitle": "CT01", "Modality": "CT"}, {}, ["W1", "W3"],
    ),
    "a pattern of stations": ({**WEEK, "ScheduledStationAETitle": "MR*"}, {}, ["W2"]),
    "accession number": ({}, {"AccessionNumber": "W3"}, ["W3"]),
    "patient identifier": ({}, {"PatientID": "W1"}, ["W1"]),
    "procedure": ({}, {"RequestedProcedureID": "RPW4"}, ["W4"]),
    "step": ({"ScheduledProcedureStepID": "SPW1"}, {}, ["W1"]),
    "status": ({**WEEK, "ScheduledProcedureStepStatus": "SCHEDULED", "Modality": "US"}, {}, ["W4"]),
    "another status": ({**WEEK, "ScheduledProcedureStepStatus": "STARTED"}, {}, []),
    "name": (WEEK, {"PatientName": "SMITH^JOHN^Q"}, ["W1"]),
    "a pattern of names": (WEEK, {"PatientName": "smith*"}, ["W1", "W3"]),
    "an ideographic name": (WEEK, {"PatientName": "*=陳*"}, ["W2"]),
    "any component group": (WEEK, {"PatientName": "*大文*"}, ["W2"]),
    "an accent": (WEEK, {"PatientName": "MÜLLER*"}, ["W4"]),
    "birth date and sex": (WEEK, {"PatientBirthDate": "19700102", "PatientSex": "F"},
                           ["W1", "W2", "W4", "W3"]),
    "referring physician": (WEEK, {"ReferringPhysicianName": "wong*"}, ["W1", "W2", "W4", "W3"]),
    "requesting physician": ({}, {"RequestingPhysician": "LEE*", "PatientID": "W1"}, ["W1"]),
    "admission": ({}, {"AdmissionID": "V77", "PatientID": "W1"}, ["W1"]),
    "priority": ({**WEEK}, {"RequestedProcedurePriority": "STAT"}, []),
    "nobody": ({}, {"PatientID": "NOBODY"}, []),
}  # fmt: skip


def test_questions(listed: OrdersDoor) -> None:
    found = {}
    with associated(listed.dimse, calling="CT01", contexts=CONTEXTS) as assoc:
        for name, (step, keys, _) in QUESTIONS.items():
            ds = question(step, SpecificCharacterSet="ISO_IR 192", **keys)
            statuses, matches = answers(assoc, ds, WORKLIST)
            assert statuses[-1].Status == 0, name
            found[name] = [match.AccessionNumber for match in matches]
    assert found == {name: expected for name, (_, _, expected) in QUESTIONS.items()}


def test_an_answer_has_what_was_asked_for(listed: OrdersDoor) -> None:
    wanted = question({"ScheduledStationAETitle": "CT01"}, AccessionNumber="W1")
    statuses, (found,) = asked(listed, wanted)
    assert statuses == [0xFF00, 0]
    assert [element.tag for element in wanted] == [element.tag for element in found]
    assert found.PatientName == "Smith^John^Q"
    assert (found.PatientID, found.PatientBirthDate, found.PatientSex) == ("W1", "19700102", "F")
    assert found.StudyInstanceUID.startswith("2.25.")
    assert found.MedicalAlerts is None or not found.MedicalAlerts
    (step,) = found.ScheduledProcedureStepSequence
    (asked_for,) = wanted.ScheduledProcedureStepSequence
    assert [element.tag for element in asked_for] == [element.tag for element in step]
    assert step.ScheduledStationAETitle == "CT01"
    assert step.ScheduledProcedureStepStatus == "SCHEDULED"
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == (
        "20300105", "080000",
    )  # fmt: skip
    (code,) = step.ScheduledProtocolCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("P7", "L")


def test_code_sequences_without_a_code(listed: OrdersDoor) -> None:
    wanted = question({}, AccessionNumber="W4")
    _, (found,) = asked(listed, wanted)
    assert list(found.ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence) == []
    _, (filled,) = asked(listed, wanted, "FUSSY")
    (code,) = filled.ScheduledProcedureStepSequence[0].ScheduledProtocolCodeSequence
    assert [element.tag for element in code] == [0x00080100, 0x00080102, 0x00080104]
    assert not code.CodeValue


@pytest.mark.parametrize(
    ("calling", "charset", "expected"),
    [
        ("CHINA", None, "GB18030"),
        ("JAPAN", None, ["", "ISO 2022 IR 87"]),
        ("CT01", "ISO_IR 192", "ISO_IR 192"),
        ("CT01", "GB18030", "GB18030"),
        ("CT01", None, "ISO_IR 192"),
    ],
)
def test_character_sets(
    listed: OrdersDoor, calling: str, charset: str | None, expected: str | list[str]
) -> None:
    wanted = question({}, AccessionNumber="W2")
    if charset:
        wanted.SpecificCharacterSet = charset
    _, (found,) = asked(listed, wanted, calling)
    if calling == "JAPAN":
        assert found.SpecificCharacterSet[-1] == "ISO 2022 IR 87"
    else:
        assert found.SpecificCharacterSet == expected
    assert found.PatientName.ideographic == "陳^大文"


@pytest.mark.parametrize(
    ("codec", "named", "name"),
    [
        ("gb18030", "GB 18030-2000", "王^小明"),
        ("big5hkscs", "BIG-5", "陳^大文"),
        ("iso2022_jp", "ISO IR87", "山田^太郎"),
        ("utf_8", "UNICODE UTF-8", "김^희중"),
    ],
)
def test_names_pass_from_messages_to_answers(
    door: OrdersDoor, codec: str, named: str, name: str
) -> None:
    number = f"C{codec}"[:16]
    tell(
        door,
        order_message(accession=number, patient=number, name=name, charset=named, codec=codec),
    )
    _, (found,) = asked(door, question({}, AccessionNumber=number))
    assert str(found.PatientName) == name


def test_who_may_ask_and_what_cannot_be_asked(listed: OrdersDoor) -> None:
    statuses, found = asked(listed, question({}), "CAMERA")
    assert (statuses, found) == ([0x0124], [])
    two = question({})
    two.ScheduledProcedureStepSequence.append(Dataset())
    two.ScheduledProcedureStepSequence[1].Modality = "CT"
    statuses, _ = asked(listed, two)
    assert statuses == [0xA900]
    statuses, found = asked(listed, question(WEEK, AccessionNumber="W1", StudyID="7"))
    assert statuses == [0xFF01, 0]


def findscu(address: tuple[str, int], *keys: str) -> str:
    program = shutil.which("findscu")
    if program is None:
        pytest.skip("findscu is not installed")
    arguments = [part for key in keys for part in ("-k", key)]
    done = subprocess.run(
        [program, "-v", "-W", "-aec", "GANTRY", "-aet", "CT01", *arguments,
         address[0], str(address[1])],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_life_of_an_order(door: OrdersDoor) -> None:
    """With dcmtk's findscu: each change is visible as it must be."""

    def shown(*keys: str) -> str:
        return findscu(
            door.dimse,
            "AccessionNumber=LIFE",
            "PatientName",
            "PatientID",
            "CurrentPatientLocation",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime",
            "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT01",
            *keys,
        )

    life = {"accession": "LIFE", "patient": "OLD^^^HOSP", "name": "LAM^KA YAN"}
    tell(door, order_message(**life))
    text = shown()
    assert "[LAM^KA YAN" in text
    assert "[083000" in text
    tell(door, order_message(**life, control="XO", start="20261121111500"))
    assert "[111500" in shown()
    tell(door, patient_message("A02", patient="OLD^^^HOSP", name="LAM^KA YAN", location="ICU"))
    assert "[ICU" in shown()
    tell(door, patient_message("A08", patient="OLD^^^HOSP", name="LAM^KA YIN"))
    assert "[LAM^KA YIN" in shown()
    tell(door, patient_message("A47", patient="NEW^^^HOSP", old="OLD^^^HOSP", name="LAM^KA YIN"))
    text = shown()
    assert "[NEW" in text
    assert "[OLD" not in text
    tell(door, patient_message("A40", patient="LAST^^^HOSP", old="NEW^^^HOSP", name="LAM^K Y"))
    text = shown()
    assert "[LAST" in text
    assert "[LAM^K Y" in text
    # What still comes under an old number is the survivor's.
    tell(door, order_message(**life, control="XO", start="20261121120000"))
    text = shown()
    assert "[120000" in text
    assert "[LAST" in text
    tell(door, order_message(**life, control="CA"))
    assert "Pending" not in shown()
    tell(door, order_message(**life))
    assert "[LAST" in shown()


def begun(door: OrdersDoor, accession: str) -> Dataset:
    """What a modality tells when it begins with a step of the worklist."""
    _, (match,) = asked(door, question({}, AccessionNumber=accession))
    (step,) = match.ScheduledProcedureStepSequence
    item = Dataset()
    item.StudyInstanceUID = match.StudyInstanceUID
    item.AccessionNumber = match.AccessionNumber
    item.RequestedProcedureID = match.RequestedProcedureID
    item.ScheduledProcedureStepID = step.ScheduledProcedureStepID
    item.ReferencedStudySequence = []
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [item]
    ds.PatientName = match.PatientName
    ds.PatientID = match.PatientID
    ds.PerformedProcedureStepID = "PPS1"
    ds.PerformedStationAETitle = "CT01"
    ds.PerformedProcedureStepStartDate = "20261121"
    ds.PerformedProcedureStepStartTime = "0830"
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.Modality = "CT"
    return ds


def ended(state: str, images: int = 0, reason: tuple[str, str] | None = None) -> Dataset:
    ds = Dataset()
    ds.PerformedProcedureStepStatus = state
    ds.PerformedProcedureStepEndDate = "20261121"
    series = Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ReferencedImageSequence = []
    for _ in range(images):
        image = Dataset()
        image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        image.ReferencedSOPInstanceUID = generate_uid()
        series.ReferencedImageSequence.append(image)
    ds.PerformedSeriesSequence = [series]
    if reason:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = reason
        code.CodeMeaning = "why"
        ds.PerformedProcedureStepDiscontinuationReasonCodeSequence = [code]
    return ds


class Modality:
    """Tells what it performs."""

    def __init__(self, assoc: Association, commands: list[Dataset]) -> None:
        self._assoc = assoc
        self.commands = commands
        """The command sets that it was answered with."""

    def create(self, ds: Dataset, uid: str | None) -> Dataset:
        status, _ = self._assoc.send_n_create(ds, MPPS, uid)
        return status

    def set(self, ds: Dataset, uid: str) -> Dataset:
        status, _ = self._assoc.send_n_set(ds, MPPS, uid)
        return status


@pytest.fixture
def modality(door: OrdersDoor) -> Iterator[Modality]:
    commands: list[Dataset] = []

    def keep(event: evt.Event) -> None:
        commands.append(event.message.command_set)

    with associated(door.dimse, contexts=CONTEXTS, handlers=[(evt.EVT_DIMSE_RECV, keep)]) as assoc:
        yield Modality(assoc, commands)


@pytest.fixture
def order(door: OrdersDoor, request: pytest.FixtureRequest) -> str:
    """The accession number of an order of this test alone."""
    number = f"M{abs(hash(request.node.name)) % 10**12}"
    tell(door, order_message(accession=number, patient=number))
    return number


def started(door: OrdersDoor, number: str) -> list[str]:
    step = {"ScheduledProcedureStepStatus": "STARTED"}
    return accessions(door, question(step, AccessionNumber=number))


def to_do(door: OrdersDoor, number: str) -> list[str]:
    return accessions(door, question({}, AccessionNumber=number))


def test_performed_and_completed(
    door: OrdersDoor, modality: Modality, order: str, module_engine: Engine
) -> None:
    uid = generate_uid()
    assert modality.create(begun(door, order), uid).Status == 0
    assert (to_do(door, order), started(door, order)) == ([], [order])
    # What is performed cannot be cancelled by the department.
    cancelled = order_message(accession=order, patient=order, control="CA", control_id=uid)
    assert acknowledged(door.hl7, cancelled) == ["AE 206"]
    assert modality.set(ended("IN PROGRESS", 2), uid).Status == 0
    assert modality.set(ended("COMPLETED", 1200), uid).Status == 0
    assert (to_do(door, order), started(door, order)) == ([], [])
    with transaction(module_engine) as connection:
        row = connection.execute(
            sa.select(performed_step).where(performed_step.c.sop_instance_uid == uid)
        ).one()
    assert (row.state, row.instances, row.calling_ae) == ("COMPLETED", 1200, "WS1")


@pytest.mark.parametrize(
    ("reason", "still_to_do"),
    [(None, False), (("110513", "DCM"), False), (("110514", "DCM"), True)],
)
def test_discontinued(
    door: OrdersDoor,
    modality: Modality,
    order: str,
    reason: tuple[str, str] | None,
    still_to_do: bool,
) -> None:
    uid = generate_uid()
    assert modality.create(begun(door, order), uid).Status == 0
    assert modality.set(ended("DISCONTINUED", reason=reason), uid).Status == 0
    assert to_do(door, order) == ([order] if still_to_do else [])


@pytest.mark.parametrize("last", ["COMPLETED", "DISCONTINUED"])
def test_what_is_over_may_not_be_updated(modality: Modality, last: str) -> None:
    uid = generate_uid()
    assert modality.create(unscheduled(), uid).Status == 0
    assert modality.set(ended(last), uid).Status == 0
    for then in ("IN PROGRESS", "COMPLETED", "DISCONTINUED"):
        status = modality.set(ended(then), uid)
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
        assert "may not be updated" in status.ErrorComment


def unscheduled() -> Dataset:
    ds = Dataset()
    item = Dataset()
    item.StudyInstanceUID = generate_uid()
    item.AccessionNumber = None
    ds.ScheduledStepAttributesSequence = [item]
    ds.PerformedProcedureStepStatus = "IN PROGRESS"
    ds.PerformedProcedureStepID = "U1"
    return ds


def without(keyword: str) -> Dataset:
    ds = unscheduled()
    delattr(ds, keyword)
    return ds


def with_state(state: str) -> Dataset:
    ds = unscheduled()
    ds.PerformedProcedureStepStatus = state
    return ds


def without_study() -> Dataset:
    ds = unscheduled()
    del ds.ScheduledStepAttributesSequence[0].StudyInstanceUID
    return ds


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda: with_state("COMPLETED"), 0x0106),
        (lambda: with_state("PAUSED"), 0x0106),
        (lambda: with_state(""), 0x0121),
        (lambda: without("PerformedProcedureStepStatus"), 0x0120),
        (lambda: without("ScheduledStepAttributesSequence"), 0x0120),
        (without_study, 0x0121),
    ],
)
def test_what_cannot_be_created(
    modality: Modality, make: Callable[[], Dataset], status: int
) -> None:
    answer = modality.create(make(), generate_uid())
    assert answer.Status == status
    assert answer.ErrorComment


def test_created_twice_unknown_and_unscheduled(modality: Modality, door: OrdersDoor) -> None:
    before = sample("gantry_worklist_performed_unscheduled_total")
    uid = generate_uid()
    assert modality.create(unscheduled(), uid).Status == 0
    assert sample("gantry_worklist_performed_unscheduled_total") == before + 1
    assert modality.create(unscheduled(), uid).Status == 0x0111
    assert modality.set(ended("COMPLETED"), generate_uid()).Status == 0x0112
    assert modality.set(ended("PAUSED"), uid).Status == 0x0106
    with associated(door.dimse, calling="CAMERA", contexts=CONTEXTS) as assoc:
        status, _ = assoc.send_n_create(unscheduled(), MPPS, generate_uid())
    assert status.Status == 0x0124


def test_a_uid_is_given_to_a_step_without(modality: Modality) -> None:
    created = modality.create(unscheduled(), None)
    assert created.Status == 0
    uid = modality.commands[-1].AffectedSOPInstanceUID
    assert uid.startswith("2.25.")
    assert modality.set(ended("COMPLETED"), uid).Status == 0


@pytest.mark.long
def test_a_hundred_thousand_orders_answer_as_quickly_as_a_thousand(
    engine: Engine, tmp_path: Path
) -> None:
    import statistics
    import time

    def fill(connection: sa.Connection, first: int, last: int) -> None:
        connection.execute(sa.text(_FILL), {"first": first, "last": last})

    wanted = question(
        {"ScheduledStationAETitle": "CT01", "ScheduledProcedureStepStartDate": "20300105"}
    )

    def seconds(door: OrdersDoor) -> float:
        taken = []
        with associated(door.dimse, contexts=CONTEXTS) as assoc:
            for _ in range(15):
                start = time.perf_counter()
                statuses, found = answers(assoc, wanted, WORKLIST)
                taken.append(time.perf_counter() - start)
                assert (len(found), statuses[-1].Status) == (20, 0)
        return statistics.median(taken)

    with orders_door(engine, tmp_path / "orders") as door:
        with transaction(engine) as connection:
            fill(connection, 1, 1000)
        few = seconds(door)
        with transaction(engine) as connection:
            # The other 99,000 are on other days, 20 of which are in any case CT01's.
            fill(connection, 1001, 100_000)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE")
        many = seconds(door)
    assert many < 2 * few, f"{few * 1000:.1f} ms, then {many * 1000:.1f} ms"


# A patient with an order and a step each; 20 of the first thousand are CT01's on one day.
_FILL = """
WITH patients AS (
  INSERT INTO order_patient (partition, identity, patient_id, attributes, updated_at)
  SELECT 'main', 'P' || n, 'P' || n,
    jsonb_build_object('00100020', jsonb_build_object('vr', 'LO', 'Value',
      jsonb_build_array('P' || n))), now()
  FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n RETURNING pk, patient_id),
orders AS (
  INSERT INTO order_ (partition, patient_pk, study_instance_uid, procedure_told, accession_number,
    attributes, created_at, updated_at)
  SELECT 'main', pk, '2.25.' || pk, false, 'A' || pk,
    jsonb_build_object('00080050', jsonb_build_object('vr', 'SH', 'Value',
      jsonb_build_array('A' || pk))), now(), now()
  FROM patients RETURNING pk)
INSERT INTO order_step (order_pk, partition, position, number_told, scheduled_station_ae_title,
  scheduled_procedure_step_start_date, scheduled_procedure_step_start_time, attributes, updated_at)
SELECT pk, 'main', 0, false, ARRAY['CT0' || (1 + pk % 5)],
  CASE WHEN pk % 1000 < 100 AND pk <= 1000 THEN '20300105'
    ELSE to_char(date '2030-02-01' + (pk % 1000)::int, 'YYYYMMDD') END,
  '080000.000000', '{}', now()
FROM orders
"""
