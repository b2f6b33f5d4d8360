"""C-FIND over real associations: pynetdicom and findscu ask, PostgreSQL answers."""

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from pydicom import Dataset, Sequence
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.server import DimseServer
from gantry_runtime.metrics import sample
from gantry_stores.index.database import make_engine
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.query_scu import answers, associated, identifier

CONFIGURATION = """
ae_titles: [GANTRY, OLDGATEWAY]
partners:
  - {ae_title: CHINA, charset: GB18030}
  - {ae_title: NORTH, partition: north}
  - {ae_title: FAR, hosts: [192.0.2.0/24]}
"""


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(module_postgres_url, pool_size=8)
    fill(
        engine,
        [
            indexed(
                {
                    "StudyInstanceUID": f"1.2.{s}",
                    "StudyDate": f"202401{s + 1:02}",
                    "StudyTime": "101010",
                    "StudyID": f"S{s}",
                    "AccessionNumber": f"A{s}",
                    "PatientName": ["CHAN^TAI MAN=陳^大文", "Buc^Jérôme", "Yamada=山田"][s % 3],
                    "PatientID": f"P{s}",
                    "SeriesInstanceUID": f"1.2.{s}.{e}",
                    "Modality": ["CT", "MR"][e],
                    "SeriesNumber": str(2 - e),
                    "SOPInstanceUID": f"1.2.{s}.{e}.{i}",
                    "InstanceNumber": str(i),
                    "Rows": 512,
                }
            )
            for s in range(12)
            for e in range(2)
            for i in range(3)
        ],
    )
    fill(
        engine,
        [
            indexed(
                {
                    "StudyInstanceUID": "1.9.1",
                    "SeriesInstanceUID": "1.9.2",
                    "SOPInstanceUID": "1.9.3",
                    "PatientName": "NORTH^ALONE",
                }
            )
        ],
        partition="north",
    )
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def server(engine: Engine, serve_find) -> Iterator[DimseServer]:
    with serve_find(engine, CONFIGURATION) as server:
        yield server


def find(server: DimseServer, ds: Dataset, **options: object) -> list[Dataset]:
    with associated(server.address, **options) as assoc:
        statuses, found = answers(assoc, ds)
    assert [s.Status for s in statuses] == [0xFF00] * len(found) + [0]
    return found


def failure(server: DimseServer, ds: Dataset) -> tuple[int, str]:
    with associated(server.address) as assoc:
        (status,), found = answers(assoc, ds)
    assert not found
    return status.Status, status.get("ErrorComment", "")


def test_studies_newest_first_with_what_was_asked_for(server: DimseServer) -> None:
    found = find(
        server,
        identifier(
            "STUDY",
            StudyInstanceUID="",
            StudyDate="20240103-20240105",
            PatientID="",
            ModalitiesInStudy="",
            NumberOfStudyRelatedInstances="",
            StudyDescription="",
            InstanceAvailability="",
        ),
    )
    assert [match.StudyInstanceUID for match in found] == ["1.2.4", "1.2.3", "1.2.2"]
    first = found[0]
    assert first.QueryRetrieveLevel == "STUDY"
    assert first.RetrieveAETitle == "GANTRY"
    assert first.InstanceAvailability == "ONLINE"
    assert first.PatientID == "P4"
    assert list(first.ModalitiesInStudy) == ["CT", "MR"]
    assert first.NumberOfStudyRelatedInstances == 6
    assert first["StudyDescription"].is_empty
    assert "PatientName" not in first
    assert "SpecificCharacterSet" not in first


def test_series_and_images(server: DimseServer) -> None:
    series = find(
        server,
        identifier("SERIES", StudyInstanceUID="1.2.3", SeriesInstanceUID="", Modality="MR"),
    )
    assert [(s.SeriesInstanceUID, s.Modality) for s in series] == [("1.2.3.1", "MR")]
    images = find(
        server,
        identifier(
            "IMAGE",
            StudyInstanceUID="1.2.3",
            SeriesInstanceUID="1.2.3.1",
            SOPInstanceUID="",
            InstanceNumber="",
            PatientID="",
            SOPClassUID="",
        ),
    )
    assert [i.SOPInstanceUID for i in images] == ["1.2.3.1.0", "1.2.3.1.1", "1.2.3.1.2"]
    assert [i.InstanceNumber for i in images] == [0, 1, 2]
    assert {i.PatientID for i in images} == {"P3"}
    assert {i.SOPClassUID.name for i in images} == {"CT Image Storage"}
    assert {i.QueryRetrieveLevel for i in images} == {"IMAGE"}


