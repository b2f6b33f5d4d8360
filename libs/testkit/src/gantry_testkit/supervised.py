"""The processes of a service: those that the fork server of its supervisor has forked."""

from contextlib import suppress
from pathlib import Path


def children(supervisor: int) -> list[Path]:
    """Their folders in /proc, without the fork server's own."""
    return [
        child for server in _children(Path(f"/proc/{supervisor}")) for child in _children(server)
    ]


def name(process: Path) -> str:
    """What it was called by the supervisor: ``http-0``, at most 15 characters of it."""
    return (process / "comm").read_text().strip()


def peak_memory(process: Path) -> int:
    """The most bytes that it has had resident."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _children(process: Path) -> list[Path]:
    found: list[str] = []
    with suppress(OSError):  # it has gone
        for task in (process / "task").iterdir():
            with suppress(OSError):  # this thread of it has
                found += (task / "children").read_text().split()
    return [process.parent / pid for pid in found]
