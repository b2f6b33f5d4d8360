"""Deliveries as rows: leases and fences, what is claimed when, pushing, cancelling, lists."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_archive.delivery import NothingToPush, plan_push
from gantry_archive.recording import MOST_UNWRITTEN, Recorder
from gantry_domain.deliveries import DeliveryState, ItemState
from gantry_stores.index import delivery_leases as leases
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import LEASE, POLICY, AnsweringScp, ForwardingArchive
from gantry_testkit.stored import rows


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def test_a_lease_that_ran_out_is_claimed_and_its_holder_writes_nothing_more(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, uids = archive.study(images=4)
    peer = start_scp()
    pk = archive.push(study)
    dead = archive.claim(owner="killed")
    with transaction(archive.engine) as connection:
        leases.record(connection, dead, uids[0], leases.ItemOutcome(ItemState.ACCEPTED, 0))
    assert archive.claim() is None
    rows(archive.engine, "UPDATE delivery SET lease_until = now() - interval '1 s' RETURNING 1")
    assert archive.send(peer.port).settlement.state is DeliveryState.DELIVERED
    assert sorted(peer.uids()) == sorted(uids[1:])
    with pytest.raises(leases.LeaseLost), transaction(archive.engine) as connection:
        leases.record(connection, dead, uids[1], leases.ItemOutcome(ItemState.REFUSED))
    with pytest.raises(leases.LeaseLost):
        archive.sending(peer.port, dead).run()
    assert archive.line(pk).state is DeliveryState.DELIVERED


def test_renewing_keeps_a_lease(archive: ForwardingArchive) -> None:
    archive.push(archive.study(images=1)[0])
    held = archive.claim(owner="me")
    rows(archive.engine, "UPDATE delivery SET lease_until = now() + interval '1 s' RETURNING 1")
    with transaction(archive.engine) as connection:
        assert leases.renew(connection, owner="me", lease=LEASE) == {held.pk: held.fence}
        assert leases.renew(connection, owner="other", lease=LEASE) == {}
    ((left,),) = rows(archive.engine, "SELECT lease_until - now() FROM delivery")
    assert left > timedelta(seconds=25)


def test_cancelled_it_is_no_longer_sent(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=30)

    def answer(event: evt.Event) -> int:
        if len(peer.received) == 2:
            with transaction(archive.engine) as connection:
                assert lists.cancel(connection, lists.Selection(pks=[pk])) == [pk]
        return 0x0000

    peer = start_scp(answer)
    pk = archive.push(study)
    with pytest.raises(leases.LeaseLost):
        archive.send(peer.port)
    # Answers are written while the next instances are sent, so a few more were.
    assert 2 <= len(peer.received) <= 2 + MOST_UNWRITTEN + 1
    assert archive.line(pk).state is DeliveryState.CANCELLED
    assert archive.claim() is None


def test_answers_are_written_meanwhile_and_none_of_a_lease_that_is_lost(
    archive: ForwardingArchive,
) -> None:
    study, uids = archive.study(images=40)
    pk = archive.push(study)
    claimed = archive.claim()
    recorder = Recorder(archive.engine, claimed)
    refused = leases.ItemOutcome(ItemState.REFUSED, 0xA900, "it says so")
    for uid in uids[:30]:
        recorder.put(uid, refused if uid == uids[7] else leases.ItemOutcome(ItemState.ACCEPTED, 0))
    recorder.flush()
    items = archive.items(pk)
    assert items[uids[7]] == ("refused", 0xA900, "it says so")
    assert [items[uid][0] for uid in uids].count("accepted") == 29
    with transaction(archive.engine) as connection:
        lists.cancel(connection, lists.Selection(pks=[pk]))
    recorder.put(uids[30], leases.ItemOutcome(ItemState.ACCEPTED, 0))
    with pytest.raises(leases.LeaseLost):
        recorder.flush()
    with pytest.raises(leases.LeaseLost):
        recorder.put(uids[31], leases.ItemOutcome(ItemState.ACCEPTED, 0))
    recorder.close()
    assert archive.items(pk) == items


def test_no_more_at_once_than_the_destination_takes(archive: ForwardingArchive) -> None:
    for _ in range(3):
        archive.push(archive.study(images=1)[0])
    assert archive.claim(concurrency=2) is not None
    assert archive.claim(concurrency=2) is not None
    assert archive.claim(concurrency=2) is None
    assert archive.claim("OTHER") is None


def test_many_lanes_claim_each_delivery_once(archive: ForwardingArchive) -> None:
    for _ in range(12):
        archive.push(archive.study(images=1)[0])
    claimed: list[int] = []

    def lane() -> None:
        while (held := archive.claim(concurrency=99)) is not None:
            claimed.append(held.pk)

    threads = [threading.Thread(target=lane) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 12


def test_pushing_twice_is_one_delivery_until_it_is_over(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    study, _ = archive.study(images=1)
    first = plan_push(archive.engine, study, "PEER", partitions=["main"])
    again = plan_push(archive.engine, study, "PEER", partitions=["main"])
    assert (first.created, again.created) == (True, False)
    assert first.pk == again.pk
    archive.send(start_scp().port)
    assert plan_push(archive.engine, study, "PEER", partitions=["main"]).created


def test_what_cannot_be_pushed_is_said(archive: ForwardingArchive) -> None:
    study, _ = archive.study(images=1)
    with pytest.raises(NothingToPush, match=r"no study, series or instance has the UID 1\.2\.3"):
        archive.push("1.2.3")
    with pytest.raises(NothingToPush, match="no study"):
        plan_push(archive.engine, study, "PEER", partitions=["other"])
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    with pytest.raises(NothingToPush, match="held"):
        archive.push(study)


def test_a_study_that_is_held_meanwhile_stays_until_it_is_accepted(
    archive: ForwardingArchive,
) -> None:
    archive.push(archive.study(images=1)[0])
    rows(archive.engine, "UPDATE study SET verdict = 'held' RETURNING pk")
    assert archive.claim() is None
    rows(archive.engine, "UPDATE study SET verdict = 'accepted' RETURNING pk")
    assert archive.claim() is not None


def test_backlog_and_due_destinations(archive: ForwardingArchive) -> None:
    for destination in ("ONE", "TWO", "TWO"):
        archive.push(archive.study(images=1)[0], destination)
    archive.claim("ONE")
    with transaction(archive.engine) as connection:
        lines = lists.backlog(connection, late_after=timedelta(minutes=15))
        found = {(line.destination, line.state): line.number for line in lines}
        due = leases.due_destinations(connection, ["ONE", "TWO", "THREE"])
    assert found == {("ONE", DeliveryState.SENDING): 1, ("TWO", DeliveryState.WAITING): 2}
    assert due == {"TWO"}
    assert not any(line.late for line in lines)
    with transaction(archive.engine) as connection:
        lines = lists.backlog(connection, late_after=timedelta())
    assert {line.destination: line.late for line in lines} == {"ONE": 1, "TWO": 2}


def test_a_destination_that_nobody_knows_fails_for_now(archive: ForwardingArchive) -> None:
    pk = archive.push(archive.study(images=1)[0], "GONE")
    with transaction(archive.engine) as connection:
        assert leases.postpone_unknown(connection, known=["PEER"], policy=POLICY, reason="?") == 1
    assert archive.line(pk).state is DeliveryState.FAILED
    rows(
        archive.engine,
        "UPDATE delivery SET unsent_since = now() - interval '2 days',"
        " next_attempt_at = now() RETURNING 1",
    )
    with transaction(archive.engine) as connection:
        leases.postpone_unknown(connection, known=["PEER"], policy=POLICY, reason="?")
    assert archive.line(pk).state is DeliveryState.DEAD
