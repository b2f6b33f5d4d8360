"""Indexing against real PostgreSQL and a real store: any order, any worker, twice, and hostile."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from gantry_archive.indexing import index_batch
from gantry_archive.reading import ReadingRules
from gantry_domain.duplicates import ObjectState
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.receipts import Receipt
from gantry_stores.index.database import IndexContended, IndexUnavailable, make_engine, transaction
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.stored import (
    CT_IMAGE,
    encoded,
    image,
    new_uid,
    receipts,
    rows,
    snapshot,
    stage,
    states,
    with_changes,
)


def index(sent, store, engine, **rules):
    return index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules(**rules))


def a_mixed_archive(store):
    """Studies that share patients, patients in one study, shared series UIDs, duplicates of all
    kinds: what makes the order of indexing matter if anything does."""
    sent = []
    shared_series = new_uid()
    for number in range(4):
        StudyInstanceUID = new_uid()
        series = [new_uid(), shared_series if number < 2 else new_uid()]
        for position in range(6):
            ds = image(
                StudyInstanceUID=StudyInstanceUID,
                SeriesInstanceUID=series[position % 2],
                Modality=["CT", "PR"][position % 2],
                PatientID=f"P{number // 2}" if position != 4 else "P9",
                PatientName=f"Name{number}^{position}",
                StudyDescription=f"Told by {position}",
                InstanceNumber=str(position),
            )
            sent.append(stage(store, ds))
            if position == 1:
                sent.append(stage(store, ds))
            if position == 2:
                sent.append(
                    stage(
                        store,
                        encoded(ds, ImplicitVRLittleEndian),
                        transfer_syntax=ImplicitVRLittleEndian,
                    )
                )
            if position == 3:
                sent.append(stage(store, with_changes(ds, PatientName="Later^Name")))
                sent.append(
                    stage(store, with_changes(ds, PatientName="Last^Name"), calling_ae="LAST")
                )
            if position == 5:
                sent.append(stage(store, with_changes(ds, SeriesInstanceUID=new_uid())))
                sent.append(stage(store, with_changes(ds, StudyInstanceUID=new_uid())))
                sent.append(stage(store, with_changes(ds, PixelData=bytes(512))))
    return sent


TAKE_LAST = {"take_last": frozenset({"last"})}


def test_an_object_has_its_rows(engine, store):
    ds = image(PatientName="Yamada^Tarou=山田^太郎", StudyDate="2026.01.02", StudyTime="1011")
    sent = stage(store, ds)
    result = index([sent], store, engine)
    assert [outcome.state for outcome in result.outcomes.values()] == [ObjectState.PRIMARY]
    (row,) = rows(
        engine,
        "SELECT o.size, o.sha256, o.calling_ae, o.called_ae, t.patient_name, t.study_date,"
        " t.study_time, t.attributes->'00080020'->'Value'->>0, t.revision, t.visible,"
        " t.modalities_in_study, t.sop_classes_in_study, t.number_of_study_related_instances,"
        " '山田' = ANY(t.patient_name_grams), '山田太' = ANY(t.patient_name_beginnings),"
        " p.identity FROM object o"
        " JOIN study t ON t.source = o.id JOIN patient p ON p.pk = t.patient_pk",
    )
    assert row == (
        sent.size,
        sent.sha256,
        "CT01",
        "GANTRY",
        "yamada^tarou=山田^太郎",
        "20260102",
        "101100.000000",
        "2026.01.02",
        1,
        False,
        ["CT"],
        [CT_IMAGE],
        1,
        True,
        True,
        'patient:["P1",""]',
    )


def test_twice_changes_nothing(engine, store):
    sent = a_mixed_archive(store)
    index(sent, store, engine, **TAKE_LAST)
    before = snapshot(engine)
    revisions = rows(engine, "SELECT study_instance_uid, revision FROM study ORDER BY 1")
    result = index(sent, store, engine, **TAKE_LAST)
    assert result.known == len(sent)
    assert not result.outcomes
    assert snapshot(engine) == before
    assert rows(engine, "SELECT study_instance_uid, revision FROM study ORDER BY 1") == revisions


@pytest.mark.parametrize("seed", range(4))
def test_any_order_in_any_batches_gives_the_same_rows(
    seed, engine, store, postgres_server, migrated_template
):
    sent = a_mixed_archive(store)
    index(sent, store, engine, **TAKE_LAST)
    dice = random.Random(seed)
    shuffled = dice.sample(sent, len(sent))
    other = make_engine(
        postgres_server.create_database(f"order_{seed}", template=migrated_template)
    )
    while shuffled:
        size = dice.randint(1, 12)
        index(shuffled[:size], store, other, **TAKE_LAST)
        shuffled = shuffled[size:]
    assert snapshot(other) == snapshot(engine)
    other.dispose()
    postgres_server.drop_database(f"order_{seed}")


def test_many_workers_at_once_give_the_same_rows(engine, store, postgres_server, migrated_template):
    sent = [each for _ in range(4) for each in a_mixed_archive(store)]
    index(sent, store, engine, **TAKE_LAST)
    other = make_engine(
        postgres_server.create_database("workers", template=migrated_template), pool_size=10
    )
    dice = random.Random(1)
    # Everything twice, as when messages are delivered again.
    messages = dice.sample(sent, len(sent)) + dice.sample(sent, len(sent))
    batches = [messages[start : start + 15] for start in range(0, len(messages), 15)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda batch: index(batch, store, other, **TAKE_LAST), batches))
    assert snapshot(other) == snapshot(engine)
    other.dispose()
    postgres_server.drop_database("workers")


def test_levels_tell_what_their_lowest_primary_tells(engine, store):
    StudyInstanceUID, SeriesInstanceUID = new_uid(), new_uid()
    early, late = (
        stage(
            store,
            image(
                StudyInstanceUID=StudyInstanceUID,
                SeriesInstanceUID=SeriesInstanceUID,
                StudyDescription=text,
                SeriesDescription=text,
                PatientSex=sex,
            ),
        )
        for text, sex in (("early", "F"), ("late", "M"))
    )
    for sent, told in ((late, ("late", "late", "m", "M")), (early, ("early", "early", "f", "F"))):
        index([sent], store, engine)
        (found,) = rows(
            engine,
            "SELECT t.study_description, e.series_description, lower(p.patient_sex),"
            " p.patient_sex FROM study t JOIN patient p ON p.pk = t.patient_pk"
            " JOIN series e ON e.study_pk = t.pk",
        )
        assert found == told
    assert rows(engine, "SELECT revision, number_of_study_related_instances FROM study") == [(2, 2)]


def test_a_study_that_turns_out_to_be_another_patients_moves_and_leaves_no_orphan(engine, store):
    StudyInstanceUID = new_uid()
    first = stage(store, image(StudyInstanceUID=StudyInstanceUID, PatientID="RIGHT"))
    second = stage(store, image(StudyInstanceUID=StudyInstanceUID, PatientID="WRONG"))
    index([second], store, engine)
    assert rows(engine, "SELECT patient_id FROM patient") == [("WRONG",)]
    index([first], store, engine)
    assert rows(engine, "SELECT patient_id FROM patient") == [("RIGHT",)]
    assert rows(engine, "SELECT object_id, rule FROM finding") == [
        (second.object_id, "several_patient_ids")
    ]


def test_two_studies_without_patient_id_are_not_of_one_patient(engine, store):
    index([stage(store, image(PatientID="")) for _ in range(2)], store, engine)
    assert rows(engine, "SELECT count(*) FROM patient") == [(2,)]


def test_partitions_are_apart(engine, store):
    ds = image()
    here = stage(store, ds)
    there = stage(store, ds, partition="north")
    nowhere = stage(store, image(), partition="")
    index([here, there, nowhere], store, engine)
    assert states(engine, [here, there, nowhere]) == [("primary", None)] * 3
    assert rows(engine, "SELECT partition FROM study ORDER BY 1") == [
        ("main",),
        ("main",),
        ("north",),
    ]


def test_one_series_uid_in_two_studies_is_found_in_both(engine, store):
    SeriesInstanceUID = new_uid()
    sent = [stage(store, image(SeriesInstanceUID=SeriesInstanceUID)) for _ in range(2)]
    for each in sent:
        index([each], store, engine)
    assert rows(engine, "SELECT object_id, rule FROM finding ORDER BY 1") == [
        (each.object_id, "series_in_several_studies") for each in sent
    ]


def test_the_senders_character_set_helps(engine, store):
    ds = image(PatientName="")
    del ds.SpecificCharacterSet
    ds.add_new(0x00100010, "PN", "王^小东".encode("gb18030"))
    sent = stage(store, ds, calling_ae="CHINA")
    index([sent], store, engine, charsets={"china": "GB18030"})
    assert rows(engine, "SELECT patient_name FROM study") == [("王^小东",)]


def test_a_missing_hash_is_computed(engine, store):
    sent = stage(store, image())
    result = index_batch(
        [Receipt(sent.object_id)], store=store, engine=engine, rules=ReadingRules()
    )
    assert len(result.outcomes) == 1
    assert rows(engine, "SELECT sha256, size FROM object") == [(sent.sha256, sent.size)]


def test_what_is_no_longer_in_the_store_is_no_error(engine, store):
    gone, there = Receipt(new_object_id()), stage(store, image())
    result = index_batch([gone, there.receipt], store=store, engine=engine, rules=ReadingRules())
    assert result.vanished == 1
    assert rows(engine, "SELECT id FROM object") == [(there.object_id,)]


def nested(depth):
    """A private sequence inside itself so many times, in explicit VR little endian."""
    opening = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return opening * depth + closing * depth


def raw_element(tag, vr, value):
    value += b" " if len(value) % 2 else b""
    return (
        tag.to_bytes(4, "little")[2:]
        + tag.to_bytes(4, "little")[:2]
        + vr
        + (len(value).to_bytes(2, "little") + value)
    )


HOSTILE = {
    "a NUL in a name": lambda: encoded(image(PatientName="Ya\0mada^Tarou")),
    "a value of 100 kB": lambda: (
        encoded(image(PatientComments="x" * 60_000))
        + b"\x40\x00\x80\xa2UT\0\0"
        + (100_000).to_bytes(4, "little")
        + b"y" * 100_000
    ),
    "a name of 60 kB": lambda: encoded(image(PatientName="王" * 20_000)),
    "100,000 nested sequences": lambda: nested(100_000) + encoded(image()),
    "invalid UIDs": lambda: encoded(
        image(StudyInstanceUID="1.2.not-a-uid", SeriesInstanceUID="1..2.03")
    ),
    "a UID of 200 characters": lambda: encoded(image(SeriesInstanceUID="1." + "2" * 198)),
    "no StudyInstanceUID": lambda: encoded(with_changes(image(), StudyInstanceUID="")),
    "a huge request": lambda: encoded(
        image(RequestAttributesSequence=[Dataset() for _ in range(20_000)])
    ),
    "an emoji and a lone surrogate's bytes": lambda: encoded(image()).replace(
        "山田".encode(), b"\xed\xa0\x80\xf0\x9f"[:6].ljust(6, b"\x80")
    ),
    "only zeros": lambda: bytes(4096),
    "nothing": lambda: b"",
    "text": lambda: b"GET / HTTP/1.1\r\n\r\n" * 50,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_object_holds_up_nothing(kind, engine, store):
    good = [stage(store, image()) for _ in range(4)]
    bad = stage(store, HOSTILE[kind]())
    result = index([*good[:2], bad, *good[2:]], store, engine)
    assert len(result.outcomes) == 5
    assert states(engine, good) == [("primary", None)] * 4
    (found,) = states(engine, [bad])
    findings = rows(engine, "SELECT rule FROM finding WHERE object_id = :id", id=bad.object_id)
    if found[0] == "unreadable":
        assert found[1] not in (None, "unexpected_error")
    else:
        assert found == ("primary", None)
        harmless = kind in ("a value of 100 kB", "a name of 60 kB", "a huge request")
        assert findings or harmless


def test_a_file_without_meta_information_is_unreadable_and_says_so(engine, store):
    sent = stage(store, encoded(image()), head=b"not DICOM at all")
    result = index([sent], store, engine)
    assert states(engine, [sent]) == [("unreadable", "no_file_meta")]
    assert result.reasons == {sent.object_id: "no_file_meta"}


def test_what_the_database_refuses_is_isolated(engine, store):
    """Whatever we do not foresee: the database itself refuses one object's values."""
    with transaction(engine) as connection:
        connection.execute(
            sa.text(
                "ALTER TABLE instance ADD CONSTRAINT unforeseen"
                " CHECK (instance_number IS DISTINCT FROM '666')"
            )
        )
    sent = [stage(store, image(InstanceNumber=str(660 + number))) for number in range(10)]
    result = index(sent, store, engine)
    assert len(result.outcomes) == 10
    found = states(engine, sent)
    assert found[6] == ("unreadable", "refused_23514")
    assert found[:6] + found[7:] == [("primary", None)] * 9
    assert rows(engine, "SELECT count(*) FROM study") == [(9,)]
    assert rows(engine, "SELECT count(*) FROM patient") == [(1,)]


