"""Deliveries over STOW-RS: to our own server, to Orthanc, and to one that does what it wants."""

import io
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.own_web_client import web_client_transactions
from gantry_domain.decisions import DecisionKind
from gantry_domain.deliveries import DeliveryState
from gantry_query.access import Client, Right, TokenAccess
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import find_judged
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import TIMEOUTS, ForwardingArchive
from gantry_testkit.peers import orthanc
from gantry_testkit.ports import free_port
from gantry_testkit.stored import NO_POLICIES, rows
from gantry_testkit.stow_peer import Answer, Asked, Said, StowPeer, failed, stored

DICOMWEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
EXPLICIT = "1.2.840.10008.1.2.1"
RLE = "1.2.840.10008.1.2.5"
TOKEN = "writer" * 4


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def sample(name: str) -> Path:
    return Path(str(get_testdata_file(name, download=False)))


def test_a_study_arrives_at_our_own_server_with_its_token(
    web, serve, archive: ForwardingArchive
) -> None:
    study, uids = archive.study(images=3)
    clients = [(Client("writer", frozenset({Right.READ, Right.STORE})), [TOKEN])]
    with serve(web.engine, web.store, web.published, access=TokenAccess(clients)) as base:
        pk = archive.push(study)
        without = archive.send_web(base)
        assert without.nobody_there is not None
        assert "HTTP 401" in without.nobody_there
        archive.due_now()
        archive.send_web(base, authorization=f"Bearer {TOKEN}")
    assert archive.line(pk).state is DeliveryState.DELIVERED
    web.index()
    found = rows(web.engine, "SELECT sop_instance_uid FROM instance ORDER BY 1")
    assert [uid for (uid,) in found] == sorted(uids)
    # The bytes are those that were sent to us; who sent them is nobody else's business.
    ours = rows(archive.engine, "SELECT encode(sha256, 'hex') FROM object ORDER BY 1")
    theirs = rows(web.engine, "SELECT encode(sha256, 'hex') FROM object ORDER BY 1")
    assert ours == theirs


def test_every_stored_syntax_reaches_orthanc(archive: ForwardingArchive, tmp_path: Path) -> None:
    if not Path(DICOMWEB).exists():
        pytest.skip("there is no DICOMweb plugin here: apt-get install orthanc-dicomweb")
    uids = []
    with orthanc(tmp_path / "peer", options={"Plugins": [DICOMWEB]}) as peer:
        base = f"http://127.0.0.1:{peer.http_port}/dicom-web"
        for name in ("MR_small_implicit.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"):
            uid = archive.file(sample(name))
            pk = archive.push(uid)
            sending = archive.send_web(base)
            assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
            uids.append(uid)
        assert peer.instances() == dict.fromkeys(uids, 1)
        series, study = rows(
            archive.engine,
            "SELECT s.series_instance_uid, t.study_instance_uid FROM series s"
            " JOIN study t ON t.pk = s.study_pk JOIN instance i ON i.series_pk = s.pk"
            " WHERE i.sop_instance_uid = :uid",
            uid=uids[0],
        )[0]
        found = sending.destination.find_instances(study, [series, "1.2.3"], timeouts=TIMEOUTS)
        assert found == {uids[0]}
        sending.destination.probe(TIMEOUTS)


def test_a_syntax_that_is_not_taken_is_converted_and_not_tried_again(
    archive: ForwardingArchive, start_stow: Callable[[Answer], StowPeer]
) -> None:
    def only_explicit(asked: Asked) -> Said:
        return stored(asked) if asked.syntax == EXPLICIT else failed(asked, 0xC122)

    peer = start_stow(only_explicit)
    uid = archive.file(sample("MR_small_RLE.dcm"))
    pk = archive.push(uid)
    archive.send_web(peer.base)
    assert archive.line(pk).state is DeliveryState.DELIVERED
    assert [each.syntax for each in peer.posted] == [RLE, EXPLICIT]
    assert peer.posted[1].headers["Transfer-Encoding"] == "chunked"
    assert int(peer.posted[0].headers["Content-Length"]) > len(peer.posted[0].files[0])


def test_what_is_corrected_goes_out_corrected_and_of_the_length_that_is_told(
    archive: ForwardingArchive, start_stow: Callable[[Answer], StowPeer]
) -> None:
    peer = start_stow(stored)
    study, _ = archive.study(images=1)
    pk = archive.push(study)
    with transaction(archive.engine) as connection:
        (found,) = find_judged(connection, study)
    Decider(store=archive.store, engine=archive.engine, policies=NO_POLICIES, feed=None).decide(
        found,
        DecisionKind.CORRECT,
        corrected={"PatientID": "A-much-longer-identifier"},
        by="Dr Ho",
        reason="mistyped",
    )
    archive.send_web(peer.base)
    assert archive.line(pk).state is DeliveryState.DELIVERED, archive.items(pk)
    (posted,) = peer.posted
    assert int(posted.headers["Content-Length"]) > len(posted.files[0])
    ds = pydicom.dcmread(io.BytesIO(posted.files[0]))
    assert ds.PatientID == "A-much-longer-identifier"
    assert len(ds.OriginalAttributesSequence) == 1
    assert ds.PixelData


