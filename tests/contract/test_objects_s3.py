"""What the store does with a bucket that others cannot: parts, marks, and a bucket made ready."""

import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gantry_archive.reading import ReadingRules, read_object
from gantry_domain.entries import Entry
from gantry_domain.errors import ConfigurationError
from gantry_domain.keys import new_object_id, object_key
from gantry_domain.object_place import Bucket
from gantry_domain.receipts import Receipt
from gantry_stores.objects import (
    ObjectExists,
    ObjectLost,
    StoreUnavailable,
    prepare_store,
)
from gantry_stores.objects.s3 import S3Store
from gantry_stores.objects.s3_parts import part_size
from gantry_stores.objects.s3_writer import WriterMemory
from gantry_testkit.s3_server import S3Server
from gantry_testkit.stored import file_of, image
from gantry_testkit.tls_door import TlsDoor
from gantry_testkit.waiting import until

MiB = 2**20


@pytest.fixture
def bucket(make_bucket: Callable[..., Bucket]) -> Bucket:
    return make_bucket()


@pytest.fixture
def store(bucket: Bucket) -> S3Store:
    return S3Store(bucket)


def keys(store: S3Store) -> list[str]:
    return [found.key for found in store.list("")]


def uploads(server: S3Server, bucket: Bucket) -> list[str]:
    """The keys of the uploads that were begun and not ended."""
    found = server.client().list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [upload["Key"] for upload in found]


class TestLargeObjects:
    def test_are_uploaded_in_parts_and_read_in_windows(
        self, store: S3Store, bucket: Bucket, s3_server: S3Server
    ) -> None:
        content = os.urandom(21 * MiB + 17)
        writer = store.create("large")
        for start in range(0, len(content), 300_000):
            writer.write([memoryview(content)[start : start + 300_000]])
        assert keys(store) == []
        assert uploads(s3_server, bucket) == ["large"]
        writer.commit()
        writer.abort()
        assert uploads(s3_server, bucket) == []
        assert store.stat("large").size == len(content)
        assert store.read("large") == content
        assert store.read("large", 7 * MiB, 10 * MiB) == content[7 * MiB : 17 * MiB]
        pieces = list(store.chunks("large", 5, chunk_size=1_000_000))
        assert b"".join(pieces) == content[5:]
        assert {len(piece) for piece in pieces[:-1]} == {1_000_000}

    def test_leave_nothing_when_aborted(
        self, store: S3Store, bucket: Bucket, s3_server: S3Server
    ) -> None:
        writer = store.create("large")
        for _ in range(5):
            writer.write([bytes(4 * MiB)])
        assert uploads(s3_server, bucket) == ["large"]
        writer.abort()
        until(lambda: not uploads(s3_server, bucket), "the parts are gone")
        assert keys(store) == []
        with pytest.raises(ObjectLost):
            writer.commit()
        with pytest.raises(ObjectLost):
            writer.write([b"more"])

    def test_never_overwrite(self, store: S3Store) -> None:
        first, second = store.create("large"), store.create("large")
        for writer in (first, second):
            for _ in range(3):
                writer.write([bytes(5 * MiB)])
        first.commit()
        with pytest.raises(ObjectExists):
            second.commit()
        second.abort()
        assert store.stat("large").size == 15 * MiB

    def test_whose_upload_was_forgotten_are_lost(
        self, store: S3Store, bucket: Bucket, s3_server: S3Server
    ) -> None:
        writer = store.create("large")
        for _ in range(3):
            writer.write([bytes(5 * MiB)])
        client = s3_server.client()
        (found,) = client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
        client.abort_multipart_upload(
            Bucket=bucket.name, Key=found["Key"], UploadId=found["UploadId"]
        )
        with pytest.raises(ObjectLost):
            writer.commit()
        assert keys(store) == []

    def test_may_have_hundreds_of_gigabytes(self) -> None:
        assert part_size(1) == part_size(2000) == 8 * MiB
        assert sum(part_size(number) for number in range(1, 10_001)) == 496_000 * MiB


class TestHashes:
    def test_of_what_is_put_at_once_are_beside_it(self, bucket: Bucket, store: S3Store) -> None:
        for key, size in (("small", 2000), ("large", 9 * MiB)):
            writer = store.create(key)
            for start in range(0, size, MiB):
                writer.write([bytes(min(MiB, size - start))])
            writer.commit(sha256=bytes(range(32)))
        assert store.stat("small").sha256 == bytes(range(32))
        # Its metadata came before its last byte.
        assert store.stat("large").sha256 is None
        assert [found.sha256 for found in store.list("")] == [None, None]

    def test_spare_the_worker_to_read_the_whole(self, store: S3Store) -> None:
        told = hashlib.sha256(b"as its sender had it").digest()
        object_id, ds = new_object_id(), image()
        writer = store.create(object_key(object_id))
        writer.write([file_of(ds)])
        writer.commit(sha256=told)
        read = read_object(Receipt(object_id), store=store, rules=ReadingRules())
        assert isinstance(read.entry, Entry)
        assert read.entry.sha256 == told


