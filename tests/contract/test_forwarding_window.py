"""Several instances on their way at once, where a peer grants it (PS3.7 D.3.3.3)."""

import pytest
from sqlalchemy.engine import Engine

from gantry_domain.deliveries import DeliveryState
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import ForwardingArchive
from gantry_testkit.hostile_peer import Hostile, HostilePeer
from gantry_testkit.window_peer import WindowPeer


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def test_as_many_as_the_peer_grants_and_answers_in_its_order(
    archive: ForwardingArchive, hostile: Hostile
) -> None:
    study, uids = archive.study(images=10)
    patient = WindowPeer(4, instances=10, at_once=4)
    patient.statuses[uids[5]] = 0xC001
    pk = archive.push(study)
    archive.send(hostile(patient).port, window=8)
    assert patient.asked == [8]
    assert sorted(patient.uids) == sorted(uids)
    items = archive.items(pk)
    assert {uid for uid, (state, _, _) in items.items() if state != "accepted"} == {uids[5]}
    assert items[uids[5]][:2] == ("refused", 0xC001)


@pytest.mark.parametrize(("window", "granted", "asked"), [(8, None, 8), (8, 1, 8), (1, 8, 1)])
def test_one_at_a_time_where_it_is_not_granted_or_not_wanted(
    archive: ForwardingArchive, hostile: Hostile, window: int, granted: int | None, asked: int
) -> None:
    study, uids = archive.study(images=3)
    patient = WindowPeer(granted, instances=3)
    pk = archive.push(study)
    archive.send(hostile(patient).port, window=window)
    assert patient.asked == [asked]
    assert patient.uids == uids
    assert archive.line(pk).state is DeliveryState.DELIVERED


def test_an_instance_that_ends_the_association_fails_alone(
    archive: ForwardingArchive, hostile: Hostile
) -> None:
    study, uids = archive.study(images=8)
    patient = WindowPeer(0, instances=100, at_once=4)
    patient.abort_at = lambda uid: uid == uids[5]
    pk = archive.push(study)
    peer: HostilePeer = hostile(patient)
    archive.send(peer.port, window=4)
    # Whose fault it was is seen one at a time, and the others arrive.
    assert patient.asked[0] == 4
    assert set(patient.asked[1:]) == {1}
    states = {uid: state for uid, (state, _, _) in archive.items(pk).items()}
    assert states == {uid: "failed" if uid == uids[5] else "accepted" for uid in uids}
    assert archive.line(pk).state is DeliveryState.FAILED
