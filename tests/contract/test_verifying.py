"""Every object read again: what is missing or changed is found, and nothing else."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.engine import Engine

from gantry_archive import verifying
from gantry_archive.indexing import index_batch
from gantry_archive.reading import ReadingRules
from gantry_archive.verifying import Fault, Verified, verify
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.object_place import Bucket
from gantry_stores.objects import DirectoryStore, ObjectStore
from gantry_stores.objects.s3 import S3Store
from gantry_testkit.s3_server import S3Server
from gantry_testkit.stored import Sent, image, receipts, stage


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def faults(
    store: ObjectStore,
    engine: Engine | None,
    readers: ThreadPoolExecutor,
    *,
    since: datetime | None = None,
) -> tuple[dict[UUID, Fault], Verified]:
    last = Verified()

    def remember(done: Verified) -> None:
        nonlocal last
        last = done

    return dict(verify(store, engine, readers=readers, since=since, progress=remember)), last


def indexed(store: ObjectStore, engine: Engine, *, number: int) -> list[Sent]:
    sent = [stage(store, image()) for _ in range(number)]
    index_batch(receipts(sent), store=store, engine=engine, rules=ReadingRules())
    return sent


def test_finds_what_is_missing_and_what_is_changed(
    engine: Engine, tmp_path: Path, readers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_AT_ONCE", 4)
    monkeypatch.setattr(verifying, "_ROWS_AT_ONCE", 3)
    store = DirectoryStore(tmp_path / "objects")
    sent = indexed(store, engine, number=14)
    found, done = faults(store, engine, readers)
    assert found == {}
    assert (done.objects, done.untold) == (14, 0)
    assert done.bytes == sum(each.size for each in sent)

    first, inner, headless, last = sent[0], sent[6], sent[9], sent[-1]
    for gone in (first, last):
        store.delete(object_key(gone.object_id))
    for broken, offset in ((inner, -1), (headless, 130)):
        file = tmp_path / "objects" / object_key(broken.object_id)
        content = bytearray(file.read_bytes())
        content[offset] ^= 1
        file.write_bytes(content)
    # What is in no index yet is read, and no fault.
    stage(store, image())
    found, done = faults(store, engine, readers)
    assert found == {
        first.object_id: Fault.MISSING,
        last.object_id: Fault.MISSING,
        inner.object_id: Fault.CHANGED,
        headless.object_id: Fault.CHANGED,
    }
    assert (done.objects, done.untold) == (13, 1)
    tomorrow = datetime.fromtimestamp(2**33, UTC)
    assert faults(store, engine, readers, since=tomorrow) == ({}, Verified())


def test_an_index_without_a_store_is_all_missing(
    engine: Engine, tmp_path: Path, readers: ThreadPoolExecutor
) -> None:
    sent = indexed(DirectoryStore(tmp_path / "objects"), engine, number=3)
    found, _ = faults(DirectoryStore(tmp_path / "others"), engine, readers)
    assert found == dict.fromkeys((each.object_id for each in sent), Fault.MISSING)


def test_a_bucket_tells_by_itself(
    make_bucket: Callable[..., Bucket], s3_server: S3Server, readers: ThreadPoolExecutor
) -> None:
    bucket = make_bucket()
    store = S3Store(bucket)
    sent = [stage(store, image()) for _ in range(2)]
    good, bad = new_object_id(), new_object_id()
    content = store.read(object_key(sent[0].object_id))
    for object_id in (good, bad):
        writer = store.create(object_key(object_id))
        writer.write([content])
        writer.commit(sha256=sent[0].sha256)
    client, key = s3_server.client(), object_key(bad)
    kept = client.head_object(Bucket=bucket.name, Key=key)["Metadata"]
    client.put_object(Bucket=bucket.name, Key=key, Body=content[:-1] + b"?", Metadata=kept)
    found, done = faults(store, None, readers)
    assert found == {bad: Fault.CHANGED}
    assert (done.objects, done.untold) == (4, 2)
