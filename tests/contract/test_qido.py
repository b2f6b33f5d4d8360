"""QIDO-RS over HTTP: required attributes, the JSON model, pages, warnings, errors, browsers."""

import gzip
from dataclasses import replace

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient

from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore
from gantry_testkit.index_rows import fill, indexed

STUDY_REQUIRED = """
    00080005 00080020 00080030 00080050 00080056 00080061 00080090 00080201 00081190 00100010
    00100020 00100030 00100040 0020000D 00200010 00201206 00201208
""".split()
SERIES_REQUIRED = """
    00080060 0008103E 00081190 0020000D 0020000E 00200011 00201209 00400244 00400245 00400275
""".split()
INSTANCE_REQUIRED = """
    0020000D 0020000E 00080056 00081190 00080201 00080016 00080018 00200013 00280010 00280011
    00280100 00280008
""".split()

STUDY_UID = "1.2.1"


@pytest.fixture(scope="module", autouse=True)
def studies(web):
    fill(
        web.engine,
        [
            indexed(
                {
                    "StudyInstanceUID": f"1.2.{s}",
                    "StudyDate": f"202401{s + 1:02}",
                    "StudyTime": "101010",
                    "PatientName": "CHAN^TAI MAN=陳^大文" if s % 2 else 'O\'HARA^"Q"',
                    "PatientID": f"P{s}",
                    "PatientComments": "in the table, searched by nobody",
                    "SeriesInstanceUID": f"1.2.{s}.{e}",
                    "Modality": ["CT", "MR"][e],
                    "SeriesNumber": str(2 - e),
                    "SOPInstanceUID": f"1.2.{s}.{e}.{i}",
                    "InstanceNumber": str(3 - i),
                    "ImageType": ["ORIGINAL", "PRIMARY"],
                    "Rows": 512,
                }
            )
            for s in range(12)
            for e in range(2)
            for i in range(3)
        ],
    )


def values(row: dict, tag: str) -> list:
    return row[tag].get("Value", [])


def no_null_values(node: object) -> bool:
    if isinstance(node, dict):
        return node.get("Value") not in ([None], []) and all(map(no_null_values, node.values()))
    return all(map(no_null_values, node)) if isinstance(node, list) else True


@pytest.mark.parametrize(
    ("path", "number", "required"),
    [
        ("/studies", 12, STUDY_REQUIRED),
        ("/series", 24, STUDY_REQUIRED + SERIES_REQUIRED),
        ("/instances", 72, STUDY_REQUIRED + SERIES_REQUIRED + INSTANCE_REQUIRED),
        ("/studies/1.2.1/series", 2, SERIES_REQUIRED),
        ("/studies/1.2.1/instances", 6, SERIES_REQUIRED + INSTANCE_REQUIRED),
        ("/studies/1.2.1/series/1.2.1.0/instances", 3, INSTANCE_REQUIRED),
        ("/series/1.2.1.0/instances", 3, STUDY_REQUIRED + INSTANCE_REQUIRED),
    ],
)
def test_each_resource_has_its_required_attributes(web, path, number, required):
    answer = web.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    rows = answer.json()
    assert len(rows) == number
    for row in rows:
        assert set(required) <= set(row)
        assert list(row) == sorted(row)
        assert no_null_values(row)
        assert values(row, "00080056") == ["ONLINE"]
        assert values(row, "00080005") == ["ISO_IR 192"]
    last = rows[-1]
    retrieved = web.client.get(values(last, "00081190")[0] + "/metadata")
    assert retrieved.status_code == 200


def test_values_of_the_json_model(web):
    (row,) = web.get("/studies?PatientID=P1").json()
    assert row["00100010"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": "CHAN^TAI MAN", "Ideographic": "陳^大文"}],
    }
    assert row["00080061"] == {"vr": "CS", "Value": ["CT", "MR"]}
    assert row["00201206"] == {"vr": "IS", "Value": [2]}
    assert row["00201208"] == {"vr": "IS", "Value": [6]}
    assert row["00080050"] == {"vr": "SH"}
    (row,) = web.get("/instances?SOPInstanceUID=1.2.1.0.1").json()
    assert row["00280010"] == {"vr": "US", "Value": [512]}
    assert row["00201209"] == {"vr": "IS", "Value": [3]}
    assert row["00083002"] == {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]}


def test_default_orders(web):
    studies = web.get("/studies").json()
    assert [values(row, "0020000D")[0] for row in studies] == [
        f"1.2.{n}" for n in range(11, -1, -1)
    ]
    series = web.get("/studies/1.2.3/series").json()
    assert [values(row, "00200011") for row in series] == [[1], [2]]
    instances = web.get("/studies/1.2.3/instances").json()
    assert [values(row, "00080018")[0] for row in instances] == [
        f"1.2.3.{e}.{i}" for e in (1, 0) for i in (2, 1, 0)
    ]


