"""What corrections cost: a study retrieved as it was sent, corrected, and moved, in turn.

    .venv/bin/python tests/bench/correction_cost.py --images 1000

Over WADO-RS and by C-MOVE to a storescp that drops what it gets, by the query service as it runs.
The same pixels in each study; of one all text becomes UTF-8, for its character set has no place for
the new name. Also how long the decisions take.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from pynetdicom import build_context
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.decisions import DecisionKind
from gantry_domain.information_models import STUDY_ROOT_MOVE
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.objects import DirectoryStore
from gantry_testkit.peers import storescp
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.query_process import QueryService
from gantry_testkit.query_scu import Retrieved, associated, identifier
from gantry_testkit.stored import NO_POLICIES, image, new_uid, receipts, stage
from gantry_testkit.waiting import until

PLAIN, CORRECTED, CONVERTED, MOVED = "as sent", "corrected", "corrected, all text anew", "moved"
_NAME = {"PatientID": "A1234563", "PatientName": "CHAN^TAI MAN=陳^大文"}
_AT_ONCE = 200


class Archive:
    """Studies of as many images each, one of each kind."""

    def __init__(self, engine: Engine, store: DirectoryStore, *, images: int, size: int) -> None:
        self.engine, self.store, self.images, self.size = engine, store, images, size
        self.decider = Decider(store=store, engine=engine, policies=NO_POLICIES, feed=None)

    def study(self, charset: str = "ISO_IR 192") -> tuple[str, str]:
        """The UIDs of a new study and its series."""
        study, series = new_uid(), new_uid()
        for first in range(0, self.images, _AT_ONCE):
            sent = [
                stage(
                    self.store,
                    image(
                        StudyInstanceUID=study,
                        SeriesInstanceUID=series,
                        InstanceNumber=str(number),
                        SpecificCharacterSet=charset,
                        StudyDescription="Schädel" if charset == "ISO_IR 100" else "HEAD",
                        PatientName="CHAN^MAN",
                        Rows=256,
                        Columns=self.size // 512,
                        PixelData=bytes(self.size),
                    ),
                )
                for number in range(first, min(first + _AT_ONCE, self.images))
            ]
            index_batch(receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, NO_POLICIES)
        return study, series

    def find(self, study: str) -> JudgedStudy:
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study)
        return found

    def correct(self, study: str) -> float:
        """Seconds."""
        started = time.monotonic()
        self.decider.decide(
            self.find(study), DecisionKind.CORRECT, corrected=_NAME, by="a", reason="b"
        )
        return time.monotonic() - started

    def move(self, study: str, series: str, to: str) -> float:
        """Seconds."""
        started = time.monotonic()
        self.decider.move(self.find(study), series=[series], to=to, new=False, by="a", reason="b")
        return time.monotonic() - started


@contextmanager
def served(
    folder: Path, sink: int, images: int, size: int
) -> Iterator[tuple[QueryService, Archive]]:
    server = PostgresServer()
    url = server.create_database("gantry")
    migrations.upgrade(url)
    partner = f'partners: [{{ae_title: SINK, address: "127.0.0.1:{sink}"}}]\n'
    service = QueryService(folder, url, partner)
    engine = make_engine(url)
    try:
        service.start()
        until(service.ready, "the query service is ready")
        yield service, Archive(engine, DirectoryStore(service.objects), images=images, size=size)
    finally:
        service.kill()
        engine.dispose()
        server.close()


def over_the_web(service: QueryService, study: str) -> float:
    started = time.monotonic()
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    with httpx.stream(
        "GET", f"{service.web}/studies/{study}", headers=accept, timeout=600
    ) as answer:
        assert answer.status_code == 200
        for _ in answer.iter_raw():
            pass
    return time.monotonic() - started


def by_move(service: QueryService, study: str) -> float:
    started = time.monotonic()
    with associated(service.address, contexts=[build_context(STUDY_ROOT_MOVE)]) as assoc:
        whole = identifier("STUDY", StudyInstanceUID=study)
        answers = Retrieved(list(assoc.send_c_move(whole, "SINK", STUDY_ROOT_MOVE)))
    assert answers.status == 0
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128 * 1024)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gantry-bench-") as folder,
        storescp(Path(folder) / "sink", "--ignore") as sink,
        served(Path(folder), sink.port, asked.images, asked.size) as (service, archive),
    ):
        studies = {PLAIN: archive.study()[0], CORRECTED: archive.study()[0]}
        studies[CONVERTED] = archive.study("ISO_IR 100")[0]
        seconds = {each: archive.correct(studies[each]) for each in (CORRECTED, CONVERTED)}
        first, series = archive.study()
        small = Archive(archive.engine, archive.store, images=1, size=asked.size)
        studies[MOVED] = small.study()[0]
        seconds[MOVED] = archive.move(first, series, studies[MOVED])
        took: dict[str, dict[str, list[float]]] = {
            each: {"web": [], "move": []} for each in studies
        }
        ways: dict[str, Callable[[QueryService, str], float]] = {
            "web": over_the_web,
            "move": by_move,
        }
        for number in range(asked.rounds + 1):  # the first warms up
            for kind, study in studies.items():
                for way, retrieve in ways.items():
                    spent = retrieve(service, study)
                    if number:
                        took[kind][way].append(spent)
    print("| study | decided in, s | WADO-RS, images/s | C-MOVE, images/s |")
    print("|---|---|---|---|")
    plain = {way: statistics.median(took[PLAIN][way]) for way in ways}
    for kind in studies:
        cells = []
        for way in ways:
            median = statistics.median(took[kind][way])
            cells.append(f"{asked.images / median:.0f} ({plain[way] / median:.2f})")
        decided = f"{seconds[kind]:.1f}" if kind in seconds else ""
        print(f"| {kind} | {decided} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
