"""Reindexing: the same rows from the store alone, into an empty database."""

import random

import pytest

from gantry_archive.duplicates import purge_duplicates
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import IndexNotEmpty, reindex
from gantry_domain.duplicates import ObjectState
from gantry_stores.index.database import make_engine
from gantry_testkit.stored import (
    NO_POLICIES,
    encoded,
    image,
    receipts,
    rows,
    snapshot,
    stage,
    with_changes,
)

RULES = ReadingRules(take_last=frozenset({"last"}), charsets={"china": "GB18030"})


@pytest.fixture
def other(postgres_server, migrated_template):
    engine = make_engine(postgres_server.create_database("reindexed", template=migrated_template))
    yield engine
    engine.dispose()
    postgres_server.drop_database("reindexed")


def an_archive(store):
    sent = []
    for number in range(6):
        ds = image(PatientID=f"P{number % 3}")
        sent.append(stage(store, ds))
        sent.append(stage(store, ds))
        sent.append(stage(store, with_changes(ds, PixelData=bytes(512))))
        sent.append(stage(store, with_changes(ds, PatientName="L^ast"), calling_ae="LAST"))
        sent.append(stage(store, image(StudyInstanceUID=ds.StudyInstanceUID, PatientID="PX")))
    chinese = image()
    del chinese.SpecificCharacterSet
    chinese.add_new(0x00100010, "PN", "王^小东".encode("gb18030"))
    sent.append(stage(store, chinese, calling_ae="CHINA"))
    sent.append(stage(store, with_changes(image(), StudyInstanceUID="")))
    sent.append(stage(store, encoded(image()), head=b"no file at all"))
    sent.append(stage(store, encoded(image(PatientName="N\0UL"))))
    return sent


@pytest.mark.parametrize("purged", [False, True], ids=["with copies", "purged"])
def test_the_same_rows(purged, engine, store, other):
    sent = an_archive(store)
    order = random.Random(4).sample(sent, len(sent))
    for start in range(0, len(order), 7):
        index_batch(receipts(order[start : start + 7]), store=store, engine=engine, rules=RULES)
        judge_studies(engine, NO_POLICIES)
    if purged:
        assert purge_duplicates(store, engine).objects == 6
    steps = []
    done = reindex(
        store,
        other,
        policies=NO_POLICIES,
        rules=RULES,
        progress=lambda so_far: steps.append(so_far.objects),
    )
    assert snapshot(other) == snapshot(engine)
    assert done.objects == len(sent) - (6 if purged else 0) == steps[-1]
    assert done.states[ObjectState.UNREADABLE] == 2
    assert rows(other, "SELECT count(*) FROM study WHERE NOT visible") == [(0,)]


def test_an_index_that_is_there_is_not_touched(engine, store):
    index_batch([stage(store, image()).receipt], store=store, engine=engine, rules=RULES)
    before = snapshot(engine)
    with pytest.raises(IndexNotEmpty, match="empty"):
        reindex(store, engine, policies=NO_POLICIES)
    assert snapshot(engine) == before


def test_an_empty_store_gives_an_empty_index(engine, store):
    assert reindex(store, engine, policies=NO_POLICIES).objects == 0