class TestMemory:
    def test_that_is_used_up_holds_a_writer_back_until_there_is_some(self) -> None:
        memory = WriterMemory(10)
        assert memory.take(25)  # alone
        assert not memory.take(1)
        memory.give_back(25)
        assert memory.take(6)
        assert memory.take(4)
        assert not memory.take(1)

    def test_of_a_writer_is_given_back(
        self, store: S3Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "_memory", WriterMemory(1000))
        first, second = store.create("a"), store.create("b")
        first.write([bytes(800)])
        with pytest.raises(StoreUnavailable, match="too many"):
            second.write([bytes(300)])
        first.commit()
        second.write([bytes(300)])
        second.abort()
        third = store.create("c")
        third.write([bytes(1000)])
        third.commit()
        assert keys(store) == ["a", "c"]


class TestPreparation:
    def test_makes_a_bucket_when_told_to(
        self, make_bucket: Callable[..., Bucket], s3_server: S3Server
    ) -> None:
        name = s3_server.unused_name()
        with pytest.raises(ConfigurationError, match=f"s3://{name}/in/it: there is no such bucket"):
            prepare_store(make_bucket(name=name, prefix="in/it"))
        bucket = make_bucket(name=name, prefix="in/it", create=True, versioning=True)
        prepare_store(bucket)
        prepare_store(bucket)
        client = s3_server.client()
        (rule,) = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
        assert client.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        S3Store(bucket).probe()
        assert keys(S3Store(bucket)) == []

    def test_many_at_once_make_one_bucket(
        self, make_bucket: Callable[..., Bucket], s3_server: S3Server
    ) -> None:
        bucket = make_bucket(name=s3_server.unused_name(), create=True)
        barrier = threading.Barrier(4)

        def prepare(_number: int) -> None:
            barrier.wait()
            prepare_store(bucket)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(prepare, range(4)))
        S3Store(bucket).probe()

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"versioning": True}, "keeps no versions"),
            ({"encryption": "AES256"}, "does not encrypt by AES256"),
            ({"endpoint": "http://127.0.0.1:9"}, "the server does not answer"),
        ],
    )
    def test_refuses_a_bucket_that_is_not_as_told(
        self, make_bucket: Callable[..., Bucket], fields: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=said):
            prepare_store(make_bucket(**fields))

    @pytest.mark.parametrize(
        ("variable", "said"),
        [
            ("AWS_SECRET_ACCESS_KEY", "the secret key is wrong"),
            ("AWS_ACCESS_KEY_ID", "does not know the access key"),
        ],
    )
    def test_refuses_wrong_credentials_and_shows_none(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, said: str
    ) -> None:
        monkeypatch.setenv(variable, "wrong-" + uuid.uuid4().hex)
        with pytest.raises(ConfigurationError, match=said) as caught:
            prepare_store(bucket)
        assert os.environ[variable] not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(StoreUnavailable, match="403") as away:
            S3Store(bucket).probe()
        assert os.environ["AWS_ACCESS_KEY_ID"] not in str(away.value)

    @pytest.mark.parametrize(
        ("action", "said"),
        [
            ("s3:PutObject", "we cannot write to it"),
            ("s3:ListBucket", "we cannot list it"),
            ("s3:GetObject", "we cannot read it"),
            ("s3:DeleteObject", "we cannot delete from it"),
        ],
    )
    def test_refuses_a_bucket_that_forbids(
        self, bucket: Bucket, s3_server: S3Server, action: str, said: str
    ) -> None:
        s3_server.forbid(bucket.name, action)
        with pytest.raises(ConfigurationError, match=said):
            prepare_store(bucket)


def test_a_bucket_that_is_gone_is_not_taken_for_an_absent_object(
    make_bucket: Callable[..., Bucket], s3_server: S3Server
) -> None:
    store = S3Store(make_bucket(name=s3_server.unused_name()))
    writer = store.create("a")
    writer.write([b"x"])
    for attempt in (
        writer.commit,
        lambda: store.read("a"),
        lambda: store.stat("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
        store.probe,
    ):
        with pytest.raises(StoreUnavailable):
            attempt()


def test_tls_is_spoken_with_servers_of_the_authority_that_is_named_alone(
    make_bucket: Callable[..., Bucket], s3_server: S3Server, tmp_path: Path
) -> None:
    door = TlsDoor(s3_server.port, folder=tmp_path)
    try:
        endpoint = f"https://localhost:{door.port}"
        trusting = make_bucket(endpoint=endpoint, ca_file=door.ca_file)
        prepare_store(trusting)
        store = S3Store(trusting)
        store.probe()
        writer = store.create("large")
        for _ in range(3):
            writer.write([bytes(5 * MiB)])
        writer.commit()
        assert store.read("large", 15 * MiB - 3) == bytes(3)
        taken = door.taken
        strange = make_bucket(name=trusting.name, endpoint=endpoint, timeout=2.0)
        with pytest.raises(ConfigurationError, match="does not answer"):
            prepare_store(strange)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            S3Store(strange).probe()
        assert door.taken == taken
        missing = make_bucket(endpoint=endpoint, ca_file=tmp_path / "none.pem")
        with pytest.raises(ConfigurationError, match=r"none\.pem: cannot be read"):
            prepare_store(missing)
    finally:
        door.close()
