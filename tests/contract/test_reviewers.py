"""Who sees what is held: a partner and a web client that are configured to, and nobody else.

Four studies, of which one is visible, one held out of sight, one not judged yet and one refused,
are asked for at every door.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from pydicom import Dataset
from pynetdicom import build_context, build_role, evt
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.information_models import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.objects import DirectoryStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.query_scu import Retrieved, answers, associated, identifier
from gantry_testkit.stored import CT_IMAGE, image, rows, stage
from gantry_testkit.waiting import until

EXPLICIT = "1.2.840.10008.1.2.1"
ACCESS = TokenAccess(
    [
        (Client("reader", frozenset({Right.READ})), ["r" * 20]),
        (Client("reviewer", frozenset({Right.READ, Right.REVIEW})), ["v" * 20]),
        (Client("blind", frozenset({Right.REVIEW})), ["b" * 20]),
    ]
)
TOKENS = {"READER": "r" * 20, "REVIEWER": "v" * 20}


@dataclass(frozen=True, slots=True)
class Site:
    """The doors of one archive, and its four studies by what is thought of them."""

    server: DimseServer
    http: httpx.Client
    studies: dict[str, Dataset]
    receivers: dict[str, AnsweringScp]

    def named(self, uids: set[str]) -> set[str]:
        """What the studies with these UIDs are called here."""
        return {name for name, ds in self.studies.items() if ds.StudyInstanceUID in uids}

    def get(self, path: str, caller: str) -> httpx.Response:
        return self.http.get(path, headers={"Authorization": f"Bearer {TOKENS[caller]}"})


@pytest.fixture(scope="module")
def site(
    module_engine: Engine, serve, serve_find, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    store = DirectoryStore(tmp_path_factory.mktemp("objects"))
    archive = ForwardingArchive(module_engine, store)
    studies = {
        name: image(EncapsulatedDocument=bytes(2048))
        for name in ("visible", "held", "unjudged", "refused")
    }
    archive.index(*(stage(store, ds) for ds in studies.values()))
    for name, verdict in (("held", "held"), ("unjudged", None), ("refused", "refused")):
        rows(
            module_engine,
            "UPDATE study SET visible = false, verdict = :verdict"
            " WHERE study_instance_uid = :uid RETURNING pk",
            verdict=verdict,
            uid=studies[name].StudyInstanceUID,
        )
    receivers = {
        title: AnsweringScp(lambda _event: 0, {CT_IMAGE: [EXPLICIT]}) for title in ("IN", "OUT")
    }
    configuration = f"""
partners:
  - {{ae_title: REVIEWER, sees: held}}
  - {{ae_title: READER}}
  - {{ae_title: IN, sees: held, address: "127.0.0.1:{receivers["IN"].port}"}}
  - {{ae_title: OUT, address: "127.0.0.1:{receivers["OUT"].port}"}}
