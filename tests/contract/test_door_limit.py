"""The image that is one too many: refused at the door, over all processes exactly one."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.door_limit import DoorLimit
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.rejudging import recall_changed
from gantry_archive.staging import Provenance, Refusal, Refused, Stager
from gantry_dimse.proposals import ProposedContext
from gantry_dimse.send import StorageAssociation
from gantry_domain.policies.findings import Action
from gantry_domain.policies.rules import PolicySet, Scoped
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_domain.receipts import Receipt
from gantry_stores.index.database import make_engine
from gantry_stores.objects import DirectoryStore, StoreUnavailable
from gantry_stores.queue.broker_asked import PlacesAway
from gantry_stores.queue.image_places import ImagePlaces, Place
from gantry_testkit.ingress_process import Ingress
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import CT_IMAGE, encoded, image, new_uid, rows

EXPLICIT = "1.2.840.10008.1.2.1"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
LIMIT = 5
POLICIES = PolicySet.of([ImagesPerStudy(LIMIT, Action.REJECT)])


class Door:
    """One process's way in, with what it stored."""

    def __init__(
        self,
        engine: Engine,
        store: DirectoryStore,
        broker: str,
        policies: PolicySet = POLICIES,
    ) -> None:
        self.engine, self.store = engine, store
        self.receipts: list[Receipt] = []
        self.places = ImagePlaces(broker)
        self.limit = DoorLimit(policies.rules, places=self.places, engine=engine)
        self.stager = Stager(
            store=store,
            publish=self.receipts.append,
            max_object_size=2**20,
            store_patience=0.0,
            admit=self.limit.admit,
        )

    def send(self, study: str, uid: str = "", *, SOPClassUID: str = CT_IMAGE) -> Refusal | None:
        """Why one object was refused."""
        ds = image(StudyInstanceUID=study, SOPClassUID=SOPClassUID)
        ds.SOPInstanceUID = uid or ds.SOPInstanceUID
        staging = self.stager.begin(
            Provenance(
                calling_ae="CT01",
                receiving_ae="GANTRY",
                partition="main",
                transfer_syntax=EXPLICIT,
            )
        )
        staging.write(memoryview(encoded(ds)))
        result = staging.finish()
        staging.abort()
        return result.refusal if isinstance(result, Refused) else None

    def work(self) -> None:
        """What the worker does."""
        index_batch(self.receipts, store=self.store, engine=self.engine, rules=ReadingRules())
        recall_changed(self.engine, feed=None)
        judge_studies(self.engine, POLICIES)

    def verdict(self, study: str) -> tuple[object, ...]:
        (row,) = rows(
            self.engine,
            "SELECT t.verdict, t.visible, t.number_of_study_related_instances, f.code FROM study t"
            " LEFT JOIN study_finding f ON f.study_pk = t.pk WHERE t.study_instance_uid = :uid",
            uid=study,
        )
        return row


@pytest.fixture
def door(engine: Engine, tmp_path: Path, redis_server: RedisServer) -> Iterator[Door]:
    door = Door(engine, DirectoryStore(tmp_path), redis_server.url)
    yield door
    door.places.close()


def test_one_too_many_is_refused_alone_and_the_study_says_so(door: Door) -> None:
    study, uids = new_uid(), [new_uid() for _ in range(LIMIT + 1)]
    assert [door.send(study, uid) for uid in uids] == [None] * LIMIT + [Refusal.TOO_MANY_IMAGES]
    # What it has is sent again, documents are no images, another study has places of its own.
    assert [door.send(study, uid) for uid in uids[:LIMIT]] == [None] * LIMIT
    assert door.send(study, SOPClassUID=BASIC_TEXT_SR) is None
    assert door.send(new_uid()) is None
    door.work()
    assert door.verdict(study) == ("accepted", True, LIMIT + 1, "images_refused")


def test_what_the_broker_forgot_is_filled_from_the_index(
    door: Door, redis_server: RedisServer
) -> None:
    study, uids = new_uid(), [new_uid() for _ in range(LIMIT)]
    assert not any(door.send(study, uid) for uid in uids)
    door.work()
    with redis_server.client() as client:
        client.flushall()
    assert door.send(study) is Refusal.TOO_MANY_IMAGES
    assert door.send(study, uids[0]) is None


