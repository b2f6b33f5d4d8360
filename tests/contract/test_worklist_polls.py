"""Another system's worklist taken over: new, changed, gone; of ours, and of dcmtk's wlmscpfs."""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination
from gantry_archive.polling import PollOutcome, PollSource, ask_worklist, take_over
from gantry_dimse.peer_errors import Unreachable
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import order_, order_patient, order_step
from gantry_stores.index.orders.polls import claim_poll, last_poll_at
from gantry_testkit.forwarding import TIMEOUTS
from gantry_testkit.hl7_samples import order_message
from gantry_testkit.modality import WORKLIST, asked, question, tell
from gantry_testkit.orders_door import OrdersDoor, orders_door
from gantry_testkit.ports import free_port
from gantry_testkit.waiting import until

NOW = datetime(2030, 1, 5, 9, tzinfo=UTC)
START = "20300105143000"
TAKEN, UNCHANGED, REFUSED, CANCELLED = PollOutcome


@pytest.fixture(scope="module")
def other(module_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrdersDoor]:
    """The other system: a worklist of its own."""
    with orders_door(module_engine, tmp_path_factory.mktemp("other")) as door:
        yield door


def source(
    port: int, *, called: str = "GANTRY", cancels: bool = True, ahead: int = 2
) -> PollSource:
    return PollSource(
        destination=Destination(ae_title=called, host="127.0.0.1", port=port, calling_ae="POLLER"),
        timeouts=TIMEOUTS,
        partition="main",
        charset=None,
        ahead=ahead,
        cancels=cancels,
    )


def poll(engine: Engine, of: PollSource, now: datetime = NOW) -> dict[PollOutcome, int]:
    return +take_over(engine, of, ask_worklist(of, now=now), now=now)


def states(engine: Engine) -> dict[str, str]:
    with transaction(engine) as connection:
        rows = connection.execute(
            sa.select(order_.c.accession_number, order_step.c.state).join(order_)
        )
        return {row.accession_number: row.state for row in rows}


def place(other: OrdersDoor, number: str, control: str = "NW", **values: str) -> None:
    tell(other, order_message(**{
        "accession": number, "patient": f"{number}^^^HOSP", "control": control, "start": START,
        "name": "CHAN^TAI MAN~陳^大文^^^^^^I", **values,
    }))  # fmt: skip


def cancel(other: OrdersDoor, *numbers: str) -> None:
    for number in numbers:
        place(other, number, control="CA")


def test_orders_come_change_and_go(other: OrdersDoor, engine: Engine) -> None:
    of = source(other.dimse[1])
    place(other, "P1")
    place(other, "P2", modality="MR")
    place(other, "FAR", start="20300301100000")
    assert poll(engine, of) == {TAKEN: 2}
    assert states(engine) == {"P1": "scheduled", "P2": "scheduled"}
    with transaction(engine) as connection:
        theirs = connection.execute(
            sa.select(order_.c.attributes, order_patient.c.attributes.label("patient"))
            .join(order_patient)
            .where(order_.c.accession_number == "P1")
        ).one()
    assert theirs.patient["00100010"]["Value"][0]["Ideographic"] == "陳^大文"
    assert theirs.attributes["0020000D"]["Value"][0].startswith("2.25.")
    # What did not change is left alone, and what did is not.
    assert poll(engine, of) == {UNCHANGED: 2}
    place(other, "P1", control="XO", start="20300105160000")
    assert poll(engine, of) == {TAKEN: 1, UNCHANGED: 1}
    with transaction(engine) as connection:
        times = connection.scalars(
            sa.select(order_step.c.scheduled_procedure_step_start_time)
            .join(order_)
            .where(order_.c.accession_number == "P1")
        ).all()
    assert times == ["160000.000000"]
    # Gone from one answer is not gone yet.
    cancel(other, "P1")
    assert poll(engine, of) == {UNCHANGED: 1}
    assert states(engine)["P1"] == "scheduled"
    assert poll(engine, of) == {UNCHANGED: 1, CANCELLED: 1}
    assert states(engine) == {"P1": "cancelled", "P2": "scheduled"}
    # And there again.
    place(other, "P1")
    assert poll(engine, of) == {UNCHANGED: 1, TAKEN: 1}
    assert states(engine)["P1"] == "scheduled"
    cancel(other, "P2")
    poll(engine, of)
    place(other, "P2", modality="MR")
    assert poll(engine, of) == {UNCHANGED: 2}
    cancel(other, "P2")
    assert poll(engine, of) == {UNCHANGED: 1}
    # Days later nothing is known of them any more, and nothing is cancelled.
    later = NOW + timedelta(days=4)
    assert poll(engine, of, later) == {}
    assert states(engine) == {"P1": "scheduled", "P2": "scheduled"}
    cancel(other, "P1", "FAR")


