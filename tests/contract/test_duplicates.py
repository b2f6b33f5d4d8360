"""The same SOP Instance UID again, with real objects: what becomes of each, and what is purged."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from gantry_archive.duplicates import purge_duplicates
from gantry_archive.frame_places import find_frames
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.verifying import Fault, verify
from gantry_domain.keys import OBJECTS, object_key, parse_object_key
from gantry_stores.index.database import transaction
from gantry_stores.index.frame_tables import decode_frames
from gantry_stores.objects import DirectoryStore, StoreUnavailable
from gantry_testkit.stored import (
    NO_POLICIES,
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

PRIMARY = ("primary", None)
PURGED = None


def index(sent, store, engine, **rules):
    return index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules(**rules))


def keys(store):
    return {parse_object_key(stat.key) for stat in store.list(OBJECTS)}


def object_ids(engine):
    return {row[0] for row in rows(engine, "SELECT id FROM object")}


def compressed(ds):
    copy = with_changes(ds)
    copy.compress(RLELossless, generate_instance_uid=False)
    return copy


AGAIN = {
    "the same bytes": (lambda ds: (encoded(ds), None), ("duplicate", "same_bytes")),
    "implicit VR": (
        lambda ds: (encoded(ds, ImplicitVRLittleEndian), ImplicitVRLittleEndian),
        ("duplicate", "encoding"),
    ),
    "compressed without loss": (
        lambda ds: (encoded(compressed(ds)), RLELossless),
        ("duplicate", "encoding"),
    ),
    "another name": (
        lambda ds: (encoded(with_changes(ds, PatientName="Other^Name")), None),
        ("duplicate", "demographics"),
    ),
    "another study description": (
        lambda ds: (encoded(with_changes(ds, StudyDescription="Other")), None),
        ("duplicate", "demographics"),
    ),
    "other pixels": (
        lambda ds: (encoded(with_changes(ds, PixelData=bytes(512))), None),
        ("conflict", "other_content"),
    ),
    "other pixels, compressed": (
        lambda ds: (encoded(compressed(with_changes(ds, PixelData=bytes(512)))), RLELossless),
        ("conflict", "other_content"),
    ),
    "another position": (
        lambda ds: (encoded(with_changes(ds, ImagePositionPatient=["1", "2", "3"])), None),
        ("conflict", "other_content"),
    ),
    "another series": (
        lambda ds: (encoded(with_changes(ds, SeriesInstanceUID=new_uid())), None),
        ("conflict", "other_parents"),
    ),
    "another study": (
        lambda ds: (encoded(with_changes(ds, StudyInstanceUID=new_uid())), None),
        ("conflict", "other_parents"),
    ),
    "pixels that no decoder can read": (
        lambda ds: (
            encoded(compressed(ds)).replace(compressed(ds).PixelData[-32:], b"\xfe" * 32),
            RLELossless,
        ),
        ("conflict", "other_content"),
    ),
}


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "in two"])
@pytest.mark.parametrize("kind", AGAIN)
def test_an_instance_again(kind, together, engine, store):
    ds = image()
    make, expected = AGAIN[kind]
    content, syntax = make(ds)
    first = stage(store, ds)
    again = stage(store, content, **({"transfer_syntax": syntax} if syntax else {}))
    if together:
        index([again, first], store, engine)
    else:
        index([first], store, engine)
        index([again], store, engine)
    assert states(engine, [first, again]) == [PRIMARY, expected]
    assert rows(engine, "SELECT object_id FROM instance") == [(first.object_id,)]
    assert rows(engine, "SELECT relates_to FROM object WHERE id = :id", id=again.object_id) == [
        (first.object_id,)
    ]
    # A conflict hides the newcomer alone.
    assert rows(engine, "SELECT study_instance_uid FROM study") == [(ds.StudyInstanceUID,)]
    assert rows(engine, "SELECT count(*) FROM series") == [(1,)]
    conflicts = [(again.object_id, expected[1])] if expected[0] == "conflict" else []
    assert (
        rows(engine, "SELECT object_id, detail FROM finding WHERE rule = 'conflicting_instance'")
        == conflicts
    )
    purge_duplicates(store, engine)
    kept = {first.object_id} if expected[1] == "same_bytes" else {first.object_id, again.object_id}
    assert keys(store) == object_ids(engine) == kept


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_of_the_whole(syntax, engine, store):
    if syntax == DeflatedExplicitVRLittleEndian:
        import zlib

        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        ds = image()
        content = deflater.compress(encoded(ds)) + deflater.flush()
    else:
        ds = image()
        content = encoded(with_changes(ds, PixelData=_swapped(ds.PixelData)), syntax)
    first, again = stage(store, ds), stage(store, content, transfer_syntax=syntax)
    index([first, again], store, engine)
    assert states(engine, [first, again]) == [PRIMARY, ("duplicate", "encoding")]


def _swapped(pixels):
    return b"".join(pixels[n : n + 2][::-1] for n in range(0, len(pixels), 2))


def test_a_conflict_never_hides_what_is_visible(engine, store):
    ds = image()
    index([stage(store, ds)], store, engine)
    judge_studies(engine, NO_POLICIES)
    index([stage(store, with_changes(ds, PixelData=bytes(512)))], store, engine)
    assert rows(engine, "SELECT visible FROM study") == [(True,)]


def test_the_one_received_first_is_primary_though_it_is_indexed_last(engine, store):
    """And the study that had it until then is left without it, or is gone."""
    ds = image()
    first = stage(store, ds)
    second = stage(store, with_changes(ds, StudyInstanceUID=new_uid(), PatientID="P2"))
    index([second], store, engine)
    assert states(engine, [second]) == [PRIMARY]
    index([first], store, engine)
    assert states(engine, [first, second]) == [PRIMARY, ("conflict", "other_parents")]
    assert rows(engine, "SELECT study_instance_uid FROM study") == [(ds.StudyInstanceUID,)]
    assert rows(engine, "SELECT patient_id FROM patient") == [("P1",)]


def test_the_last_word_of_a_partner_who_has_it(engine, store):
    ds = image(PatientName="First^Name")
    first = stage(store, ds)
    index([first], store, engine)
    last = stage(store, with_changes(ds, PatientName="Last^Name"), calling_ae="ct01")
    other = stage(store, with_changes(ds, PatientName="Other^Name"), calling_ae="OTHER")
    rules = {"take_last": frozenset({"ct01"})}
    index([last], store, engine, **rules)
    index([other], store, engine, **rules)
    assert states(engine, [first, last, other]) == [
        ("duplicate", "superseded"),
        PRIMARY,
        ("duplicate", "demographics"),
    ]
    assert rows(engine, "SELECT patient_name FROM study") == [("last^name",)]
    assert rows(engine, "SELECT number_of_study_related_instances FROM study") == [(1,)]


@pytest.mark.parametrize("kind", ["the same bytes", "implicit VR", "another name", "other pixels"])
def test_sent_at_once_by_many(kind, engine, store):
    ds = image()
    make, expected = AGAIN[kind]
    content, syntax = make(ds)
    sent = [stage(store, ds)]
    sent += [
        stage(store, content, **({"transfer_syntax": syntax} if syntax else {})) for _ in range(7)
    ]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda each: index([each], store, engine), sent))
    found = states(engine, sent)
    assert found[0] == PRIMARY
    assert found[1] == expected
    assert found[2:] == [("duplicate", "same_bytes")] * 6
    assert rows(engine, "SELECT count(*) FROM instance") == [(1,)]
    purge_duplicates(store, engine)
    assert keys(store) == object_ids(engine)
    assert len(keys(store)) == (1 if expected[1] == "same_bytes" else 2)


def test_one_uid_in_many_studies_at_once(engine, store):
    """Each worker has a study of its own locked: only the instance brings them together."""
    SOPInstanceUID = new_uid()
    sent = [stage(store, image(SOPInstanceUID=SOPInstanceUID)) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda each: index([each], store, engine), reversed(sent)))
    assert states(engine, sent) == [PRIMARY] + [("conflict", "other_parents")] * 7
    assert rows(engine, "SELECT source FROM study") == [(sent[0].object_id,)]


def test_purging_is_finished_by_the_next_run(engine, store, tmp_path):
    class Dying(DirectoryStore):
        """Deletes, and the process dies."""

        def delete(self, key):
            super().delete(key)
            raise StoreUnavailable("killed")

    ds = image()
    first, again = stage(store, ds), stage(store, ds)
    index([first, again], store, engine)
    dying = Dying(tmp_path / "objects")
    with pytest.raises(StoreUnavailable):
        purge_duplicates(dying, engine)
    assert keys(store) == {first.object_id}
    assert object_ids(engine) == {first.object_id, again.object_id}
    assert purge_duplicates(store, engine).objects == 1
    assert object_ids(engine) == {first.object_id}
    # A receipt that is delivered again finds nothing to index.
    assert index([again], store, engine).vanished == 1
    assert object_ids(engine) == {first.object_id}


def test_nothing_is_purged_while_the_kept_one_is_damaged(engine, store, tmp_path):
    ds = image()
    first, again = stage(store, ds), stage(store, ds)
    index([first, again], store, engine)
    file = tmp_path / "objects" / object_key(first.object_id)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    purged = purge_duplicates(store, engine)
    assert (purged.objects, purged.doubtful) == (0, 1)
    assert keys(store) == {first.object_id, again.object_id}
    assert rows(engine, "SELECT object_id, rule FROM finding") == [
        (first.object_id, "stored_bytes_differ")
    ]
    assert purge_duplicates(store, engine).doubtful == 0  # not read again and again


@pytest.mark.parametrize("calling_ae", ["CT01", "A"], ids=["as before", "a shorter file meta"])
def test_what_the_store_has_lost_is_healed_by_sending_it_again(
    engine, store, tmp_path, *, calling_ae
):
    def faults():
        with ThreadPoolExecutor(1) as readers:
            return list(verify(store, engine, readers=readers))

    ds = image()
    first = stage(store, ds)
    index([first], store, engine)
    store.delete(object_key(first.object_id))
    assert faults() == [(first.object_id, Fault.MISSING)]
    copies = [stage(store, ds, calling_ae=calling_ae) for _ in range(2)]
    index(copies, store, engine)
    # The copy that is looked at first is lost itself.
    store.delete(object_key(copies[0].object_id))
    purged = purge_duplicates(store, engine)
    assert (purged.restored, purged.doubtful) == (1, 2)
    purged = purge_duplicates(store, engine)
    assert (purged.objects, purged.doubtful) == (2, 0)
    assert keys(store) == object_ids(engine) == {first.object_id}
    assert faults() == []
    stored = store.read(object_key(first.object_id))
    ((size, offset),) = rows(engine, "SELECT size, dataset_offset FROM object")
    assert (size, stored[offset:]) == (len(stored), encoded(ds))
    # Its frames lie elsewhere in the file, if anything does.
    assert find_frames(store, engine, go_on=lambda: True) == (calling_ae != "CT01")
    ((frames,),) = rows(engine, "SELECT frames FROM header")
    table = decode_frames(frames)
    ((place, length),) = table.pieces(1)
    assert stored[place : place + length] == ds.PixelData


def test_purging_changes_no_other_row(engine, store):
    ds = image()
    sent = [stage(store, ds), stage(store, ds)]
    sent.append(stage(store, with_changes(ds, PixelData=bytes(512))))
    index(sent[:1] + sent[2:], store, engine)
    before = snapshot(engine)
    index(sent, store, engine)
    assert snapshot(engine) != before
    assert purge_duplicates(store, engine).objects == 1
    assert snapshot(engine) == before


def test_purging_is_bounded(engine, store):
    ds = image()
    sent = [stage(store, ds) for _ in range(6)]
    index(sent, store, engine)
    assert purge_duplicates(store, engine, limit=2).objects == 2
    assert purge_duplicates(store, engine).objects == 3
    assert purge_duplicates(store, engine).objects == 0


def test_what_became_otherwise_meanwhile_is_not_purged(engine, store):
    ds = image()
    first, again = stage(store, ds), stage(store, ds)
    index([first, again], store, engine)
    with ThreadPoolExecutor(1) as threads:
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT 1 FROM object FOR UPDATE"))
            running = threads.submit(purge_duplicates, store, engine)
            blocked = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while not connection.scalar(blocked):
                assert not running.done()
            connection.execute(
                sa.text("UPDATE object SET reason = 'encoding' WHERE id = :id"),
                {"id": again.object_id},
            )
        assert running.result(30).objects == 0
    assert keys(store) == {first.object_id, again.object_id}