def test_without_the_broker_the_worker_refuses(door: Door, redis_server: RedisServer) -> None:
    study = new_uid()
    redis_server.stop()
    assert [door.send(study) for _ in range(LIMIT + 1)] == [None] * (LIMIT + 1)
    redis_server.start()
    door.work()
    assert door.verdict(study) == ("refused", False, LIMIT + 1, "too_many_images")


def test_a_place_that_was_not_used_is_given_back(
    engine: Engine, tmp_path: Path, redis_server: RedisServer
) -> None:
    class Away(DirectoryStore):
        away = True

        def create(self, key: str):  # type: ignore[no-untyped-def]
            if self.away:
                raise StoreUnavailable("away")
            return super().create(key)

    store = Away(tmp_path)
    door = Door(engine, store, redis_server.url)
    study = new_uid()
    assert {door.send(study) for _ in range(LIMIT + 1)} == {Refusal.STORE_AWAY}
    store.away = False
    sent = [door.send(study) for _ in range(LIMIT + 1)]
    assert sent == [None] * LIMIT + [Refusal.TOO_MANY_IMAGES]
    door.places.close()


def test_a_thousand_pass_and_the_next_does_not(redis_server: RedisServer) -> None:
    places = ImagePlaces(redis_server.url)

    def ask(number: int) -> Place:
        return places.reserve("main", "1.2", f"1.2.{number}", limit=1000, images=lambda: ())

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(1001)))
    assert (answers.count(Place.TAKEN), answers.count(Place.FULL)) == (1000, 1)
    known = answers.index(Place.TAKEN)
    assert ask(known) is Place.KNOWN
    redis_server.stop()
    with pytest.raises(PlacesAway):
        ask(2000)
    places.close()


def test_over_eight_associations_and_four_processes_exactly_one_is_over(
    module_postgres_url: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    limit, each = 79, 10
    url = module_postgres_url.replace("postgresql+psycopg://", "postgresql://")
    ingress = Ingress(
        tmp_path,
        redis_server,
        f"database: {url}\ningress: {{processes: 4}}\n"
        f"policies: [{{rule: images_per_study, limit: {limit}, action: reject}}]\n",
    )
    ingress.start()
    study, together = new_uid(), threading.Barrier(8)
    uids = [[new_uid() for _ in range(each)] for _ in range(8)]

    def send(own: list[str]) -> list[int]:
        with StorageAssociation.open(
            host="127.0.0.1",
            port=ingress.port,
            calling_ae="CT01",
            called_ae="GANTRY",
            contexts=[ProposedContext(CT_IMAGE, (EXPLICIT,))],
        ) as assoc:
            together.wait(60)
            statuses = [store(assoc, uid) for uid in own]
            together.wait(60)
            again = [store(assoc, uid) for uid in own]
        assert again == statuses
        return statuses

    def store(assoc: StorageAssociation, uid: str) -> int:
        context = assoc.accepts(CT_IMAGE, EXPLICIT)
        assert context is not None
        content = encoded(image(StudyInstanceUID=study, SOPInstanceUID=uid))
        answer = assoc.store(
            SOPClassUID=CT_IMAGE, SOPInstanceUID=uid, context=context, chunks=[content]
        )
        return answer.status

    try:
        with ThreadPoolExecutor(8) as threads:
            answers = [status for some in threads.map(send, uids) for status in some]
        assert (answers.count(0), answers.count(0xC0F1)) == (limit, 1)
        assert len(ingress.stored()) == limit
        engine = make_engine(module_postgres_url)
        # It was refused twice: the second time when all of it was sent again.
        assert rows(engine, "SELECT study_instance_uid, refused FROM door_refusal") == [(study, 2)]
        engine.dispose()
    finally:
        assert ingress.stop() == 0


def test_a_rule_may_limit_one_sender(
    engine: Engine, tmp_path: Path, redis_server: RedisServer
) -> None:
    def sent(sender: str) -> list[Refusal | None]:
        rule = Scoped(ImagesPerStudy(1, Action.REJECT), (("calling_ae", (sender,)),))
        door = Door(engine, DirectoryStore(tmp_path), redis_server.url, PolicySet.of([rule]))
        study = new_uid()
        answers = [door.send(study) for _ in range(2)]
        door.places.close()
        return answers

    assert sent("MR*") == [None, None]
    assert sent("CT*") == [None, Refusal.TOO_MANY_IMAGES]