def test_what_is_gone_may_stay(other: OrdersDoor, engine: Engine) -> None:
    of = source(other.dimse[1], cancels=False)
    place(other, "K1")
    assert poll(engine, of) == {TAKEN: 1}
    cancel(other, "K1")
    assert [poll(engine, of) for _ in range(3)] == [{}, {}, {}]
    assert states(engine) == {"K1": "scheduled"}


def test_another_patients_order_is_refused_and_others_are_taken(
    other: OrdersDoor, engine: Engine, tmp_path: Path
) -> None:
    of = source(other.dimse[1])
    place(other, "R1")
    place(other, "R2")
    with orders_door(engine, tmp_path / "ours") as ours:
        tell(ours, order_message(accession="R1", patient="SOMEBODY^^^HOSP"))
    assert poll(engine, of) == {TAKEN: 1, REFUSED: 1}
    cancel(other, "R1", "R2")


def test_a_service_polls_and_one_process_at_a_time(
    other: OrdersDoor, engine: Engine, tmp_path: Path
) -> None:
    place(other, "S1", start=f"{datetime.now(UTC):%Y%m%d}235500")
    configuration = f"""
partners: [{{ae_title: GANTRY, address: "127.0.0.1:{other.dimse[1]}"}}]
worklist: {{polls: [{{ae_title: GANTRY, every: 300ms}}]}}
"""
    with orders_door(engine, tmp_path / "ours", configuration) as ours:
        until(lambda: states(engine).get("S1") == "scheduled", "it was polled")
        _, (match,) = asked(ours, question({}, AccessionNumber="S1"))
        assert match.PatientName.ideographic == "陳^大文"

        def polled() -> bool:
            with transaction(engine) as connection:
                return last_poll_at(connection) is not None

        until(polled, "its end is noted")
        cancel(other, "S1")
        until(lambda: states(engine)["S1"] == "cancelled", "it was polled twice more")
    now, lease = datetime.now(UTC) + timedelta(hours=1), timedelta(minutes=5)
    with transaction(engine) as connection:
        assert claim_poll(connection, "GANTRY", now=now, lease=lease)
        assert not claim_poll(connection, "GANTRY", now=now, lease=lease)
        # One that died keeps it no longer than that.
        assert claim_poll(connection, "GANTRY", now=now + lease, lease=lease)


def test_who_is_away_cancels_nothing(engine: Engine) -> None:
    with pytest.raises(Unreachable):
        poll(engine, source(free_port()))


@contextmanager
def wlmscpfs(folder: Path) -> Iterator[int]:
    """dcmtk's worklist of files."""
    port = free_port()
    process = subprocess.Popen(
        ["wlmscpfs", "-csk", "-dfp", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def entry(folder: Path, number: str, step: str) -> None:
    """A step of an order in a file of its own."""
    ds = Dataset()
    ds.SpecificCharacterSet = "GB18030"
    ds.AccessionNumber, ds.PatientID, ds.PatientName = number, f"{number}P", "WANG^XIAOMING=王^小明"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientWeight = "19700102", "F", "61.5"
    ds.StudyInstanceUID = f"2.25.{int(number.removeprefix('D'))}"
    ds.RequestedProcedureID, ds.RequestedProcedureDescription = "RP1", "CT"
    item = Dataset()
    item.ScheduledStationAETitle, item.Modality = "CT01", "CT"
    item.ScheduledProcedureStepID = step
    item.ScheduledProcedureStepStartDate, item.ScheduledProcedureStepStartTime = "20300105", "1430"
    item.ScheduledProcedureStepDescription = "Head"
    item.ScheduledPerformingPhysicianName = None
    ds.ScheduledProcedureStepSequence = [item]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = UID(WORKLIST)
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(folder / f"{number}{step}.wl", enforce_file_format=True)


@pytest.mark.skipif(shutil.which("wlmscpfs") is None, reason="wlmscpfs is not installed")
def test_a_worklist_of_dcmtk(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "files" / "FILES"
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    for number, step in (("D1", "S1"), ("D1", "S2"), ("D2", "S1")):
        entry(folder, number, step)
    with wlmscpfs(folder.parent) as port:
        of = source(port, called="FILES")
        found: list[dict[PollOutcome, int]] = []

        def answers() -> bool:
            try:
                found.append(poll(engine, of))
            except Unreachable:
                return False
            return True

        until(answers, "it answers")
        assert found == [Counter({TAKEN: 2})]
        assert poll(engine, of) == {UNCHANGED: 2}
    with transaction(engine) as connection:
        rows = connection.execute(
            sa.select(
                order_.c.study_instance_uid,
                order_step.c.scheduled_procedure_step_id,
                order_step.c.scheduled_station_ae_title,
                order_patient.c.patient_name,
            )
            .join_from(order_step, order_)
            .join(order_patient)
            .order_by(order_step.c.pk)
        ).all()
    assert [tuple(row)[:3] for row in rows] == [
        ("2.25.1", "S1", ["CT01"]),
        ("2.25.1", "S2", ["CT01"]),
        ("2.25.2", "S1", ["CT01"]),
    ]
    assert all("王^小明" in row.patient_name for row in rows)
