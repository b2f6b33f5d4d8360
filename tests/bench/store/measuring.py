"""Measures in turns, and makes tables of it."""

import itertools
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import data
from servers import Server

ROOT = Path(__file__).parents[3]
PEER = "Orthanc, Nagle off"
SHIPPED = "Orthanc as shipped"

# Instances of a measurement, over all associations.
COUNTS = {"512 KiB": 600, "12 KB": 1600}
# Of a sender with Nagle's algorithm, or to a server with it.
_FEW = 48

Figures = dict[tuple[str, str], list[float]]
"""Server and column to one figure for each round."""

Measured = TypeVar("Measured")

_studies = itertools.count(int(time.time()) % 9_000_000)


class Bench:
    """The sender, and what it has measured."""

    def __init__(self, folder: Path, sender: str) -> None:
        self.folder, self.sender = folder, sender
        self.stored: Figures = defaultdict(list)
        self.found: Figures = defaultdict(list)

    def measure(self, server: Server, size: str, associations: int) -> None:
        """One figure for instances stored per second, and one for those found."""
        sample = data.sample(data.SIZES[size], next(_studies))
        file = self.folder / "data"
        file.write_bytes(sample.encoded)
        each = (_FEW * 2 if server.name == SHIPPED else COUNTS[size]) // associations
        options = [data.CT_IMAGE, "1.2.840.10008.1.2.1", sample.offset, sample.length, 0]
        command = [self.sender, server.port, server.ae_title, associations, each, file, *options]
        begun = time.monotonic()
        done = subprocess.run(
            [str(part) for part in command], check=True, capture_output=True, text=True
        )
        count, seconds, failures = done.stdout.split()
        if failures != "0":
            raise RuntimeError(f"{server.name} refused {failures}")
        column = f"{size}, {associations}"
        self.stored[server.name, column].append(int(count) / float(seconds))
        if server.web:
            while server.found(sample.study_instance_uid) < int(count):
                time.sleep(0.02)
            self.found[server.name, column].append(int(count) / (time.monotonic() - begun))
        server.clear()

    def measure_storescu(self, server: Server) -> None:
        """dcmtk's storescu as installed, one association."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            files = data.write_files(Path(name), 512, next(_studies), _FEW)
            command = ["storescu", "-aec", server.ae_title, "127.0.0.1", str(server.port)]
            begun = time.monotonic()
            subprocess.run([*command, *map(str, files)], check=True, capture_output=True)
            rate = len(files) / (time.monotonic() - begun)
        self.stored[server.name, "storescu as installed"].append(rate)
        server.clear()


def turns(measured: Sequence[Measured], rounds: int, measure: Callable[[Measured], None]) -> None:
    """Each once in each round, another first in each."""
    for number in range(rounds):
        first = number % len(measured)
        for each in (*measured[first:], *measured[:first]):
            measure(each)


def table(figures: Figures, peer: str) -> list[str]:
    """Medians, each with the median of its ratios to the peer's of the same round."""
    names = list(dict.fromkeys(name for name, _ in figures))
    columns = list(dict.fromkeys(column for _, column in figures))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [_cell(figures, name, column, peer) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(figures: Figures, name: str, column: str, peer: str) -> str:
    own, others = figures.get((name, column)), figures.get((peer, column))
    if not own:
        return ""
    rate = f"{statistics.median(own):,.0f}"
    if name == peer or not others:
        return rate
    return f"{rate} ({statistics.median(a / b for a, b in zip(own, others, strict=True)):.2f})"


def machine() -> str:
    """What it was measured on."""
    model = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} virtual cores ({model}), {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def write(mark: str, lines: list[str]) -> None:
    """Put lines into docs/performance.md, between the two marks of that name."""
    page = ROOT / "docs" / "performance.md"
    text = page.read_text()
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    head, tail = text.partition(begin)[0], text.partition(end)[2]
    page.write_text(head + begin + "\n".join(lines) + "\n" + end + tail)
