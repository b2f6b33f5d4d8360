"""When studies become complete: after their quiet time, and never behind a backlog."""

from datetime import UTC, datetime, timedelta

import pytest

from gantry_archive.completing import complete_studies
from gantry_archive.indexing import index_batch
from gantry_archive.reading import ReadingRules
from gantry_archive.sweep import sweep
from gantry_domain.completeness import QuietTimes
from gantry_domain.keys import first_object_id, received_at
from gantry_stores.index.quiet import quiet_studies, write_complete
from gantry_testkit.stored import image, new_uid, receipts, rows, stage

MINUTE = timedelta(minutes=1)
QUIET = QuietTimes(5 * MINUTE)
LEARNING = QuietTimes(
    5 * MINUTE, learning=frozenset({"CT01"}), learned_at_least=timedelta(seconds=30)
)
COMPLETE = "SELECT completed_revision = revision FROM study ORDER BY pk"


@pytest.fixture
def now():
    return datetime.now(UTC)


def receive(store, engine, *, study=None, calling_ae="CT01", **values):
    ds = image(StudyInstanceUID=study or new_uid(), **values)
    sent = stage(store, ds, calling_ae=calling_ae)
    index_batch(receipts([sent]), store=store, engine=engine, rules=ReadingRules())
    return str(ds.StudyInstanceUID)


def complete(engine, at, *, quiet=QUIET, until=None):
    return complete_studies(engine, quiet, all_indexed_until=until or at, now=at)


def test_quiet_time_is_waited_for(store, engine, now):
    receive(store, engine)
    assert complete(engine, now + 4 * MINUTE) == 0
    assert rows(engine, COMPLETE) == [(None,)]
    assert complete(engine, now + 6 * MINUTE) == 1
    assert rows(engine, COMPLETE) == [(True,)]
    assert complete(engine, now + 7 * MINUTE) == 0


def test_what_comes_late_opens_the_study_again(store, engine, now):
    study = receive(store, engine)
    complete(engine, now + 6 * MINUTE)
    receive(store, engine, study=study)
    assert rows(engine, COMPLETE) == [(False,)]
    assert complete(engine, now + 4 * MINUTE) == 0
    assert complete(engine, now + 6 * MINUTE) == 1
    assert rows(engine, COMPLETE) == [(True,)]


def test_behind_a_backlog_no_study_is_complete(store, engine, now):
    receive(store, engine)
    later = now + timedelta(hours=9)
    assert complete(engine, later, until=now + 4 * MINUTE) == 0
    assert complete(engine, later, until=now + 6 * MINUTE) == 1


def test_partners_and_modalities_have_times_of_their_own(store, engine, now):
    quiet = QuietTimes(5 * MINUTE, {"US": 30 * MINUTE, "CR": MINUTE}, {"CT02": 60 * MINUTE})
    receive(store, engine, Modality="CR")
    receive(store, engine, Modality="CT")
    receive(store, engine, Modality="US")
    receive(store, engine, Modality="CR", calling_ae="CT02")
    seen = []
    for minutes in (2, 6, 31, 61):
        complete(engine, now + minutes * MINUTE, quiet=quiet)
        seen.append(sum(bool(done) for (done,) in rows(engine, COMPLETE)))
    assert seen == [1, 2, 3, 4]


def test_a_study_that_changes_meanwhile_stays_open(store, engine, now):
    study = receive(store, engine)
    later = now + 6 * MINUTE
    (page,) = quiet_studies(engine, indexed_before=later, received_before=later, with_senders=False)
    receive(store, engine, study=study)
    assert write_complete(engine, page) == 0
    assert rows(engine, COMPLETE) == [(None,)]


def test_more_than_a_page_and_none_is_left_out(store, engine, now):
    receive(store, engine)
    # Copies of one study; nothing but completeness looks at them.
    rows(
        engine,
        "INSERT INTO study (patient_pk, partition, study_instance_uid, source, attributes,"
        " revision, first_received_at, last_received_at, indexed_at)"
        " SELECT patient_pk, partition, study_instance_uid || '.' || n, source, attributes, 1,"
        " first_received_at, last_received_at, indexed_at"
        " FROM study, generate_series(1, 1200) AS n RETURNING 1",
    )
    assert complete(engine, now + 6 * MINUTE) == 1201


