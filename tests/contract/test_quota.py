"""The quota of a sender: refused at the door by all processes together, or its studies are told."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.engine import Engine

from gantry_archive.door_quota import AdmittedByAll, DoorQuota
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.rejudging import recall_changed
from gantry_archive.staging import Admission, Provenance, Refusal, Refused, Stager
from gantry_domain.policies.findings import Action
from gantry_domain.policies.quota import Amounts, Quota
from gantry_domain.policies.rules import PolicySet, Rule, Scoped
from gantry_domain.receipts import Receipt
from gantry_runtime.settings import load_settings
from gantry_stores.objects import DirectoryStore
from gantry_stores.queue.sender_counts import SenderCounts
from gantry_testkit.redis_server import RedisServer
from gantry_testkit.stored import encoded, image, new_uid, rows

EXPLICIT = "1.2.840.10008.1.2.1"


class Door:
    """One process's way in under one rule, with what it stored."""

    def __init__(self, engine: Engine, folder: Path, broker: str, rule: Rule) -> None:
        self.engine, self.store = engine, DirectoryStore(folder)
        self.policies = PolicySet.of([rule])
        self.receipts: list[Receipt] = []
        self.counts = SenderCounts(broker)
        quota = DoorQuota(
            self.policies.rules, counts=self.counts, engine=engine, zone=ZoneInfo("Asia/Hong_Kong")
        )
        self.stager = Stager(
            store=self.store,
            publish=self.receipts.append,
            max_object_size=2**20,
            store_patience=0.0,
            admit=AdmittedByAll((quota.admit,)).admit,
        )

    def send(self, study: str, sender: str = "CT01", *, whole: bool = True) -> Refusal | None:
        """Why one object was refused."""
        staging = self.stager.begin(
            Provenance(
                calling_ae=sender,
                receiving_ae="GANTRY",
                partition="main",
                transfer_syntax=EXPLICIT,
            )
        )
        # More than the prefix, so that it is decided before the end.
        content = encoded(image(StudyInstanceUID=study, PixelData=bytes(100_000)))
        staging.write(memoryview(content)[: None if whole else 80_000])
        result = staging.finish() if whole else None
        staging.abort()
        return result.refusal if isinstance(result, Refused) else None

    def judge(self, study: str) -> tuple[object, ...]:
        """What the worker makes of a study."""
        index_batch(self.receipts, store=self.store, engine=self.engine, rules=ReadingRules())
        recall_changed(self.engine, feed=None)
        judge_studies(self.engine, self.policies)
        (row,) = rows(
            self.engine,
            "SELECT t.verdict, t.visible, f.code, f.detail FROM study t"
            " LEFT JOIN study_finding f ON f.study_pk = t.pk WHERE t.study_instance_uid = :uid",
            uid=study,
        )
        return row


@pytest.fixture
def broker(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        client.flushall()
    return redis_server


def door(engine: Engine, folder: Path, broker: RedisServer, action: Action, **most: int) -> Door:
    return Door(engine, folder, broker.url, Quota(Amounts(**most), action))


def test_what_is_over_is_refused_and_a_sender_of_its_own_counts_for_itself(
    engine: Engine, tmp_path: Path, broker: RedisServer
) -> None:
    place = door(engine, tmp_path, broker, Action.REJECT, instances=3)
    study = new_uid()
    assert place.send(study, whole=False) is None  # it did not come, and does not count
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: place.send(study), range(8)))
    assert (answers.count(None), answers.count(Refusal.OVER_QUOTA)) == (3, 5)
    assert place.send(study, "MR01") is None
    assert place.judge(study) == ("accepted", True, "over_quota", "refused")
    # Whoever forgets is told by the index.
    with broker.client() as client:
        client.flushall()
    assert place.send(study) is Refusal.OVER_QUOTA
    place.counts.close()


