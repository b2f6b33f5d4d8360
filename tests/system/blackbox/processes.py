"""The processes of one run as the kernel shows them: found by the data folder they were given."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seen:
    """One process: its number, name, that of its parent, its command line, and when it began."""

    pid: int
    name: str
    """As ``ps`` shows it; a service's processes are called by their supervisor."""
    parent: int
    began: int
    arguments: tuple[str, ...]

    @property
    def module(self) -> str | None:
        """What ``python -m`` was told to run."""
        for flag, name in zip(self.arguments, self.arguments[1:], strict=False):
            if flag == "-m":
                return name
        return None

    def running(self) -> bool:
        """Whether this very process, not another with its number, still runs."""
        now = _look(Path(f"/proc/{self.pid}"))
        return now is not None and now.began == self.began

    def send(self, number: signal.Signals) -> None:
        """A signal, unless the process has gone."""
        if self.running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _look(folder: Path) -> Seen | None:
    try:
        stat = (folder / "stat").read_text(errors="replace")
        arguments = (folder / "cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    # pid (name) state ppid ... starttime: the name may hold blanks and parentheses.
    name = stat.partition("(")[2].rpartition(")")[0]
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        return None
    words = tuple(os.fsdecode(word) for word in arguments.rstrip(b"\0").split(b"\0"))
    return Seen(int(folder.name), name, int(fields[1]), int(fields[19]), words)


def _names(folder: Path, data: bytes) -> bool:
    """Whether a process was given the data folder: by environment, by argument, or to live in."""
    for file in ("environ", "cmdline"):
        with suppress(OSError):
            content = (folder / file).read_bytes()
            if any(data + end in content for end in (b"\0", b"/", b" ")):
                return True
    with suppress(OSError):
        here = os.fsencode((folder / "cwd").readlink())
        return here == data or here.startswith(data + b"/")
    return False


def processes_of(data: Path) -> dict[int, Seen]:
    """Every running process of the run that keeps its data in `data`, with all their children."""
    marker = os.fsencode(data)
    everyone: dict[int, Seen] = {}
    ours: set[int] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        seen = _look(folder)
        if seen is not None:
            everyone[seen.pid] = seen
            if seen.pid != os.getpid() and _names(folder, marker):
                ours.add(seen.pid)
    return {pid: everyone[pid] for pid in ours | descendants(everyone, ours)}


def descendants(everyone: dict[int, Seen], roots: Iterable[int]) -> set[int]:
    """The children of `roots`, their children, and so on."""
    found: set[int] = set()
    edge = set(roots)
    while edge:
        edge = {seen.pid for seen in everyone.values() if seen.parent in edge} - found
        found |= edge
    return found
