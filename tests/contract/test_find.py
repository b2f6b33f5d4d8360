"""C-FIND over real associations: pynetdicom and findscu ask, PostgreSQL answers."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network

import pytest
from pydicom import Dataset, Sequence
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from sqlalchemy import text
from sqlalchemy.engine import Engine

from gantry_archive.association_watch import AssociationWatch
from gantry_dimse.command import C_FIND_RQ
from gantry_dimse.contexts import MESSAGE_SYNTAXES, SupportedContexts
from gantry_dimse.limits import ServerLimits
from gantry_dimse.observer import Peer
from gantry_dimse.operations import Cancellation, OperationRequest
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.server import DimseServer
from gantry_domain.information_models import STUDY_ROOT, STUDY_ROOT_FIND
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN
from gantry_query import metrics
from gantry_query.find import FindService
from gantry_runtime.metrics import sample
from gantry_stores.index.database import make_engine
from gantry_testkit.index_rows import fill, indexed

VERIFICATION = "1.2.840.10008.1.1"
PARTNERS = (
    Caller("CHINA", None, "main", "GB18030"),
    Caller("NORTH", None, "north"),
    Caller("FAR", (ip_network("192.0.2.0/24"),), "main"),
)


@contextmanager
def serving(
    engine: Engine, *, accept_unknown: bool = True, max_matches: int | None = None
) -> Iterator[DimseServer]:
    partners = Partners(
        own_titles=("GANTRY", "OLDGATEWAY"), callers=PARTNERS, accept_unknown=accept_unknown
    )
    with ThreadPoolExecutor(4) as pages:
        service = FindService(
            engine=engine,
            pages=pages,
            partners=partners,
            model=STUDY_ROOT,
            retrieve_ae="GANTRY",
            max_matches=max_matches,
        )
        server = DimseServer(
            listener=socket.create_server(("127.0.0.1", 0)),
            ae_title="GANTRY",
            limits=ServerLimits(),
            supported=SupportedContexts(
                storage_classes=(),
                others=[build_context(STUDY_ROOT_FIND, list(MESSAGE_SYNTAXES))],
            ),
            operations={(C_FIND_RQ, STUDY_ROOT_FIND): service.find},
            observer=AssociationWatch(partners, metrics.ASSOCIATIONS),
            admit=partners.admit,
        )
        server.start()
        try:
            yield server
        finally:
            server.close()


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
def server(engine: Engine) -> Iterator[DimseServer]:
    with serving(engine) as server:
        yield server


def no_delay(event: evt.Event) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def associated(
    server: DimseServer,
    *,
    calling: str = "WS1",
    called: str = "GANTRY",
    syntaxes: tuple[str, ...] = MESSAGE_SYNTAXES,
    max_pdu: int = 16384,
) -> Iterator[Association]:
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
    host, port = server.address
    assoc = ae.associate(
        host,
        port,
        contexts=[build_context(STUDY_ROOT_FIND, list(syntaxes)), build_context(VERIFICATION)],
        ae_title=called,
        evt_handlers=[(evt.EVT_CONN_OPEN, no_delay)],
        max_pdu=max_pdu,
    )
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def identifier(level: str, **values: object) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def answers(assoc: Association, ds: Dataset) -> tuple[list[Dataset], list[Dataset]]:
    """The statuses and the identifiers, decoded."""
    statuses, found = [], []
    for status, match in assoc.send_c_find(ds, STUDY_ROOT_FIND):
        assert "Status" in status, "aborted"
        statuses.append(status)
        if match is not None:
            match.decode()
            found.append(match)
    return statuses, found


def find(server: DimseServer, ds: Dataset, **options: object) -> list[Dataset]:
    with associated(server, **options) as assoc:
        statuses, found = answers(assoc, ds)
    assert [s.Status for s in statuses] == [0xFF00] * len(found) + [0]
    return found


def failure(server: DimseServer, ds: Dataset) -> tuple[int, str]:
    with associated(server) as assoc:
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
    with associated(server) as assoc:
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
    with associated(server) as assoc:
        for s in range(12):
            _, (match,) = answers(assoc, identifier("STUDY", StudyInstanceUID=f"1.2.{s}"))
            assert match.StudyInstanceUID == f"1.2.{s}"
            assert assoc.send_c_echo().Status == 0


def test_who_may_call(engine: Engine, server: DimseServer) -> None:
    with associated(server, called="OLDGATEWAY") as assoc:
        assert assoc.is_established
    for calling, called in (("WS1", "OTHER"), ("FAR", "GANTRY")):
        with associated(server, calling=calling, called=called) as assoc:
            assert assoc.is_rejected
    with serving(engine, accept_unknown=False) as strict:
        with associated(strict) as assoc:
            assert assoc.is_rejected
        with associated(strict, calling="CHINA") as assoc:
            assert assoc.is_established


def test_a_cap_says_that_there_is_more(engine: Engine) -> None:
    ds = identifier("STUDY", StudyInstanceUID="")
    with serving(engine, max_matches=5) as capped, associated(capped) as assoc:
        statuses, found = answers(assoc, ds)
        assert [s.Status for s in statuses] == [0xFF00] * 5 + [0xA700]
        assert statuses[-1].ErrorComment == "only the first 5 matches are returned"
        assert [m.StudyInstanceUID for m in found][:2] == ["1.2.11", "1.2.10"]
    with serving(engine, max_matches=12) as enough:
        assert len(find(enough, ds)) == 12


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


def test_a_database_that_is_away_is_said(postgres_url: str) -> None:
    engine = make_engine(
        postgres_url.replace("/test_", "/no_such_"), connect_timeout=timedelta(seconds=1)
    )
    with serving(engine) as server, associated(server) as assoc:
        for _ in range(2):
            (status,), found = answers(assoc, identifier("STUDY", StudyInstanceUID=""))
            assert status.Status == 0xA700
            assert "try again" in status.ErrorComment
            assert not found
        assert assoc.is_established
    engine.dispose()


@pytest.fixture(scope="module")
def many(postgres_server, migrated_template) -> Iterator[Engine]:
    """10,000 studies."""
    url = postgres_server.create_database("find_many", template=migrated_template)
    engine = make_engine(url, pool_size=8)
    for start in range(0, 10_000, 2000):
        fill(
            engine,
            [
                indexed(
                    {
                        "StudyInstanceUID": f"1.4.{n}",
                        "StudyDate": f"2024{n % 12 + 1:02}{n % 28 + 1:02}",
                        "SeriesInstanceUID": f"1.4.{n}.1",
                        "SOPInstanceUID": f"1.4.{n}.1.1",
                        "PatientID": f"P{n}",
                        "PatientName": f"CHAN^{n}",
                    }
                )
                for n in range(start, start + 2000)
            ],
        )
    yield engine
    engine.dispose()


ALL = {"StudyInstanceUID": "", "PatientID": "", "PatientName": "", "StudyDate": ""}


def test_thousands_each_once(many: Engine) -> None:
    with serving(many) as server:
        found = find(server, identifier("STUDY", **ALL))
    assert len(found) == 10_000
    assert len({match.StudyInstanceUID for match in found}) == 10_000
    dates = [match.StudyDate for match in found]
    assert dates == sorted(dates, reverse=True)


def test_a_cancel_is_obeyed_soon(many: Engine) -> None:
    before = sample("gantry_query_finds_total", partner="other", level="study", status="FE00")
    with serving(many) as server, associated(server) as assoc:
        statuses = []
        ds = identifier("STUDY", **ALL)
        for number, (status, _) in enumerate(assoc.send_c_find(ds, STUDY_ROOT_FIND, msg_id=7)):
            if number == 10:
                assoc.send_c_cancel(7, query_model=STUDY_ROOT_FIND)
            statuses.append(status.Status)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 5000
        # The association goes on.
        _, found = answers(assoc, identifier("STUDY", StudyInstanceUID="1.4.77"))
        assert len(found) == 1
    after = sample("gantry_query_finds_total", partner="other", level="study", status="FE00")
    assert after == before + 1


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def test_a_peer_that_leaves_in_the_middle_frees_everything(many: Engine) -> None:
    def gone() -> float:
        return sample("gantry_query_finds_total", partner="other", level="study", status="gone")

    before = gone()
    with serving(many) as server:
        with associated(server) as assoc:
            for _ in assoc.send_c_find(identifier("STUDY", **ALL), STUDY_ROOT_FIND):
                break
            assoc.abort()
        eventually(lambda: server.active == 0, "the association ends")
        eventually(lambda: gone() == before + 1, "the request is counted as abandoned")
        eventually(lambda: many.pool.checkedout() == 0, "no connection is held")  # type: ignore[attr-defined]


def test_between_two_pages_no_transaction_is_open(many: Engine) -> None:
    """However slowly a peer takes its answers."""
    ds = identifier("STUDY", **ALL)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    write_dataset(buffer, ds)
    request = OperationRequest(
        peer=Peer("WS1", "GANTRY", "127.0.0.1"),
        SOPClassUID=STUDY_ROOT_FIND,
        transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN,
        identifier=buffer.getvalue(),
        cancellation=Cancellation(),
    )
    partners = Partners(own_titles=("GANTRY",), callers=(), accept_unknown=True)
    with ThreadPoolExecutor(4) as pages:
        service = FindService(
            engine=many, pages=pages, partners=partners, model=STUDY_ROOT, retrieve_ae="GANTRY"
        )
        answers = service.find(request)
        statuses = []
        while len(statuses) < 150:
            if (answer := next(answers)) is not None:
                statuses.append(answer.status.code)
        eventually(lambda: many.pool.checkedout() == 0, "the page is there")  # type: ignore[attr-defined]
        with many.connect() as connection:
            idle = text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            assert connection.scalar(idle) == 0
        request.cancellation.requested = True
        rest = [answer.status.code for answer in answers if answer is not None]
    assert rest == [0xFE00]