def test_included_fields(web):
    (row,) = web.get("/studies?PatientID=P2&limit=1&includefield=PatientComments,00080008").json()
    assert values(row, "00104000") == ["in the table, searched by nobody"]
    # An attribute of instances is none of a study's.
    assert "00080008" not in row
    (row,) = web.get("/studies?PatientID=P2&includefield=all").json()
    assert {"00104000", "00101010"} <= set(row)
    assert "00104000" not in web.get("/studies?limit=1").json()[0]
    instance = web.get("/studies/1.2.2/instances?limit=1&includefield=00080008").json()[0]
    assert values(instance, "00080008") == ["ORIGINAL", "PRIMARY"]


def test_what_has_no_value_is_found_by_quotes(web):
    assert len(web.get('/studies?AccessionNumber=""').json()) == 12
    assert web.get('/studies?PatientID=""').json() == []
    assert web.get('/studies?PatientName=""').json() == []
    assert web.get('/studies?StudyDate=""').json() == []
    assert web.get('/studies?ModalitiesInStudy=""').json() == []


def test_a_count_when_asked(web):
    assert web.get("/studies?count=true&limit=5&offset=10").headers["x-total-count"] == "12"
    assert web.get("/instances?count=true&limit=0").headers["x-total-count"] == "72"
    assert "x-total-count" not in web.get("/studies?limit=5").headers
    assert web.get("/studies?count=perhaps").status_code == 400


def request(number: str) -> dict:
    """An item of the Request Attributes Sequence."""
    return {
        "00400009": {"vr": "SH", "Value": [f"SPS_{number}"]},
        "00401001": {"vr": "SH", "Value": [f"RP{number}"]},
    }


@pytest.fixture(scope="module")
def requested(web):
    """Two series with one request each, and one with both."""
    made = []
    for series, numbers in enumerate(("1", "2", "12")):
        uid = f"1.9.{series}"
        found = indexed(
            {"StudyInstanceUID": "1.9", "SeriesInstanceUID": uid, "SOPInstanceUID": f"{uid}.1"}
        )
        sequence = {"vr": "SQ", "Value": [request(number) for number in numbers]}
        made.append(replace(found, attributes={**found.attributes, "00400275": sequence}))
    fill(web.engine, made, partition="north")


@pytest.mark.parametrize(
    ("query", "series"),
    [
        ("RequestAttributesSequence.RequestedProcedureID=RP1", {"1.9.0", "1.9.2"}),
        ("00400275.00401001=RP2", {"1.9.1", "1.9.2"}),
        ("RequestAttributesSequence.RequestedProcedureID=RP1%5CRP2", {"1.9.0", "1.9.1", "1.9.2"}),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPS?2", {"1.9.1", "1.9.2"}),
        ("RequestAttributesSequence.ScheduledProcedureStepID=*1", {"1.9.0", "1.9.2"}),
        ("RequestAttributesSequence.ScheduledProcedureStepID=SPS%25", set()),
        ("RequestAttributesSequence.ScheduledProcedureStepID=", {"1.9.0", "1.9.1", "1.9.2"}),
    ],
)
def test_values_within_a_sequence(web, requested, query, series):
    north = web.base.replace("/dicomweb", "/p/north/dicomweb")
    answer = web.client.get(f"{north}/studies/1.9/series?{query}")
    assert {values(row, "0020000E")[0] for row in answer.json()} == series
    assert "warning" not in answer.headers


def test_no_match_is_an_empty_list(web):
    answer = web.get("/studies?PatientID=NOBODY")
    assert (answer.status_code, answer.json()) == (200, [])
    assert "warning" not in answer.headers
    assert web.get("/studies/9.9.9/series").json() == []


def test_pages_by_links_and_by_offset(web):
    pages, url = [], f"{web.base}/studies?limit=5&PatientName=*"
    while url:
        answer = web.client.get(url)
        pages.append([values(row, "0020000D")[0] for row in answer.json()])
        url = answer.links.get("next", {}).get("url")
    assert [len(page) for page in pages] == [5, 5, 2]
    assert len({uid for page in pages for uid in page}) == 12
    answer = web.get("/studies?limit=5&offset=5")
    assert [values(row, "0020000D")[0] for row in answer.json()] == pages[1]
    assert "There are 2 additional results" in answer.headers["warning"]
    assert "warning" not in web.get("/studies?limit=5&offset=10").headers
    assert web.get("/studies?limit=5&offset=100").json() == []
    assert web.get("/studies?limit=0").json() == []


