"""Instances stored per second: Gantry, Orthanc, storescp and what this disk allows, in turns.

    .venv/bin/python tests/bench/store --rounds 3 --write
    .venv/bin/python tests/bench/store --s3 --write
    .venv/bin/python tests/bench/store --idle --write

Every server is up all the time and one is measured at a time, the next when all that was sent can
be found. Each figure is the median of the rounds, each ratio the median of the rounds' ratios.
`--write` puts the tables into docs/performance.md.
"""

import argparse
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import bucket
import data
import idle
import servers
from measuring import PEER, Bench, machine, table, turns, write


def on_disk(folder: Path, rounds: int, associations: list[int]) -> list[str]:
    """Gantry and the others, each with its files on this disk."""
    with ExitStack() as stack:
        sender, sink = servers.compile_aids(folder)
        bench = Bench(folder, sender)
        all_servers = [
            stack.enter_context(servers.gantry(folder / "gantry")),
            stack.enter_context(servers.orthanc(folder / "orthanc", nodelay=True)),
            stack.enter_context(servers.orthanc(folder / "shipped", nodelay=False)),
            stack.enter_context(servers.storescp(folder / "storescp")),
            stack.enter_context(servers.sink(sink, folder / "bare")),
            stack.enter_context(servers.sink(sink, folder / "nothing", discards=True)),
        ]
        for size in data.SIZES:
            for number in associations:
                turns(all_servers, rounds, lambda s: bench.measure(s, size, number))  # noqa: B023
                print(*table(bench.stored, PEER), sep="\n", flush=True)
        turns(all_servers, rounds, bench.measure_storescu)
    return [
        f"{machine()}; {rounds} rounds.",
        "",
        "Stored, instances per second by size and associations (and the ratio to Orthanc with",
        "Nagle off); the last column is one association of `storescu` as installed, 512 KiB:",
        "",
        *table(bench.stored, PEER),
        "",
        "From the first byte sent until a search finds the last instance:",
        "",
        *table(bench.found, PEER),
    ]


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4, 8])
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--s3", action="store_true", help="with the images on an S3 server")
    other.add_argument("--idle", action="store_true", help="beside associations that do nothing")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gantry-bench-"))
    folder.chmod(0o711)
    try:
        if options.idle:
            lines = idle.measured(folder, options.rounds)
        elif options.s3:
            lines = bucket.measured(folder, options.rounds, options.associations)
        else:
            lines = on_disk(folder, options.rounds, options.associations)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(*lines, sep="\n")
    if options.write:
        mark = " --s3" if options.s3 else " --idle" if options.idle else ""
        write(f"tests/bench/store{mark}", lines)


if __name__ == "__main__":
    main()
