"""The contract of the object store, kept by every implementation of it."""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gantry_domain.object_place import Bucket
from gantry_stores.objects import (
    DirectoryStore,
    InvalidKey,
    ObjectExists,
    ObjectLost,
    ObjectNotFound,
    ObjectStore,
    StoreFull,
    StoreUnavailable,
)
from gantry_stores.objects.s3 import S3Store

HOUR = "objects/2024/05/01/12/"


@pytest.fixture(params=["directory", "s3", "part of a bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "objects")
    make_bucket: Callable[..., Bucket] = request.getfixturevalue("make_bucket")
    return S3Store(make_bucket(prefix="" if request.param == "s3" else "part/of-it"))


def put(store: ObjectStore, key: str, content: bytes = b"content") -> None:
    writer = store.create(key)
    writer.write([content])
    writer.commit()


def keys(store: ObjectStore, prefix: str, after: str | None = None) -> list[str]:
    return [found.key for found in store.list(prefix, after=after)]


class TestEveryStore:
    def test_returns_what_was_written(self, store: ObjectStore) -> None:
        parts = [os.urandom(size) for size in (1, 0, 132, 70_000, 3)]
        writer = store.create(HOUR + "a.dcm")
        buffer = bytearray(parts[0])
        writer.write([memoryview(buffer)])
        buffer[:] = b"\0"  # The writer must not have kept it.
        writer.write([memoryview(part) for part in parts[1:]])
        writer.commit()
        whole = b"".join(parts)
        assert store.read(HOUR + "a.dcm") == whole
        assert store.read(HOUR + "a.dcm", 5, 200) == whole[5:205]
        assert store.read(HOUR + "a.dcm", len(whole) - 2, 100) == whole[-2:]
        assert store.read(HOUR + "a.dcm", len(whole) + 2) == b""
        assert store.read(HOUR + "a.dcm", 3, 0) == b""
        pieces = list(store.chunks(HOUR + "a.dcm", 7, 60_000, chunk_size=1000))
        assert b"".join(pieces) == whole[7:60_007]
        assert {len(piece) for piece in pieces} == {1000}
        found = store.stat(HOUR + "a.dcm")
        assert (found.key, found.size) == (HOUR + "a.dcm", len(whole))
        assert abs(found.modified.timestamp() - time.time()) < 60

    def test_takes_more_buffers_than_the_system_does_at_once(self, store: ObjectStore) -> None:
        writer = store.create("many")
        writer.write([bytes([n % 251]) * 3 for n in range(5000)])
        writer.commit()
        assert store.read("many") == b"".join(bytes([n % 251]) * 3 for n in range(5000))

    def test_nothing_is_visible_before_commit(self, store: ObjectStore) -> None:
        writer = store.create(HOUR + "a.dcm")
        writer.write([b"x" * 100_000])
        assert keys(store, "") == []
        with pytest.raises(ObjectNotFound):
            store.stat(HOUR + "a.dcm")
        writer.abort()
        writer.abort()
        assert keys(store, "") == []
        with pytest.raises(ObjectLost):
            writer.commit()

    def test_never_overwrites(self, store: ObjectStore) -> None:
        put(store, "a", b"first")
        writer = store.create("a")
        writer.write([b"second"])
        with pytest.raises(ObjectExists):
            writer.commit()
        writer.abort()
        assert store.read("a") == b"first"

    def test_one_of_many_writers_of_a_key_wins(self, store: ObjectStore) -> None:
        barrier = threading.Barrier(8)

        def write(n: int) -> bool:
            writer = store.create("contended/key")
            writer.write([bytes([n]) * 1000])
            barrier.wait()
            try:
                writer.commit()
            except ObjectExists:
                writer.abort()
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert store.read("contended/key") == bytes([won.index(True)]) * 1000

    def test_lists_in_key_order(self, store: ObjectStore) -> None:
        names = ["a/b", "a-b", "a.b", "a/b-c/d", "a/b.c", "a0", "b/x/y/z", "b/x/y0", "c"]
        for name in names:
            put(store, name)
        ordered = sorted(names)
        assert keys(store, "") == ordered
        for prefix in ("a", "a/", "a/b", "b/x/y", "b/x/y/", "c", "d", "a/b-c/d"):
            assert keys(store, prefix) == [name for name in ordered if name.startswith(prefix)]
        for after in [*ordered, "a", "a/", "a/b-", "b/x/", "zzz", "."]:
            assert keys(store, "", after) == [name for name in ordered if name > after]

    def test_an_absent_object_is_named(self, store: ObjectStore) -> None:
        put(store, "there")
        for key in ("absent", "no/such/folder", "there/below"):
            with pytest.raises(ObjectNotFound, match=key):
                store.read(key)
            with pytest.raises(ObjectNotFound):
                store.chunks(key)
            with pytest.raises(ObjectNotFound):
                store.stat(key)
            store.delete(key)

    def test_deletes(self, store: ObjectStore) -> None:
        put(store, HOUR + "a.dcm")
        put(store, HOUR + "b.dcm")
        store.delete(HOUR + "a.dcm")
        assert keys(store, "") == [HOUR + "b.dcm"]
        put(store, HOUR + "a.dcm", b"anew")
        assert store.read(HOUR + "a.dcm") == b"anew"

    @pytest.mark.parametrize(
        "key",
        ["", "/a", "a/", "a//b", "../a", "a/../b", ".tmp/x", "a/.b", "a\0", "a b", "x" * 1025],
    )
    def test_refuses_what_is_no_key(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(InvalidKey):
            store.create(key)
        with pytest.raises(InvalidKey):
            store.read(key)

    @pytest.mark.parametrize("prefix", ["/", "../", "objects//", ".tmp/"])
    def test_refuses_what_is_no_prefix(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(InvalidKey):
            store.list(prefix)

    def test_refuses_a_negative_range(self, store: ObjectStore) -> None:
        put(store, "a")
        with pytest.raises(ValueError, match="negative"):
            store.read("a", -1)
        with pytest.raises(ValueError, match="negative"):
            store.read("a", 0, -1)

    def test_probe_leaves_nothing(self, store: ObjectStore) -> None:
        store.probe()
        assert keys(store, "") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


class TestDirectoryStore:
    def test_removes_only_old_leftovers(self, folder: Path) -> None:
        DirectoryStore(folder)
        old, young = folder / ".tmp" / "old", folder / ".tmp" / "young"
        old.write_bytes(b"x")
        young.write_bytes(b"x")
        day_ago = time.time() - 25 * 3600
        os.utime(old, (day_ago, day_ago))
        DirectoryStore(folder)
        assert not old.exists()
        assert young.exists()

    def test_neither_commit_nor_abort_leaves_a_temporary_file(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        put(store, "a")
        store.create("b").abort()
        assert list((folder / ".tmp").iterdir()) == []

    def test_a_folder_is_made_only_by_who_says_so(self, folder: Path) -> None:
        with pytest.raises(StoreUnavailable):
            DirectoryStore(folder, create=False)
        # Nor is an empty one, such as the place of an unmounted volume, taken for a store.
        folder.mkdir()
        with pytest.raises(StoreUnavailable):
            DirectoryStore(folder, create=False)
        assert list(folder.iterdir()) == []
        DirectoryStore(folder)
        put(DirectoryStore(folder, create=False), "a")

    def test_a_folder_that_went_away_is_not_made_again(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        put(store, HOUR + "a.dcm")
        begun = store.create(HOUR + "b.dcm")
        begun.write([b"begun"])
        folder.rename(folder.with_name("elsewhere"))
        for attempt in (
            store.probe,
            begun.commit,
            lambda: store.create("c"),
            lambda: store.read(HOUR + "a.dcm"),
            lambda: store.stat(HOUR + "a.dcm"),
            lambda: store.delete(HOUR + "a.dcm"),
            lambda: list(store.list("objects/")),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                attempt()
            assert str(folder) not in str(caught.value)
        assert not folder.exists()
        folder.with_name("elsewhere").rename(folder)
        store.probe()
        begun.commit()
        assert keys(store, "") == [HOUR + "a.dcm", HOUR + "b.dcm"]
        assert store.read(HOUR + "b.dcm") == b"begun"

    def test_a_walk_during_which_the_folder_goes_away_does_not_just_end(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        put(store, "a/1")
        put(store, "b/1")
        walk = store.list("")
        assert next(walk).key == "a/1"
        folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(StoreUnavailable):
            list(walk)

    def test_an_hour_whose_folder_was_removed_is_made_again(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        put(store, HOUR + "a.dcm")
        store.delete(HOUR + "a.dcm")
        (folder / HOUR).rmdir()
        put(store, HOUR + "b.dcm")
        assert keys(store, "") == [HOUR + "b.dcm"]

    def test_a_full_disk_is_named_and_waited_out(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DirectoryStore(folder)
        writer = store.create("a")
        writer.write([b"12"])
        real = os.pwritev
        failures = [OSError(errno.ENOSPC, "No space left on device"), None]

        def half_full(descriptor: int, buffers: list[memoryview], offset: int) -> int:
            if failures and (failure := failures.pop()) is not None:
                raise failure
            return real(descriptor, [buffers[0][:1]], offset)

        monkeypatch.setattr(os, "pwritev", half_full)
        with pytest.raises(StoreFull, match="full"):
            writer.write([b"3456", b"78"])
        writer.write([b"3456", b"78"])
        writer.commit()
        assert store.read("a") == b"12345678"

    def test_a_failed_sync_is_never_tried_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DirectoryStore(folder)
        writer = store.create("a")
        writer.write([b"x"])

        def broken(_descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(ObjectLost):
                writer.commit()
        with pytest.raises(ObjectLost):
            writer.commit()
        assert keys(store, "") == []
        assert list((folder / ".tmp").iterdir()) == []

    def test_an_object_whose_folder_could_not_be_synced_is_withdrawn(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DirectoryStore(folder)
        put(store, "a/1")
        writer = store.create("a/2")
        writer.write([b"x"])
        real, calls = os.fsync, []

        def second_fails(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == 2:
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", second_fails)
            with pytest.raises(StoreUnavailable):
                writer.commit()
            writer.commit()
            assert store.read("a/2") == b"x"
            other = store.create("a/3")
            other.write([b"y"])
            calls.clear()
            with pytest.raises(StoreUnavailable):
                other.commit()
        other.abort()
        assert keys(store, "") == ["a/1", "a/2"]

    def test_one_folder_sync_serves_many(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DirectoryStore(folder)
        put(store, "a/first")
        real, folders = os.fsync, []

        def slow_for_folders(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                folders.append(descriptor)
                time.sleep(0.05)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", slow_for_folders)
        barrier = threading.Barrier(16)

        def write(n: int) -> None:
            barrier.wait()
            put(store, f"a/{n}")

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, range(16)))
        assert len(keys(store, "a/")) == 17
        assert 1 <= len(folders) < 8

    def test_a_listing_needs_little_memory(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gantry_stores.objects.directory._NAMES_AT_ONCE", 7)
        store = DirectoryStore(folder)
        names = [f"a/{n:03}" for n in range(50)] + [f"a/{n:03}x/y" for n in range(20)]
        for name in names:
            put(store, name)
        assert keys(store, "a/") == sorted(names)
        assert keys(store, "a/", "a/004") == [name for name in sorted(names) if name > "a/004"]

    def test_reading_after_the_object_was_deleted_goes_on(self, folder: Path) -> None:
        store = DirectoryStore(folder)
        put(store, "a", b"0123456789")
        pieces = store.chunks("a", chunk_size=4)
        assert next(pieces) == b"0123"
        store.delete("a")
        assert list(pieces) == [b"4567", b"89"]