def test_what_cannot_be_done_is_said(web):
    loosely = web.get("/studies?fuzzymatching=true&ReferringPhysicianName=x*")
    assert loosely.json() == []
    assert "literal matching has been performed of: Referring" in loosely.headers["warning"]
    answer = web.get("/studies?fuzzymatching=true&PatientComments=x&unknown=1")
    assert len(answer.json()) == 12
    assert answer.headers["warning"].count("299 gantry") == 1
    assert "PatientComments" in answer.headers["warning"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("StudyDate=SECRET", "StudyDate"),
        ("limit=-1", "limit"),
        ("after=SECRET", "after"),
        ("orderby=SECRET", "orderby"),
        ("orderby=ModalitiesInStudy", "ModalitiesInStudy"),
        ("PatientID=%00SECRET", "PatientID"),
    ],
)
def test_nonsense_is_400_by_name_and_without_the_value(web, query, parameter):
    answer = web.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert answer.json()["parameter"] == parameter
    assert parameter in answer.json()["error"]
    assert "SECRET" not in answer.text


def test_a_path_that_is_no_uid(web):
    answer = web.get(f"/studies/{'1' * 65}/series")
    assert (answer.status_code, answer.json()["parameter"]) == (400, "StudyInstanceUID")


def test_accept(web):
    def media_type(accept: str) -> str:
        return web.get("/studies?limit=1", Accept=accept).headers["content-type"]

    assert media_type("*/*") == "application/dicom+json"
    assert media_type("application/json") == "application/json"
    joined = 'application/dicom+json, multipart/related; type="application/octet-stream"'
    assert media_type(joined) == "application/dicom+json"
    refused = web.get("/studies", Accept="text/html")
    assert refused.status_code == 406
    assert "application/dicom+json" in refused.json()["available"]
    assert (
        web.get("/studies?limit=1&accept=application/json", Accept="text/html").status_code == 200
    )


def test_gzip(web):
    url = f"{web.base}/studies"
    with web.client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as packed:
        content = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["vary"]
    plain = web.get("/studies", Accept_Encoding="identity")
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(content) == plain.content


def test_browsers(web):
    viewer = {"Origin": "https://viewer.example"}
    preflight = web.client.options(f"{web.base}/studies/1.2/anything", headers=viewer)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://viewer.example"
    assert "if-none-match" in preflight.headers["access-control-allow-headers"]
    answer = web.get("/studies?limit=1", **viewer)
    assert "Warning" in answer.headers["access-control-expose-headers"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "Accept" in answer.headers["vary"]
    assert "Origin" in answer.headers["vary"]
    for origin in ("https://elsewhere.example", "http://localhost.evil.example", "null"):
        stranger = web.get("/studies?limit=1", Origin=origin)
        assert "access-control-allow-origin" not in stranger.headers
    for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:8000"):
        assert "access-control-allow-origin" in web.get("/studies?limit=1", Origin=origin).headers


def test_partitions(web):
    north = web.base.replace("/dicomweb", "/p/north/dicomweb")
    fill(
        web.engine,
        [indexed({"StudyInstanceUID": "7", "SeriesInstanceUID": "7.1", "SOPInstanceUID": "7.1.1"})],
        partition="north",
    )
    (row,) = web.client.get(f"{north}/studies?StudyInstanceUID=7").json()
    assert values(row, "00081190") == [f"{north}/studies/7"]
    assert web.client.get(f"{north}/studies/7/metadata").status_code == 200
    assert web.get("/studies/7/metadata").status_code == 404
    unknown = web.client.get(web.base.replace("/dicomweb", "/p/south/dicomweb") + "/studies")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "there is no such partition")


def test_what_is_not_there(web):
    assert web.get("/nothing").status_code == 404
    assert web.get("/nothing").json() == {"error": "Not Found"}
    answer = web.client.post(f"{web.base}/series")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"


def test_dicomweb_client_finds_everything_in_pages(web):
    client = DICOMwebClient(web.base)
    found = client.search_for_studies(limit=5, get_remaining=True)
    assert len(found) == 12
    assert len(client.search_for_series("1.2.1")) == 2
    search = {"Modality": "MR", "PatientName": "*大*"}
    assert len(client.search_for_instances(search_filters=search)) == 18


def test_what_nobody_foresaw_is_500_and_tells_nothing(web):
    with web.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE study RENAME TO study_away")
    try:
        broken = web.get("/studies?PatientName=SECRET")
    finally:
        with web.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE study_away RENAME TO study")
    assert broken.status_code == 500
    assert broken.json() == {"error": "the request could not be served"}
    assert web.get("/studies").status_code == 200


def test_a_database_that_is_away_is_503(serve, tmp_path):
    engine = make_engine(f"postgresql://nobody@/none?host={tmp_path}")
    with serve(engine, DirectoryStore(tmp_path / "objects")) as base:
        for path in ("/studies", "/studies/1.2", "/studies/1.2/metadata"):
            answer = httpx.get(f"{base}{path}")
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json() == {"error": "the archive cannot answer just now"}
    engine.dispose()