def test_studies_and_bytes(engine: Engine, tmp_path: Path, broker: RedisServer) -> None:
    place = door(engine, tmp_path, broker, Action.REJECT, studies=2)
    one, other = new_uid(), new_uid()
    assert [place.send(uid) for uid in (one, other, one)] == [None] * 3
    assert place.send(new_uid()) is Refusal.OVER_QUOTA
    assert place.send(other) is None
    with broker.client() as client:
        client.flushall()
    heavy = door(engine, tmp_path, broker, Action.REJECT, bytes=150_000)
    # The one that goes over comes still: nobody knows before how long it is.
    assert [heavy.send(one, "US01") for _ in range(3)] == [None, None, Refusal.OVER_QUOTA]
    for each in (place, heavy):
        each.counts.close()


def test_held_are_the_studies_that_came_when_it_was_over(
    engine: Engine, tmp_path: Path, broker: RedisServer
) -> None:
    place = door(engine, tmp_path, broker, Action.HOLD, instances=2)
    within, over = new_uid(), new_uid()
    assert [place.send(uid) for uid in (within, within, over, over)] == [None] * 4
    assert place.judge(over) == ("held", True, "over_quota", "instances")
    assert place.judge(within) == ("accepted", True, None, None)
    place.counts.close()


def test_while_the_broker_is_away_everything_is_taken(
    engine: Engine, tmp_path: Path, broker: RedisServer
) -> None:
    place = door(engine, tmp_path, broker, Action.REJECT, instances=1)
    study = new_uid()
    broker.stop()
    assert [place.send(study) for _ in range(2)] == [None] * 2
    broker.start()
    assert place.judge(study)[0] == "accepted"
    place.counts.close()
    again = door(engine, tmp_path, broker, Action.REJECT, instances=1)
    # It came back without what it had, and what came meanwhile counts.
    assert again.send(study) is Refusal.OVER_QUOTA
    again.counts.close()


def test_a_quota_may_be_of_one_sender_and_one_door_that_refuses_gives_the_others_back(
    engine: Engine, tmp_path: Path, broker: RedisServer
) -> None:
    rule = Scoped(Quota(Amounts(instances=1), Action.REJECT), (("calling_ae", ("MR*",)),))
    place = Door(engine, tmp_path, broker.url, rule)
    assert [place.send(new_uid()) for _ in range(2)] == [None] * 2
    assert [place.send(new_uid(), "MR1") for _ in range(2)] == [None, Refusal.OVER_QUOTA]
    given_back: list[str] = []
    both = AdmittedByAll(
        (
            lambda _who, _what: Admission(granted=True, release=lambda: given_back.append("x")),
            lambda _who, _what: Admission(granted=False, refusal=Refusal.TOO_MANY_IMAGES),
        )
    )
    admission = both.admit(None, None)  # type: ignore[arg-type]
    assert admission is not None
    assert (admission.granted, given_back) == (False, ["x"])
    place.counts.close()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{rule: quota, action: reject}", "limits nothing"),
        ("{rule: quota, instances: 1, when: {Modality: CT}}", "not for Modality"),
    ],
)
def test_a_quota_says_how_much_and_asks_for_what_the_door_knows(
    tmp_path: Path, rule: str, said: str
) -> None:
    (tmp_path / "gantry.yaml").write_text(f"policies: [{rule}]")
    names = {"GANTRY_CONFIG": str(tmp_path / "gantry.yaml"), "GANTRY_DATA": str(tmp_path)}
    with pytest.raises(Exception, match=said):
        load_settings(names)
    (tmp_path / "gantry.yaml").write_text(
        "policies: [{rule: quota, bytes: 50GiB, studies: 200, action: hold,"
        " when: {calling_ae: CT*}}]"
    )
    (scoped,) = load_settings(names).policy_set.rules
    assert isinstance(scoped, Scoped)
    assert scoped.rule == Quota(Amounts(studies=200, bytes=50 * 2**30), Action.HOLD)
