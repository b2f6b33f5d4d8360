"""A time range is sent again: of each study what its destination has not, and nothing twice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.delivery import Planned, plan_routes
from gantry_archive.resending import ByRoutes, Resent, Span, To, resend, route_named
from gantry_domain.errors import ConfigurationError
from gantry_domain.routes import Route, Trigger
from gantry_stores.index.database import transaction
from gantry_stores.index.range_plans import Progress, progress_of
from gantry_stores.objects import ObjectStore
from gantry_testkit.forwarding import AnsweringScp, ForwardingArchive
from gantry_testkit.stored import image, rows, stage

BEGAN = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def archive(engine: Engine, store: ObjectStore) -> ForwardingArchive:
    return ForwardingArchive(engine, store)


def again(
    archive: ForwardingArchive,
    where: ByRoutes | To | None = None,
    *,
    begin: timedelta = -HOUR,
    end: timedelta = HOUR,
    dry_run: bool = False,
    at_once: int = 2000,
) -> Resent:
    """Around now."""
    now = datetime.now(UTC)
    span = Span(since=now + begin, until=now + end, partitions=["main"])
    *_, done = resend(archive.engine, span, where or To("PEER"), dry_run=dry_run, at_once=at_once)
    return done


def complete(archive: ForwardingArchive) -> None:
    rows(
        archive.engine,
        "UPDATE study SET completed_revision = revision, completed_at = now() RETURNING 1",
    )


def test_a_destination_gets_what_it_has_not_and_nothing_twice(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp()
    _, (had, *missing) = archive.study(images=3)
    archive.push(had)
    archive.send(peer.port)
    _, on_its_way = archive.study(images=2)
    for uid in on_its_way:
        archive.push(uid, to="PEER")
    complete(archive)
    counted = again(archive, dry_run=True)
    assert (counted.objects, len(counted.studies), counted.instances) == (5, 2, 2)
    assert not rows(archive.engine, "SELECT 1 FROM delivery WHERE origin = 'replay'")
    planned = again(archive)
    (pk,) = planned.deliveries
    assert planned.instances == 2
    assert sorted(archive.items(pk)) == sorted(missing)
    assert again(archive).deliveries == set()
    with transaction(archive.engine) as connection:
        assert progress_of(connection, [pk]) == Progress(2, 0, 1, 0)
    for _ in range(3):
        archive.send(peer.port)
    assert sorted(peer.uids()) == sorted([had, *missing, *on_its_way])
    with transaction(archive.engine) as connection:
        assert progress_of(connection, [pk]) == Progress(2, 2, 0, 1)
    assert again(archive).instances == 0


def test_what_was_refused_is_sent_once_more(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    answers = [0xC001, 0x0000]
    peer = start_scp(lambda _event: answers.pop(0))
    archive.study(images=1)
    complete(archive)
    again(archive)
    archive.send(peer.port)
    assert again(archive).instances == 1
    archive.send(peer.port)
    assert len(peer.uids()) == 2
    assert again(archive).instances == 0


def test_only_what_was_received_in_the_range_and_may_leave(archive: ForwardingArchive) -> None:
    held, _ = archive.study(images=1)
    archive.study(images=2)
    complete(archive)
    archive.study(images=1)  # it still comes
    rows(
        archive.engine,
        "UPDATE study SET verdict = 'held' WHERE study_instance_uid = :uid RETURNING 1",
        uid=held,
    )
    done = again(archive, dry_run=True)
    assert (done.objects, len(done.left_out), done.instances) == (4, 2, 2)
    assert again(archive, begin=timedelta(minutes=1)).objects == 0
    assert again(archive, end=-timedelta(minutes=1)).objects == 0
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        again(archive, begin=HOUR)


def test_a_range_in_pieces_is_the_same(archive: ForwardingArchive) -> None:
    for _ in range(3):
        archive.study(images=3)
    complete(archive)
    done = again(archive, at_once=2)
    assert (done.objects, len(done.studies), done.instances) == (9, 3, 9)
    assert len(done.deliveries) == 3
    assert done.reached is None
    span = Span(since=BEGAN, until=datetime.now(UTC), partitions=["main"])
    first = next(resend(archive.engine, span, To("OTHER"), at_once=4))
    assert (first.objects, first.instances) == (4, 4)
    *_, rest = resend(archive.engine, span, To("OTHER"), after=first.reached, at_once=4)
    assert (rest.objects, rest.instances) == (5, 5)


def test_by_a_route_its_part_goes_to_its_destinations_at_any_time(
    archive: ForwardingArchive,
) -> None:
    report = "1.2.840.10008.5.1.4.1.1.88.11"
    study, _ = archive.study(images=2)
    ds = image(StudyInstanceUID=study, SOPClassUID=report, Modality="SR")
    archive.index(stage(archive.store, ds))
    complete(archive)
    route = Route(
        name="reports",
        send_to=("ONE", "TWO"),
        when={"Modality": ("SR",)},
        trigger=Trigger.INSTANCE,
    )
    done = again(archive, ByRoutes([route_named([route], "reports")]))
    assert done.instances == len(done.deliveries) == 2
    with pytest.raises(ConfigurationError, match="did you mean reports"):
        route_named([route], "report")


def test_what_was_sent_again_is_not_sent_by_a_route_when_an_image_comes_late(
    archive: ForwardingArchive, start_scp: Callable[..., AnsweringScp]
) -> None:
    peer = start_scp()
    study, _ = archive.study(images=2)
    complete(archive)
    plan_routes(archive.engine, ())
    again(archive)
    archive.send(peer.port)
    route = Route(name="all", send_to=("PEER",))
    late = image(StudyInstanceUID=study)
    archive.index(stage(archive.store, late))
    complete(archive)
    assert plan_routes(archive.engine, [route]) == Planned(1, 1)
    archive.send(peer.port)
    assert peer.uids()[2:] == [str(late.SOPInstanceUID)]
    rows(archive.engine, "UPDATE study SET routed_revision = NULL RETURNING 1")
    assert plan_routes(archive.engine, [Route(name="x", send_to=("PEER",))]) == Planned(1, 0)
