"""Processor time for an image, by kind of process: of `gantry up`, or of several trees in turns.

    .venv/bin/python tests/bench/store/processor.py [--rounds 4] [TREE ...]

Milliseconds of user and system time, medians of the rounds. They grow on a machine that is busy, so
two trees (clones with a `.venv` of their own) are compared within one run alone.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import data
import servers
from measuring import ROOT, machine, turns

IMAGES = 600
KINDS = {
    "receivers": "gantry_ingress.receiver",
    "index workers": "gantry_worker.pool index",
    "PostgreSQL": "postgres",
}
_TICKS = os.sysconf("SC_CLK_TCK")

Row = tuple[str, str, str]
"""Tree, kind of process, what was sent."""


def processes() -> Iterator[tuple[int, int, str, float]]:
    """Number, parent, command line and seconds of processor of each that runs."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        yield (
            int(folder.name),
            int(fields[1]),
            command,
            (int(fields[11]) + int(fields[12])) / _TICKS,
        )


def used(root: int) -> dict[str, float]:
    """Seconds of processor by kind, of the process `root` and all below it."""
    everyone = list(processes())
    family = {root}
    while more := {pid for pid, parent, *_ in everyone if parent in family} - family:
        family |= more
    return {
        kind: sum(
            seconds for pid, _, command, seconds in everyone if pid in family and sign in command
        )
        for kind, sign in KINDS.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("trees", nargs="*", type=Path, default=[ROOT])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gantry-bench-"))
    folder.chmod(0o711)
    found: dict[Row, list[float]] = defaultdict(list)
    studies = iter(range(int(time.time()) % 9_000_000, 10**7))
    sender, _ = servers.compile_aids(folder)
    sent = [(size, number) for size in data.SIZES for number in (1, 4)]
    try:
        with ExitStack() as stack:
            running = [
                stack.enter_context(servers.gantry(folder / str(number), tree=tree))
                for number, tree in enumerate(options.trees)
            ]

            def measure(server: servers.Server) -> None:
                tree = options.trees[running.index(server)].name
                for size, number in sent:
                    sample = data.sample(data.SIZES[size], next(studies))
                    (folder / "data").write_bytes(sample.encoded)
                    command: list[object] = [
                        sender,
                        server.port,
                        server.ae_title,
                        number,
                        IMAGES // number,
                    ]
                    command += [folder / "data", data.CT_IMAGE, "1.2.840.10008.1.2.1"]
                    command += [sample.offset, sample.length, 0]
                    before = used(server.process)
                    subprocess.run([str(part) for part in command], check=True, capture_output=True)
                    while server.found(sample.study_instance_uid) < IMAGES:
                        time.sleep(0.1)
                    after = used(server.process)
                    for kind in KINDS:
                        cost = (after[kind] - before[kind]) / IMAGES * 1000
                        found[tree, kind, f"{size}, {number}"].append(cost)

            turns(running, options.rounds, measure)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{machine()}; {options.rounds} rounds.")
    for (tree, kind, what), costs in found.items():
        print(f"{tree:20} {kind:15} {what:12} {statistics.median(costs):6.2f} ms")


if __name__ == "__main__":
    main()
