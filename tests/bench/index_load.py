"""Indexes generated headers by several processes at once: rate, retries, memory.

    .venv/bin/python tests/bench/index_load.py --instances 200000 --workers 3

Many studies grow at the same time and every batch holds images of several, so that the workers meet
at the same studies and patients. The store generates what is read; PostgreSQL is real, with fsync.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from pydicom import Dataset
from pydicom.datadict import DicomDictionary

from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.keys import first_object_id, parse_object_key
from gantry_domain.receipts import Receipt
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.objects import ObjectStat, ObjectWriter
from gantry_testkit.postgres import PostgresServer
from gantry_testkit.stored import CT_IMAGE, NO_POLICIES, encoded, image

BATCH = 100
IMAGES_PER_SERIES = 100
SERIES_PER_STUDY = 4
STUDIES_PER_PATIENT = 3
BUSY_STUDIES = 20
FIRST = first_object_id(datetime(2026, 1, 1, tzinfo=UTC))
ROOT = "1.2.826.0.1.3680043.10.1999.3"


class GeneratedStore:
    """A store in which object number n is image n; nothing of it is ever written."""

    def __init__(self) -> None:
        meta = FileMeta(CT_IMAGE, "", "1.2.840.10008.1.2.1", "CT01", "GANTRY", "main")
        self._head = encode_file_meta(meta)
        self._dataset = encoded(_template())
        self.size = len(self._head) + len(self._dataset)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """The image of a key, made on the spot."""
        number = parse_object_key(key).int - FIRST.int
        study, series, instance = _place(number)
        patient = study // STUDIES_PER_PATIENT
        dataset = (
            self._dataset.replace(_uid("1", 0), _uid("1", study))
            .replace(_uid("2", 0), _uid("2", study * SERIES_PER_STUDY + series))
            .replace(_uid("3", 0), _uid("3", number))
            .replace(b"PATIENT000000", b"PATIENT%06d" % patient)
            .replace(b"INSTANCE0000", b"INSTANCE%04d" % instance)
        )
        whole = self._head + dataset
        return whole[offset : None if length is None else offset + length]

    def chunks(
        self, key: str, offset: int = 0, length: int | None = None, chunk_size: int = 2**20
    ) -> Iterator[bytes]:
        """The same as one chunk."""
        yield self.read(key, offset, length)

    def stat(self, key: str) -> ObjectStat:
        """All have one size."""
        return ObjectStat(key, self.size, datetime.now(UTC))

    def create(self, key: str) -> ObjectWriter:
        """Never called."""
        raise NotImplementedError

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectStat]:
        """Never called."""
        raise NotImplementedError

    def delete(self, key: str) -> None:
        """Never called."""
        raise NotImplementedError

    def probe(self) -> None:
        """Always there."""


def _template() -> Dataset:
    ds = image(
        StudyInstanceUID=_uid("1", 0).decode(),
        SeriesInstanceUID=_uid("2", 0).decode(),
        SOPInstanceUID=_uid("3", 0).decode(),
        PatientID="PATIENT000000",
        PatientName="Chan^Tai Man^PATIENT000000=陳^大文",
        ImageComments="INSTANCE0000",
        PixelData=np.zeros(256, "<u2").tobytes(),
    )
    # As many elements as a real CT image has.
    for tag, (vr, vm, *_names) in sorted(DicomDictionary.items()):
        if len(ds) >= 130:
            break
        if vr in ("LO", "SH") and vm == "1" and tag >> 16 in (0x0018, 0x0040) and tag not in ds:
            ds.add_new(tag, vr, "some text")
    return ds


def _uid(kind: str, number: int) -> bytes:
    return f"{ROOT}.{kind}.{10**9 + number}".encode()


def _place(number: int) -> tuple[int, int, int]:
    """Study, series and image of object `number`: groups of busy studies grow side by side."""
    per_study = IMAGES_PER_SERIES * SERIES_PER_STUDY
    group, within = divmod(number, BUSY_STUDIES * per_study)
    position, study = divmod(within, BUSY_STUDIES)
    series, instance = divmod(position, IMAGES_PER_SERIES)
    return group * BUSY_STUDIES + study, series, instance


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker tells at its end; memory in MiB."""

    indexed: int
    retries: int
    memory_early: float
    memory_late: float


def _memory() -> float:
    with open(f"/proc/{os.getpid()}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _work(
    url: str,
    batches: Sequence[int],
    instances: int,
    answers: "multiprocessing.Queue[Told]",
) -> None:
    engine = make_engine(url, pool_size=2)
    store = GeneratedStore()
    indexed = retries = 0
    early = 0.0
    for done, batch in enumerate(batches):
        receipts = [
            Receipt(UUID(int=FIRST.int + number), store.size, number.to_bytes(32))
            for number in range(batch * BATCH, min(instances, (batch + 1) * BATCH))
        ]
        result = index_batch(receipts, store=store, engine=engine, rules=ReadingRules())
        judge_studies(engine, NO_POLICIES, result.study_pks)
        indexed += len(result.outcomes)
        retries += result.retries
        if done == len(batches) // 10:
            early = _memory()
    engine.dispose()
    answers.put(Told(indexed, retries, early, _memory()))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=3)
    options = parser.parse_args()
    server = PostgresServer(fsync=True)
    try:
        url = server.create_database("load")
        migrations.upgrade(url)
        batches = -(-options.instances // BATCH)
        context = multiprocessing.get_context("spawn")
        answers: multiprocessing.Queue[Told] = context.Queue()
        processes = [
            context.Process(
                target=_work,
                args=(url, range(first, batches, options.workers), options.instances, answers),
            )
            for first in range(options.workers)
        ]
        began = time.monotonic()
        for process in processes:
            process.start()
        told = [answers.get() for _ in processes]
        for process in processes:
            process.join()
        seconds = time.monotonic() - began
        indexed = sum(each.indexed for each in told)
        print(f"{indexed} instances in {seconds:.1f} s: {indexed / seconds:.0f}/s")
        print(f"{options.workers} processes, {indexed / seconds / options.workers:.0f}/s each")
        print(f"transactions run again after a deadlock: {sum(each.retries for each in told)}")
        for each in told:
            print(f"memory {each.memory_early:.0f} MiB early, {each.memory_late:.0f} MiB late")
        engine = make_engine(url)
        with transaction(engine) as connection:
            for table in ("object", "instance", "series", "study", "patient", "header"):
                rows = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
                size = connection.scalar(sa.text(f"SELECT pg_total_relation_size('{table}')"))
                print(f"{table}: {rows} rows, {(size or 0) / 2**20:.0f} MiB")
            wrong = connection.scalar(
                sa.text(
                    "SELECT count(*) FROM study t WHERE NOT visible OR"
                    " number_of_study_related_instances <> (SELECT count(*) FROM instance i"
                    " JOIN series e ON e.pk = i.series_pk WHERE e.study_pk = t.pk)"
                )
            )
            print(f"studies with a wrong count or not visible: {wrong}")
        engine.dispose()
    finally:
        server.close()


if __name__ == "__main__":
    main()
