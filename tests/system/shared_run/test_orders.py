"""Orders through a whole run: in by HL7, out as a worklist, on whichever port a device knows."""

import shutil
import socket
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import ModalityPerformedProcedureStep as MPPS

from blackbox.datasets import image, new_uid, write
from blackbox.findscu import worklist
from blackbox.run import Gantry
from blackbox.scu import associate, send
from blackbox.waiting import until

ORDER = (
    b"MSH|^~\\&|RIS|HOSP|GANTRY|HOSP|20261121080000||ORM^O01|%s|P|2.3.1||||||UNICODE UTF-8\r"
    b"PID|||P77^^^HOSP||CHAN^TAI MAN||19700102|F\r"
    b"ORC|NW|PL77|FI77||SC||1^^^20300301083000^^R\r"
    b"OBR|1|PL77|FI77|CTHEAD^CT of the head^L||||||||||||||ACC77|RP77|SP77||||CT\r"
)


def acknowledged(port: int, message: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.sendall(b"\x0b" + message + b"\x1c\r")
        answer = b""
        while not answer.endswith(b"\x1c\r"):
            answer += sock.recv(65536) or b"\x1c\r"
    return answer


def test_an_order_is_on_the_worklist_on_either_port(gantry: Gantry, tmp_path: Path) -> None:
    if shutil.which("findscu") is None:
        pytest.skip("findscu is not installed")
    assert b"\rMSA|AA|77\r" in acknowledged(gantry.port("hl7"), ORDER % b"77")
    assert b"\rMSA|AR|78|" in acknowledged(
        gantry.port("hl7"), ORDER.replace(b"ORM^O01", b"ORU^R01") % b"78"
    )
    before = gantry.metrics("ingress").value(
        "gantry_ingress_associations_passed_on_total", service="worklist"
    )
    for port in ("orders", "dimse"):
        found = worklist(
            gantry.port(port),
            "AccessionNumber=ACC77",
            "PatientName",
            "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=CT01",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20300301",
        )
        assert found.status == "Success"
        (match,) = found.matches
        assert match.PatientName == "CHAN^TAI MAN"
        (step,) = match.ScheduledProcedureStepSequence
        assert step.ScheduledStationAETitle == "CT01"
    passed = gantry.metrics("ingress").value(
        "gantry_ingress_associations_passed_on_total", service="worklist"
    )
    assert passed == before + 1
    table = tmp_path / "orders.csv"
    table.write_text("AccessionNumber,State\nACC77,cancelled\n", encoding="utf-8")
    taken = gantry.run("orders", "import", str(table))
    assert (taken.returncode, taken.stdout) == (0, "1 of 1 orders taken\n"), taken.stderr
    assert not worklist(gantry.port("orders"), "AccessionNumber=ACC77").matches
    assert "ACC77" in gantry.run("orders", "list", "--all").stdout


def test_a_study_is_complete_when_all_is_there_that_its_modality_told_of(
    gantry: Gantry, tmp_path: Path
) -> None:
    """Within seconds, for quiet time is 5 minutes here; and it hears of orders as they come."""
    begin = gantry.http.get("/dicomweb/events?after=latest").json()["last"]
    study, step = new_uid(), new_uid()
    samples = [write(image(study=study, number=number), tmp_path) for number in range(2)]
    scheduled, started = Dataset(), Dataset()
    scheduled.StudyInstanceUID = study
    started.ScheduledStepAttributesSequence = [scheduled]
    started.PerformedProcedureStepStatus = "IN PROGRESS"
    references = []
    for sample in samples:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sample.SOPClassUID
        reference.ReferencedSOPInstanceUID = sample.SOPInstanceUID
        references.append(reference)
    series, ended = Dataset(), Dataset()
    series.ReferencedImageSequence = references
    ended.PerformedSeriesSequence = [series]
    ended.PerformedProcedureStepStatus = "COMPLETED"
    assoc = associate(gantry.port("dimse"), [build_context(MPPS)])
    assert assoc.send_n_create(started, MPPS, step)[0].Status == 0
    assert send(gantry.port("dimse"), samples[:1])[0].success
    assert assoc.send_n_set(ended, MPPS, step)[0].Status == 0
    assoc.release()

    def told() -> list[str]:
        events = gantry.http.get(f"/dicomweb/events?after={begin}&limit=1000").json()["events"]
        return [event["kind"] for event in events if event["StudyInstanceUID"] == study]

    until(lambda: "indexed" in told(), "the first image is there")
    assert "complete" not in told()
    assert send(gantry.port("dimse"), samples[1:])[0].success
    until(lambda: "complete" in told(), "it is complete")
    assert {"step_started", "received", "step_completed"} <= set(told())