"""
    with (
        serve_find(module_engine, configuration, store) as server,
        serve(module_engine, store, access=ACCESS) as base,
        httpx.Client(base_url=base, timeout=60) as http,
    ):
        yield Site(server, http, studies, receivers)
        until(lambda: not server.active, "every association has ended")
    for receiver in receivers.values():
        receiver.close()


SEEN = [
    ("READER", {"visible"}),
    ("STRANGER", {"visible"}),
    ("REVIEWER", {"visible", "held"}),
    ("reviewer", {"visible", "held"}),
]


@pytest.mark.parametrize(("calling", "seen"), SEEN)
def test_c_find(site: Site, calling: str, seen: set[str]) -> None:
    found = {}
    with associated(site.server.address, calling=calling) as assoc:
        for level, keyword in (
            ("STUDY", "StudyInstanceUID"),
            ("SERIES", "SeriesInstanceUID"),
            ("IMAGE", "SOPInstanceUID"),
        ):
            found[level] = set()
            for name, ds in site.studies.items():
                keys = {"StudyInstanceUID": ds.StudyInstanceUID}
                if level == "IMAGE":
                    keys["SeriesInstanceUID"] = ds.SeriesInstanceUID
                _, matches = answers(assoc, identifier(level, **{keyword: "", **keys}))
                assert [m[keyword].value for m in matches] in ([], [ds[keyword].value])
                found[level] |= {name} if matches else set()
        _, everything = answers(assoc, identifier("STUDY", StudyInstanceUID=""))
    assert found == dict.fromkeys(found, seen)
    assert site.named({match.StudyInstanceUID for match in everything}) == seen


@pytest.mark.parametrize(("calling", "seen"), SEEN)
def test_c_get(site: Site, calling: str, seen: set[str]) -> None:
    received = set()

    def receive(event: evt.Event) -> int:
        received.add(str(event.dataset.StudyInstanceUID))
        return 0

    with associated(
        site.server.address,
        calling=calling,
        contexts=[build_context(STUDY_ROOT_GET), build_context(CT_IMAGE, [EXPLICIT])],
        ext_neg=[build_role(CT_IMAGE, scp_role=True)],
        handlers=[(evt.EVT_C_STORE, receive)],
    ) as assoc:
        uids = [ds.StudyInstanceUID for ds in site.studies.values()]
        keys = identifier("STUDY", StudyInstanceUID=uids)
        got = Retrieved(list(assoc.send_c_get(keys, STUDY_ROOT_GET)))
    assert (got.status, got.counts) == (0, (len(seen), 0, 0))
    assert site.named(received) == seen


@pytest.mark.parametrize(
    ("calling", "to", "seen"),
    [
        ("READER", "IN", {"visible"}),
        ("REVIEWER", "IN", {"visible", "held"}),
        # Whoever may not fetch it himself is not sent it by another.
        ("REVIEWER", "OUT", {"visible"}),
    ],
)
def test_c_move(site: Site, calling: str, to: str, seen: set[str]) -> None:
    receiver = site.receivers[to]
    receiver.received.clear()
    with associated(
        site.server.address, calling=calling, contexts=[build_context(STUDY_ROOT_MOVE)]
    ) as assoc:
        uids = [ds.StudyInstanceUID for ds in site.studies.values()]
        keys = identifier("STUDY", StudyInstanceUID=uids)
        moved = Retrieved(list(assoc.send_c_move(keys, to, STUDY_ROOT_MOVE)))
    assert (moved.status, moved.counts) == (0, (len(seen), 0, 0))
    assert set(receiver.uids()) == {site.studies[name].SOPInstanceUID for name in seen}


@pytest.mark.parametrize(
    ("caller", "seen"), [("READER", {"visible"}), ("REVIEWER", {"visible", "held"})]
)
def test_search_over_the_web(site: Site, caller: str, seen: set[str]) -> None:
    for path in ("/studies", "/series", "/instances"):
        answer = site.get(f"{path}?count=true", caller)
        uids = {match["0020000D"]["Value"][0] for match in answer.json()}
        assert site.named(uids) == seen, path
        assert answer.headers["x-total-count"] == str(len(seen))


WEB = [
    "/studies/{study}",
    "/studies/{study}/metadata",
    "/studies/{study}/rendered",
    "/studies/{study}/series/{series}",
    "/studies/{study}/series/{series}/metadata",
    "/studies/{study}/series/{series}/thumbnail",
    "/studies/{study}/series/{series}/instances/{instance}",
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1",
    "/studies/{study}/series/{series}/instances/{instance}/bulk/00420011",
    "/studies/{study}/series/{series}/instances/{instance}/rendered",
    "/studies/{study}/series/{series}/instances/{instance}/frames/1/rendered",
    "/wado?requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}",
    "/wado?requestType=WADO&studyUID={study}&objectUID={instance}&contentType=application/dicom",
]


@pytest.mark.parametrize("path", WEB)
def test_everything_that_the_web_gives(site: Site, path: str) -> None:
    statuses = {
        caller: {
            name: site.get(
                path.format(
                    study=ds.StudyInstanceUID,
                    series=ds.SeriesInstanceUID,
                    instance=ds.SOPInstanceUID,
                ),
                caller,
            ).status_code
            for name, ds in site.studies.items()
        }
        for caller in TOKENS
    }
    of_reviewers = {"visible": 200, "held": 200, "unjudged": 404, "refused": 404}
    assert statuses == {"REVIEWER": of_reviewers, "READER": {**of_reviewers, "held": 404}}


@pytest.mark.parametrize(
    ("caller", "told"), [("READER", {"visible"}), ("REVIEWER", {"visible", "held", "refused"})]
)
def test_the_feed_of_events(site: Site, caller: str, told: set[str]) -> None:
    until(lambda: site.get("/events", "REVIEWER").json()["events"], "what was indexed is told")
    events = site.get("/events", caller).json()["events"]
    assert site.named({event["StudyInstanceUID"] for event in events}) == told


def test_who_may_review_and_not_read_sees_nothing(site: Site) -> None:
    answer = site.http.get("/studies", headers={"Authorization": f"Bearer {'b' * 20}"})
    assert answer.status_code == 403
