"""`gantry orders`: orders from a file, and what is to be done."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_cli.orders import import_orders, show_orders, show_reports
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.reports import (
    Report,
    add_reports,
    claim_report,
    give_up_report,
)


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    settings = load_settings({"GANTRY_DATA": str(tmp_path)})
    # Its URL has a socket for a host, which none of the configuration has.
    url = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    return settings.model_copy(update={"database": url})


def test_orders_of_files(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "orders.csv"
    table.write_text(
        "AccessionNumber;PatientID;PatientName;Modality;ScheduledProcedureStepStartDate\n"
        "A1;P1;CHAN^TAI MAN=陳^大文;CT;20300105\n"
        "A2;P2;SECRET^NAME;MR;tomorrow\n"
        "A3;P3;LEE^KA;US;20300104\n",
        encoding="utf-8-sig",
    )
    assert import_orders(settings, str(table), partition="main") == 1
    said = capsys.readouterr()
    assert said.out == "2 of 3 orders taken\n"
    assert "record 2: ScheduledProcedureStepStartDate" in said.err
    assert "SECRET" not in said.err
    document = tmp_path / "orders.json"
    document.write_text(
        json.dumps(
            [
                {"AccessionNumber": "A3", "State": "cancelled"},
                {"AccessionNumber": "A1", "PatientID": "P9"},
                {
                    "AccessionNumber": "A4",
                    "PatientID": "P4",
                    "ScheduledStationAETitle": ["CT01", "CT02"],
                },
            ]
        ),
        encoding="utf-8",
    )
    assert import_orders(settings, str(document), partition="main") == 1
    assert "record 2: the order with these numbers is another patient's" in capsys.readouterr().err
    assert show_orders(settings, limit=50, over=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == ["A1", "A4"]
    assert "CT01,CT02" in "".join(lines)
    assert show_orders(settings, limit=2, over=True) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "... and others (--limit 2)"


def test_reports_of_performed_steps(
    settings: Settings, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_reports(settings, retry=False, destination=None) == 0
    assert capsys.readouterr().out == "all performed steps were passed on\n"
    now = datetime.now(UTC)
    with transaction(engine) as connection:
        for uid in ("1.2.3", "1.2.4"):
            report = Report(
                SOPInstanceUID=uid, operation="create", transfer_syntax="1.2.840.10008.1.2",
                content=b"",
            )  # fmt: skip
            add_reports(connection, report, ["RIS", "OTHER"], now=now)
        claimed = claim_report(connection, "RIS", now=now, lease=timedelta(minutes=1))
        assert claimed is not None
        give_up_report(connection, claimed, "status 0124", now=now)
    show_reports(settings, retry=False, destination=None)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [["OTHER", "2", "0"], ["RIS", "1", "1", "status", "0124"]]
    show_reports(settings, retry=True, destination="RIS")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["1", "are", "sent", "again"]
    assert lines[-1][:3] == ["RIS", "2", "0"]


@pytest.mark.parametrize("content", ["[1]", "[{", "a,b\n1\n", "é".encode("latin_1")])
def test_what_is_no_table(tmp_path: Path, content: str | bytes) -> None:
    settings = load_settings({"GANTRY_DATA": str(tmp_path)})
    file = tmp_path / "orders"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError, match=str(file)):
        import_orders(settings, str(file), partition="main")
