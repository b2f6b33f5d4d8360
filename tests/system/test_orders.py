"""Orders through a whole run: in by HL7, out as a worklist, on whichever port a device knows."""

import shutil
import socket
from pathlib import Path

import pytest

from blackbox.findscu import worklist
from blackbox.run import Gantry

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