@pytest.mark.parametrize("syntax", MESSAGE_SYNTAXES)
def test_each_transfer_syntax(server: DimseServer, syntax: str) -> None:
    ds = identifier("STUDY", StudyInstanceUID="1.2.7", PatientName="", StudyID="")
    (match,) = find(server, ds, syntaxes=(syntax,))
    assert match.PatientName == "Buc^Jérôme"


def test_small_pdus(server: DimseServer) -> None:
    ds = identifier("STUDY", StudyInstanceUID="", PatientName="", PatientID="", StudyDate="")
    assert len(find(server, ds, max_pdu=64)) == 12


CHARSETS = [
    ("ISO_IR 192", "陳^大文", "ISO_IR 192"),
    ("GB18030", "陳*", "GB18030"),
    ("GBK", "*大*", "GBK"),
    ("ISO_IR 100", "Buc^J*r*", "ISO_IR 100"),
    (["", "ISO 2022 IR 87"], "山田", ["", "ISO 2022 IR 87"]),
    ("ISO_IR 100", "YAMADA", "ISO_IR 192"),  # cannot be said in what was asked for
    (None, "yamada", "ISO_IR 192"),
]


@pytest.mark.parametrize(("asked", "name", "answered"), CHARSETS)
def test_names_in_the_character_set_of_the_request(
    server: DimseServer, asked: object, name: str, answered: object
) -> None:
    ds = Dataset()
    if asked is not None:
        ds.SpecificCharacterSet = asked
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientName = name
    found = find(server, ds)
    assert len(found) == 4
    full = {"CHAN^TAI MAN=陳^大文", "Buc^Jérôme", "Yamada=山田"}
    assert {str(match.PatientName) for match in found} <= full
    assert len({str(match.PatientName) for match in found}) == 1
    assert found[0].SpecificCharacterSet == answered


def test_korean(engine: Engine, server: DimseServer) -> None:
    fill(
        engine,
        [
            indexed(
                {
                    "StudyInstanceUID": "1.3.1",
                    "SeriesInstanceUID": "1.3.2",
                    "SOPInstanceUID": "1.3.3",
                    "PatientID": "KOREA",
                    "PatientName": "Hong^Gildong=洪^吉洞=홍^길동",
                }
            )
        ],
        partition="north",
    )
    ds = Dataset()
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 149"]
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientName = "홍^길동"
    (match,) = find(server, ds, calling="NORTH")
    assert match.PatientName == "Hong^Gildong=洪^吉洞=홍^길동"
    assert match.SpecificCharacterSet == ["", "ISO 2022 IR 149"]


def test_the_configured_character_set_of_a_partner_comes_first(server: DimseServer) -> None:
    ds = identifier("STUDY", StudyInstanceUID="1.2.0", PatientName="")
    ds.SpecificCharacterSet = "ISO_IR 192"
    (match,) = find(server, ds, calling="CHINA")
    assert match.SpecificCharacterSet == "GB18030"
    assert match.PatientName == "CHAN^TAI MAN=陳^大文"


def test_each_partner_sees_its_partition(server: DimseServer) -> None:
    ds = identifier("STUDY", StudyInstanceUID="1.9.1\\1.2.1".split("\\"))
    assert [m.StudyInstanceUID for m in find(server, ds)] == ["1.2.1"]
    assert [m.StudyInstanceUID for m in find(server, ds, calling="north")] == ["1.9.1"]


def test_studies_that_are_not_visible_are_not_found(engine: Engine, server: DimseServer) -> None:
    series = identifier("SERIES", StudyInstanceUID="1.2.5", SeriesInstanceUID="")
    with engine.begin() as connection:
        hide = text("UPDATE study SET visible = :v WHERE study_instance_uid = '1.2.5'")
        connection.execute(hide, {"v": False})
        try:
            connection.commit()
            assert find(server, identifier("STUDY", StudyInstanceUID="1.2.5")) == []
            assert find(server, series) == []
        finally:
            with engine.begin() as other:
                other.execute(hide, {"v": True})
    assert len(find(server, series)) == 2


