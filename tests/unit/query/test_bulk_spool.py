"""Bulk data that wait: in the folder that is named, and nothing of them stays."""

from pathlib import Path

from gantry_query.bulk_spool import BulkSpool


def open_files() -> list[str]:
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


def test_they_take_room_in_the_folder_until_they_are_closed(tmp_path: Path) -> None:
    spool = BulkSpool(10 * 2**20, tmp_path)
    spool.begin("a", "application/octet-stream")
    spool.write(memoryview(bytes(range(256)) * 32768))
    (part,) = spool.parts["a"]
    assert b"".join(spool.read(part)) == bytes(range(256)) * 32768
    # It has no name that could be left behind.
    assert any(name.startswith(f"{tmp_path}/") and "deleted" in name for name in open_files())
    assert list(tmp_path.iterdir()) == []
    spool.close()
    assert not any(name.startswith(f"{tmp_path}/") for name in open_files())