def test_a_missing_table_is_no_fault_of_the_objects(empty_database_url, store):
    engine = make_engine(empty_database_url)
    sent = stage(store, image())
    with pytest.raises(Exception, match="42P01"):
        index([sent], store, engine)
    engine.dispose()


def test_a_database_that_goes_away_is_transient_and_nothing_is_half_written(store):
    server = PostgresServer()
    try:
        from gantry_stores.index import migrations

        url = server.create_database("away")
        migrations.upgrade(url)
        engine = make_engine(url)
        sent = [stage(store, image()) for _ in range(3)]
        index(sent[:1], store, engine)
        server.kill()
        with pytest.raises(IndexUnavailable):
            index(sent, store, engine)
        server.start()
        result = index(sent, store, engine)
        assert (result.known, len(result.outcomes)) == (1, 2)
        engine.dispose()
    finally:
        server.close()


def test_a_deadlock_is_tried_again(engine, store):
    """Two strangers to the order of locks: one loses, is tried again, and both end."""
    ds = image()
    index([stage(store, ds)], store, engine)
    later = stage(store, image(StudyInstanceUID=ds.StudyInstanceUID))
    with ThreadPoolExecutor(1) as threads:
        with transaction(engine) as connection:
            connection.execute(sa.text("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE"))
            running = threads.submit(index, [later], store, engine)
            waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not connection.scalar(waiting):
                assert not running.done()
            # The worker holds the study and waits for the instances; now the circle closes.
            lost = False
            try:
                connection.execute(sa.text("SELECT 1 FROM study FOR UPDATE"))
            except IndexContended:
                lost = True
            connection.rollback()
        result = running.result(60)
    assert lost or result.retries
    assert len(result.outcomes) == 1
    assert rows(engine, "SELECT number_of_study_related_instances FROM study") == [(2,)]


def test_bytes_of_the_file_meta_do_not_matter_for_the_hash(engine, store):
    """The sender's name stands in the file, not in the data set."""
    ds = image()
    first, second = stage(store, ds, calling_ae="ONE"), stage(store, ds, calling_ae="TWO")
    index([first, second], store, engine)
    assert first.sha256 == second.sha256
    assert states(engine, [first, second]) == [("primary", None), ("duplicate", "same_bytes")]


def test_keys_follow_from_the_identifier(store):
    sent = stage(store, image())
    meta = FileMeta(CT_IMAGE, "", "1.2.840.10008.1.2.1", "CT01", "GANTRY", "main")
    assert store.stat(object_key(sent.object_id)).size == sent.size
    assert sent.size > len(encode_file_meta(meta))