@pytest.mark.parametrize(
    ("answer", "state", "item"),
    [
        (
            lambda asked: stored(asked, warning=0xB000),
            DeliveryState.DELIVERED,
            ("warned", 0xB000),
        ),
        (lambda asked: failed(asked, 0xA900), DeliveryState.DEAD, ("refused", 0xA900)),
        (lambda asked: failed(asked, 0xA700), DeliveryState.FAILED, ("failed", 0xA700)),
        (lambda asked: Said(413), DeliveryState.DEAD, ("refused", None)),
        (lambda asked: Said(500), DeliveryState.FAILED, ("failed", None)),
        (lambda asked: None, DeliveryState.FAILED, ("failed", None)),
    ],
)
def test_each_answer_is_recorded_of_its_instance(
    archive: ForwardingArchive,
    start_stow: Callable[[Answer], StowPeer],
    answer: Answer,
    state: DeliveryState,
    item: tuple[str, int | None],
) -> None:
    study, uids = archive.study(images=3)
    bad = uids[1]
    peer = start_stow(lambda asked: answer(asked) if asked.uid == bad else stored(asked))
    pk = archive.push(study)
    archive.send_web(peer.base)
    found = archive.items(pk)
    assert found[bad][:2] == item
    assert found[bad][2]
    assert [found[uid][0] for uid in uids if uid != bad] == ["accepted", "accepted"]
    assert archive.line(pk).state is state


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        (Said(429, headers={"Retry-After": "7"}), timedelta(seconds=7)),
        (Said(503, headers={"Retry-After": "86400"}), timedelta(hours=1)),
        (Said(503), None),
        (Said(401), None),
        (Said(302, headers={"Location": "https://elsewhere.example/"}), None),
    ],
)
def test_a_server_that_takes_nothing_now_hears_no_more_in_this_round(
    archive: ForwardingArchive,
    start_stow: Callable[[Answer], StowPeer],
    said: Said,
    wait: timedelta | None,
) -> None:
    study, _ = archive.study(images=4)
    peer = start_stow(lambda asked: said)
    pk = archive.push(study)
    sending = archive.send_web(peer.base)
    assert len(peer.posted) == 1
    assert sending.wait == wait
    assert f"HTTP {said.status}" in str(sending.nobody_there)
    assert archive.line(pk).state is DeliveryState.FAILED


def test_nobody_there_and_nobody_who_answers(
    archive: ForwardingArchive, start_stow: Callable[[Answer], StowPeer]
) -> None:
    study, uids = archive.study(images=2)
    pk = archive.push(study)
    assert "Connection refused" in str(
        archive.send_web(f"http://127.0.0.1:{free_port()}").nobody_there
    )
    over = threading.Event()

    def silent(asked: Asked) -> None:
        over.wait(20)

    peer = start_stow(silent)
    archive.due_now()
    started = time.monotonic()
    archive.send_web(peer.base)
    over.set()
    assert time.monotonic() - started < 2 * TIMEOUTS.dimse
    line = archive.line(pk)
    assert line.state is DeliveryState.FAILED
    assert "did not answer" in str(line.reason)
    assert len(peer.posted) == 1
    # It was that instance, perhaps: the next round begins with the other.
    archive.due_now()
    peer = start_stow(stored)
    archive.send_web(peer.base)
    assert archive.line(pk).state is DeliveryState.DELIVERED
    assert [each.uid for each in peer.posted] == [uids[1], uids[0]]


# What the statement says as user agent, in a word, and what is seen of it: the delivery, its first
# instance, and how many of two were sent in that round.
CLAIMED = {
    "the data set names": (DeliveryState.FAILED, "failed", 2),
    "the instance is sent again": (DeliveryState.FAILED, "failed", 2),
    "the instance is not sent again": (DeliveryState.DEAD, "refused", 2),
    "the instance is sent in Explicit": (DeliveryState.DEAD, "refused", 2),
    "nothing more is sent now": (DeliveryState.FAILED, "failed", 1),
    "as if nobody were there": (DeliveryState.FAILED, "failed", 1),
}


def test_each_status_that_is_claimed_of_a_store_has_its_behaviour(
    archive: ForwardingArchive, start_stow: Callable[[Answer], StowPeer]
) -> None:
    codes: list[int] = []
    peer = start_stow(lambda _asked: Said(codes[-1]))
    (store,) = (each for each in web_client_transactions() if each.method == "POST")
    claims = {each.name: each.value for each in store.statuses if each.name.isdigit()}
    assert len(claims) > 15
    study, (uid, _) = archive.study(images=2)
    for code, claim in claims.items():
        codes.append(int(code))
        before = len(peer.posted)
        pk = archive.push(study, to=f"P{code}")
        archive.send_web(peer.base, to=f"P{code}")
        (wanted,) = (seen for words, seen in CLAIMED.items() if claim.startswith(words))
        state = archive.items(pk)[uid][0]
        assert (archive.line(pk).state, state, len(peer.posted) - before) == wanted, code
    assert peer.posted[0].headers["Content-Type"].startswith(store.media_types[0])