def test_keys_that_are_not_supported_come_back_empty_with_a_warning(server: DimseServer) -> None:
    ds = identifier("STUDY", StudyInstanceUID="1.2.1", Modality="CT", PatientComments="x")
    with associated(server.address) as assoc:
        statuses, (match,) = answers(assoc, ds)
    assert [s.Status for s in statuses] == [0xFF01, 0]
    assert match["Modality"].is_empty
    assert match["PatientComments"].is_empty


def test_sequence_keys_are_tolerated(server: DimseServer) -> None:
    item = Dataset()
    item.ScheduledProcedureStepID = ""
    ds = identifier("SERIES", StudyInstanceUID="1.2.1", RequestAttributesSequence=Sequence([item]))
    for match in find(server, ds):
        assert len(match.RequestAttributesSequence) == 0


@pytest.mark.parametrize(
    ("ds", "complaint"),
    [
        (identifier("PATIENT", PatientID=""), "QueryRetrieveLevel"),
        (identifier("", PatientID=""), "QueryRetrieveLevel"),
        (identifier("SERIES", SeriesInstanceUID=""), "StudyInstanceUID"),
        (identifier("IMAGE", StudyInstanceUID="1.2.1"), "SeriesInstanceUID"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    server: DimseServer, ds: Dataset, complaint: str
) -> None:
    status, comment = failure(server, ds)
    assert status == 0xA900
    assert complaint in comment


def test_many_questions_and_an_echo_on_one_association(server: DimseServer) -> None:
    with associated(server.address) as assoc:
        for s in range(12):
            _, (match,) = answers(assoc, identifier("STUDY", StudyInstanceUID=f"1.2.{s}"))
            assert match.StudyInstanceUID == f"1.2.{s}"
            assert assoc.send_c_echo().Status == 0


def test_who_may_call(engine: Engine, server: DimseServer, serve_find) -> None:
    with associated(server.address, called="OLDGATEWAY") as assoc:
        assert assoc.is_established
    for calling, called in (("WS1", "OTHER"), ("FAR", "GANTRY")):
        with associated(server.address, calling=calling, called=called) as assoc:
            assert assoc.is_rejected
    with serve_find(engine, f"{CONFIGURATION}\nunknown_partners: {{query: refuse}}\n") as strict:
        with associated(strict.address) as assoc:
            assert assoc.is_rejected
        with associated(strict.address, calling="CHINA") as assoc:
            assert assoc.is_established


def test_everything_is_counted(server: DimseServer) -> None:
    def finds(status: str) -> float:
        return sample("gantry_query_finds_total", partner="CHINA", level="study", status=status)

    before = finds("0000")
    matches = sample("gantry_query_find_matches_total", partner="CHINA", level="study")
    find(server, identifier("STUDY", PatientID="P*"), calling="CHINA")
    assert finds("0000") == before + 1
    after = sample("gantry_query_find_matches_total", partner="CHINA", level="study")
    assert after == matches + 12


LEVELS = {
    "STUDY": ["-k", "StudyInstanceUID", "-k", "PatientID=P1*"],
    "SERIES": ["-k", "StudyInstanceUID=1.2.1", "-k", "SeriesInstanceUID"],
    "IMAGE": [
        *("-k", "StudyInstanceUID=1.2.1", "-k", "SeriesInstanceUID=1.2.1.0"),
        *("-k", "SOPInstanceUID"),
    ],
}


@pytest.mark.parametrize(
    ("level", "keyword", "uids"),
    [
        ("STUDY", "StudyInstanceUID", {"1.2.1", "1.2.10", "1.2.11"}),
        ("SERIES", "SeriesInstanceUID", {"1.2.1.0", "1.2.1.1"}),
        ("IMAGE", "SOPInstanceUID", {"1.2.1.0.0", "1.2.1.0.1", "1.2.1.0.2"}),
    ],
)
@pytest.mark.parametrize("option", ["-x=", "-xe", "-xb", "-xi"])
def test_findscu(
    server: DimseServer, level: str, keyword: str, uids: set[str], option: str
) -> None:
    findscu = shutil.which("findscu")
    if findscu is None:
        pytest.skip("findscu is not installed")
    host, port = server.address
    done = subprocess.run(
        [
            *(findscu, "-v", option, "-S", "-aec", "GANTRY", "-aet", "WS1"),
            *("-k", f"QueryRetrieveLevel={level}", *LEVELS[level], host, str(port)),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "Success" in output
    responses = output.partition("Find Response")[2]
    assert set(re.findall(rf"\[([0-9.]+)[\0 ]?\]\s+#.*{keyword}", responses)) == uids, output
