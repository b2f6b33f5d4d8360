"""When new associations are turned away, and when not."""

import mmap
from pathlib import Path

from gantry_archive.watermarks import Watermarks, resident_memory


class Process:
    """A process whose memory and clock a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.memory = 100

    def marks(self, **changes: object) -> Watermarks:
        values = {"memory": 200, "free_space": None, "folder": None} | changes
        return Watermarks(resident=lambda: self.memory, clock=lambda: self.now, **values)


def test_memory_that_is_in_use() -> None:
    process = Process()
    marks = process.marks()
    assert not marks.congested(5)
    process.memory, process.now = 201, 2.0
    assert marks.congested(5)
    assert not marks.congested(0)
    process.memory, process.now = 199, 4.0
    assert not marks.congested(5)


def test_it_looks_once_a_second() -> None:
    process = Process()
    marks = process.marks()
    assert not marks.congested(1)
    process.memory, process.now = 500, 0.5
    assert not marks.congested(1)
    process.now = 1.1
    assert marks.congested(1)


def test_room_of_a_folder(tmp_path: Path) -> None:
    process = Process()
    assert process.marks(free_space=2**62, folder=tmp_path).congested(0)
    assert not process.marks(free_space=1, folder=tmp_path).congested(0)
    assert not process.marks(free_space=2**62, folder=None).congested(0)
    # Away is not full: that is waited for.
    assert not process.marks(free_space=2**62, folder=tmp_path / "away").congested(0)


def test_the_memory_of_this_process() -> None:
    before = resident_memory()
    # Pages of their own, for the heap may have some left over.
    with mmap.mmap(-1, 50 * 2**20) as held:
        for offset in range(0, len(held), mmap.PAGESIZE):
            held[offset] = 1
        assert resident_memory() - before > 40 * 2**20
