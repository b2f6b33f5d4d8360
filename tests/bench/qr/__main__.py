"""C-FIND, C-MOVE and C-GET: Gantry, and Orthanc with SQLite and with PostgreSQL, in turns.

    .venv/bin/python tests/bench/qr --studies 20000 --clients 16 --rounds 3 --write

All hold the same and are up all the time; one is asked at a time, by the same clients: C-FIND by
threads that count the answers and decode none, retrievals by dcmtk's movescu and getscu, which
throw away what comes, or have it sent to a storescp that does. PostgreSQL is the same server for
Gantry and for Orthanc (Debian's orthanc-postgresql), with durable writes.
Each figure is the median of the rounds, each ratio the median of the rounds' ratios. `--write` puts
the tables into docs/performance.md.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

# The tables of the other benchmark.
sys.path.append(str(Path(__file__).parents[1] / "store"))

import archives
import studies
from measuring import Figures, machine, table, turns, write
from pydicom import Dataset

from gantry_testkit.peers import storescp
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_scu import count_answers, identifier

KEYS = (
    "StudyInstanceUID StudyDate StudyTime AccessionNumber PatientName PatientID PatientBirthDate"
    " PatientSex StudyDescription ModalitiesInStudy NumberOfStudyRelatedInstances"
).split()
# Of a peer that has gathered nothing yet, in seconds.
_PATIENCE = 900.0
_COMPLETED = re.compile(r"Completed Suboperations +: (\d+)")


@dataclass(frozen=True)
class Question:
    """What is asked, and how often by each client."""

    name: str
    make: Callable[[random.Random, int], dict[str, str]]
    alone: int
    together: int


def _day(chance: random.Random, total: int) -> str:
    return f"{studies.day(chance.randrange(total), total):%Y%m%d}"


QUESTIONS = [
    Question(
        "PatientID",
        lambda chance, n: {"PatientID": f"P{studies.number(chance.randrange(n))}"},
        60,
        12,
    ),
    Question(
        "AccessionNumber",
        lambda chance, n: {"AccessionNumber": f"A{studies.number(chance.randrange(n))}"},
        60,
        12,
    ),
    Question(
        "name*",
        lambda chance, _: {
            "PatientName": f"{chance.choice(studies.FAMILY)}^{chance.choice(studies.GIVEN)}*"
        },
        20,
        4,
    ),
    Question("one day", lambda chance, n: {"StudyDate": _day(chance, n)}, 20, 4),
]


class Bench:
    """What has been measured."""

    def __init__(self, *, total: int, clients: int, images: int) -> None:
        self._total, self._clients, self._images = total, clients, images
        self.finds: Figures = defaultdict(list)
        self.retrievals: Figures = defaultdict(list)

    def find(self, asked: archives.Asked, question: Question) -> None:
        """Questions per second, of one client and of all."""
        seed = len(self.finds[asked.name, f"{question.name}, 1"])
        for clients, requests in ((1, question.alone), (self._clients, question.together)):
            if clients == 1 and self._clients == 1 and requests == question.together:
                continue
            numbers = range(clients * 1000 + seed * 100, clients * 1000 + seed * 100 + clients)

            def ask(number: int, requests: int = requests) -> int:
                return self._ask(asked, question, random.Random(number), requests)

            begun = time.perf_counter()
            with ThreadPoolExecutor(clients) as threads:
                found = sum(threads.map(ask, numbers))
            rate = clients * requests / (time.perf_counter() - begun)
            assert found, f"{asked.name} finds nothing: {question.name}"
            self.finds[asked.name, f"{question.name}, {clients}"].append(rate)

    def _ask(
        self, asked: archives.Asked, question: Question, chance: random.Random, requests: int
    ) -> int:
        """How many answers came to `requests` questions, each another, on one association."""
        ds = identifier("STUDY", **dict.fromkeys(KEYS, "") | question.make(chance, self._total))
        return self._answers(asked, ds, requests)

    def everything(self, asked: archives.Asked) -> None:
        """Answers per second to the question for all."""
        ds = identifier("STUDY", **dict.fromkeys(KEYS, ""))
        begun = time.perf_counter()
        found = self._answers(asked, ds, 1)
        assert found == self._total + 1, f"{asked.name} finds {found}"
        self.finds[asked.name, "all: answers/s"].append(found / (time.perf_counter() - begun))

    def _answers(self, asked: archives.Asked, ds: Dataset, requests: int) -> int:
        address = ("127.0.0.1", asked.port)
        counted, _ = count_answers(
            address, ds, requests=requests, called=asked.ae_title, patience=_PATIENCE
        )
        assert counted[0] == requests, f"{asked.name}: {counted}"
        return counted[0xFF00]

    def retrieve(self, asked: archives.Asked) -> None:
        """Instances per second by C-MOVE and by C-GET."""
        for way, program, options in (
            ("C-MOVE", "movescu", ["-aem", "SINK"]),
            ("C-GET", "getscu", ["--ignore"]),
        ):
            keys = ["QueryRetrieveLevel=STUDY", f"StudyInstanceUID={studies.LARGE_STUDY}"]
            chosen = [part for key in keys for part in ("-k", key)]
            command = [program, "-d", "-S", "-aec", asked.ae_title, *options, *chosen]
            begun = time.perf_counter()
            done = subprocess.run(
                [*command, "127.0.0.1", str(asked.port)],
                env=os.environ | {"TCP_NODELAY": "1"},
                check=True,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=600,
            )
            rate = self._images / (time.perf_counter() - begun)
            completed = _COMPLETED.findall(done.stdout + done.stderr)
            assert completed[-1:] == [str(self._images)], f"{asked.name} {way}: {completed[-1:]}"
            self.retrievals[asked.name, way].append(rate)


def measured(folder: Path, options: argparse.Namespace) -> list[str]:
    """The lines of the page."""
    bench = Bench(total=options.studies, clients=options.clients, images=options.images)
    data = [*studies.small(options.studies), *studies.large(options.images, options.kib)]
    with ExitStack() as stack:
        sink = stack.enter_context(storescp(folder / "sink", "--ignore")).port
        server = PostgresServer(fsync=True)
        stack.callback(server.close)
        asked = [stack.enter_context(archives.gantry(folder / "gantry", server, data, sink))]
        print(f"{asked[-1].name} is filled", flush=True)
        wanted: list[PostgresServer | None] = [None]
        wanted += [server] if archives.can_use_postgresql() else []
        for number, index in enumerate(wanted):
            place = folder / f"orthanc-{number}"
            asked.append(stack.enter_context(archives.orthanc(place, data, sink, index)))
            print(f"{asked[-1].name} is filled", flush=True)
        data.clear()
        for question in QUESTIONS:
            turns(asked, options.rounds, lambda each: bench.find(each, question))  # noqa: B023
            print(*table(bench.finds, asked[-1].name), sep="\n", flush=True)
        turns(asked, options.rounds, bench.retrieve)
        print(*table(bench.retrievals, asked[-1].name), sep="\n", flush=True)
        turns(asked, options.rounds, bench.everything)
    peer = asked[-1].name
    return [
        f"{machine()}; {options.studies:,} studies; {options.rounds} rounds.",
        "",
        "C-FIND, questions per second by question and clients at once (and the ratio to",
        f"{peer}), and answers per second to one question for all studies:",
        "",
        *table(bench.finds, peer),
        "",
        f"Instances of {options.kib} KiB per second, {options.images} of one study, by and to"
        " dcmtk:",
        "",
        *table(bench.retrievals, peer),
    ]


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gantry-bench-"))
    folder.chmod(0o711)
    try:
        lines = measured(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(*lines, sep="\n")
    if options.write:
        write("tests/bench/qr", lines)


if __name__ == "__main__":
    main()
