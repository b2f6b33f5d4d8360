"""Logs: JSON lines, and never a patient in them."""

import json
import logging
import subprocess
import sys
import textwrap

import pytest

from gantry_domain.errors import TransientError
from gantry_runtime.logs import PatientDataInLog, describe_exception, get_logger, may_identify


@pytest.mark.parametrize(
    "key",
    [
        "PatientName",
        "patient_name",
        "patientid",
        "PatientBirthDate",
        "birth_date",
        "AccessionNumber",
        "accession_number",
        "ds",
        "ReferringPhysicianName",
    ],
)
def test_a_key_that_could_hold_patient_data_is_refused(key: str) -> None:
    with pytest.raises(PatientDataInLog, match="could hold patient data"):
        get_logger("x").info("event", **{key: "Doe^John"})


@pytest.mark.parametrize(
    "key", ["StudyInstanceUID", "SOPInstanceUID", "size", "calling_ae", "partner", "key"]
)
def test_other_keys_are_fine(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not may_identify(key)
    get_logger("some.module").info("event", **{key: "1.2"})
    line = json.loads(capsys.readouterr().err)
    assert line[key] == "1.2"
    assert line["module"] == "some.module"
    assert line["event"] == "event"
    assert line["level"] == "info"


def test_exceptions_are_told_without_the_text_of_strangers() -> None:
    def fail() -> None:
        try:
            int("Doe^John")
        except ValueError as error:
            raise TransientError("the store is away") from error

    with pytest.raises(TransientError) as caught:
        fail()
    told = describe_exception(caught.value)
    assert told["message"] == "the store is away"
    assert told["cause"]["type"] == "builtins.ValueError"
    assert "Doe" not in json.dumps(told)
    assert any("fail" in frame for frame in told["where"])


def test_a_service_logs_on_withholds_and_takes_in_its_libraries() -> None:
    program = """
        import logging, warnings
        from gantry_runtime.logs import configure_logs, get_logger
        log = get_logger("m")
        configure_logs("ingress", process="dimse-1")
        log.info("stored", size=3, PatientName="Doe^John")
        try:
            raise RuntimeError("Doe^John")
        except RuntimeError:
            log.exception("failed")
        logging.getLogger("pydicom").warning("bad value %s", "Doe^John")
        logging.getLogger("kombu").warning("connection lost")
        logging.getLogger("kombu").info("not shown")
        warnings.warn("Doe^John", UserWarning)
        log.debug("not shown")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "Doe" not in done.stderr
    assert not done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "stored",
        "failed",
        "library_message",
        "library_message",
        "library_message",
    ]
    assert all(line["service"] == "ingress" for line in lines)
    assert all(line["process"] == "dimse-1" for line in lines)
    assert lines[0]["PatientName"] == "(withheld)"
    assert lines[1]["error"]["type"] == "builtins.RuntimeError"
    assert lines[2]["logger"] == "pydicom"
    assert "message" not in lines[2]
    assert lines[3]["message"] == "connection lost"


def test_importing_the_logs_does_not_touch_the_root_logger() -> None:
    assert not any(
        type(handler).__module__ == "gantry_runtime.logs" for handler in logging.root.handlers
    )
