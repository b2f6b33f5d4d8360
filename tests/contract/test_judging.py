"""Verdicts: for the revision they are about, by whoever comes first."""

from concurrent.futures import ThreadPoolExecutor

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.policies.findings import Verdict, VerdictKind
from gantry_stores.index.database import transaction
from gantry_stores.index.verdicts import (
    StudyVerdict,
    count_waiting,
    waiting_studies,
    write_verdicts,
)
from gantry_testkit.stored import NO_POLICIES, image, receipts, rows, stage


def index(sent, store, engine):
    return index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())


VERDICTS = "SELECT verdict, visible, judged_revision = revision FROM study"


def test_a_study_that_nobody_judged_is_invisible(engine, store):
    result = index([stage(store, image())], store, engine)
    assert rows(engine, VERDICTS) == [(None, False, None)]
    judged = judge_studies(engine, NO_POLICIES, result.study_pks)
    assert judged.verdicts == {VerdictKind.ACCEPTED: 1}
    assert rows(engine, VERDICTS) == [("accepted", True, True)]


def test_more_images_wait_for_a_verdict_again_and_stay_visible(engine, store):
    ds = image()
    index([stage(store, ds)], store, engine)
    judge_studies(engine, NO_POLICIES)
    index([stage(store, image(StudyInstanceUID=ds.StudyInstanceUID))], store, engine)
    assert rows(engine, VERDICTS) == [("accepted", True, False)]
    with transaction(engine) as connection:
        assert count_waiting(connection, limit=10) == 1
    assert judge_studies(engine, NO_POLICIES).verdicts.total() == 1
    assert judge_studies(engine, NO_POLICIES).verdicts.total() == 0


def test_a_verdict_on_an_older_revision_is_not_written(engine, store):
    ds = image()
    index([stage(store, ds)], store, engine)
    with transaction(engine) as connection:
        (seen,) = waiting_studies(connection, policies=NO_POLICIES.fingerprint, limit=10)
    index([stage(store, image(StudyInstanceUID=ds.StudyInstanceUID))], store, engine)
    with transaction(engine) as connection:
        verdict = Verdict(VerdictKind.ACCEPTED, visible=True)
        older = [StudyVerdict(seen.pk, seen.revision, seen.evidence_revision, verdict)]
        assert write_verdicts(connection, older, policies=NO_POLICIES.fingerprint) == set()
    assert rows(engine, VERDICTS) == [(None, False, None)]


def test_leftovers_are_found_up_to_a_limit(engine, store):
    index([stage(store, image()) for _ in range(7)], store, engine)
    assert judge_studies(engine, NO_POLICIES, limit=3).verdicts.total() == 3
    assert judge_studies(engine, NO_POLICIES).verdicts.total() == 4


def test_only_the_named_studies_are_judged(engine, store):
    first = index([stage(store, image())], store, engine)
    index([stage(store, image())], store, engine)
    assert judge_studies(engine, NO_POLICIES, first.study_pks).verdicts.total() == 1
    assert judge_studies(engine, NO_POLICIES, []).verdicts.total() == 0
    assert rows(engine, "SELECT visible FROM study ORDER BY pk") == [(True,), (False,)]


def test_judging_and_indexing_at_once_end_judged(engine, store):
    ds = image()
    sent = [stage(store, image(StudyInstanceUID=ds.StudyInstanceUID)) for _ in range(40)]

    def work(each):
        result = index([each], store, engine)
        return judge_studies(engine, NO_POLICIES, result.study_pks).verdicts.total()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, sent))
    judge_studies(engine, NO_POLICIES)
    assert rows(engine, VERDICTS) == [("accepted", True, True)]
    assert rows(engine, "SELECT revision FROM study") == [(40,)]