def test_a_sender_that_is_believed_says_how_many_images_there_are(store, engine, now):
    counting = QuietTimes(5 * MINUTE, longest=30 * MINUTE, counted=frozenset({"CT01"}))
    study, other, more = new_uid(), new_uid(), new_uid()
    receive(store, engine, study=study, NumberOfStudyRelatedInstances="2", calling_ae="ct01")
    assert complete(engine, now + 20 * MINUTE, quiet=counting) == 0
    receive(store, engine, study=study, NumberOfStudyRelatedInstances="1")
    assert complete(engine, now + MINUTE, until=now - MINUTE, quiet=counting) == 0
    assert complete(engine, now + MINUTE, quiet=counting) == 1
    # What somebody else says, or no number, or too few, is as if nothing was said.
    receive(store, engine, study=other, NumberOfStudyRelatedInstances="1", calling_ae="CT02")
    for told in ("1", "0", "-2", ""):
        receive(store, engine, study=more, NumberOfStudyRelatedInstances=told)
    assert complete(engine, now + 4 * MINUTE, quiet=counting) == 0
    assert complete(engine, now + 6 * MINUTE, quiet=counting) == 2
    # And nobody waits for ever.
    receive(store, engine, NumberOfStudyRelatedInstances="2")
    assert complete(engine, now + 29 * MINUTE, quiet=counting) == 0
    assert complete(engine, now + 40 * MINUTE, quiet=counting) == 1


def receive_pausing(store, engine, now, *, seconds, studies):
    """Studies of three images, before the last of which their sender pauses; and long before."""
    sent = []
    for number, study in enumerate(studies):
        for pause in (-7200, 0, seconds):
            at = now - timedelta(hours=1) + timedelta(seconds=pause)
            at += timedelta(milliseconds=number + seconds)
            ds = image(StudyInstanceUID=study)
            sent.append(stage(store, ds, calling_ae="ct01", object_id=first_object_id(at)))
    index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())


def test_quiet_time_is_learned_of_partners(store, engine, now):
    known = [new_uid() for _ in range(19)]
    late = now + 10 * MINUTE

    def soon(seconds=100):
        return datetime.now(UTC) + timedelta(seconds=seconds)

    receive_pausing(store, engine, now, seconds=40, studies=known)
    assert complete(engine, late, quiet=LEARNING) == 19
    receive(store, engine)
    # Of so few nothing is learned.
    assert complete(engine, soon(), quiet=LEARNING) == 0
    assert complete(engine, late, quiet=LEARNING) == 1
    receive(store, engine)
    assert complete(engine, soon(70), quiet=LEARNING) == 0
    assert complete(engine, soon(), quiet=QUIET) == 0
    assert complete(engine, soon(), quiet=LEARNING) == 1
    receive(store, engine, calling_ae="CT02")
    assert complete(engine, soon(), quiet=LEARNING) == 0
    # What comes late to studies that were complete makes the time longer again.
    receive_pausing(store, engine, now, seconds=250, studies=known[:2])
    assert complete(engine, late, quiet=LEARNING) == 3
    receive(store, engine)
    assert complete(engine, soon(), quiet=LEARNING) == 0
    assert rows(engine, "SELECT calling_ae, jsonb_array_length(studies) FROM partner_pauses") == [
        ("CT01", 21)
    ]


def swept(store, engine, *, now, hand_over=lambda _receipts: True, limit=1000):
    return sweep(store, engine, hand_over=hand_over, after=MINUTE, limit=limit, now=now)


def test_the_sweep_knows_up_to_when_everything_has_its_row(store, engine, now):
    assert swept(store, engine, now=now).all_indexed_until == now
    receive(store, engine)
    young = stage(store, image())
    later = now + timedelta(seconds=30)
    run = swept(store, engine, now=later)
    assert (run.missing, run.found) == (1, 0)
    assert run.all_indexed_until == received_at(young.object_id)
    index_batch([young.receipt], store=store, engine=engine, rules=ReadingRules())
    assert swept(store, engine, now=later).all_indexed_until == later


def test_the_oldest_counts_also_where_the_sweep_ends_early(store, engine, now):
    ages = (timedelta(hours=3), timedelta(hours=2), 5 * MINUTE)
    lost = [stage(store, image(), object_id=first_object_id(now - age)) for age in ages]
    for hand_over, limit in ((lambda _receipts: False, 1000), (lambda _receipts: True, 1)):
        run = swept(store, engine, now=now, hand_over=hand_over, limit=limit)
        assert run.more
        assert run.all_indexed_until == received_at(lost[0].object_id)
