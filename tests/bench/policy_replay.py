"""Replays rules over many studies: time, memory, and that nothing was written.

    .venv/bin/python tests/bench/policy_replay.py --studies 100000

Each study has two series of one image each and an order, every tenth of another patient.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from gantry_archive.replaying import replay
from gantry_domain.policies.accession_number import AccessionNumberFormat
from gantry_domain.policies.findings import Action
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.study_rules import ImagesPerStudy, RequiredAttributes, StudyConsistency
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.evidence import OrderFeed
from gantry_testkit.index_rows import IndexedInstance, fill, indexed
from gantry_testkit.postgres import PostgresServer

_AT_ONCE = 1000
_ROOT = "1.2.826.0.1.3680043.10.1999.77"

CHEAP = PolicySet.of(
    [
        ImagesPerStudy(1, Action.WARN),
        AccessionNumberFormat("none", None, Action.WARN, unique=True, as_ordered=True),
        PatientIdentity(Action.HOLD),
    ]
)
ALL = PolicySet.of(
    [
        *CHEAP.rules,
        StudyConsistency(Action.HOLD),
        RequiredAttributes(("StudyDate",), ("Modality",), Action.WARN),
    ]
)


def _instances(first: int) -> Iterator[IndexedInstance]:
    for number in range(first, first + _AT_ONCE):
        for series in (1, 2):
            yield indexed(
                {
                    "PatientName": f"CHAN^NUMBER {number}",
                    "PatientID": f"P{number}",
                    "PatientBirthDate": "19700102",
                    "PatientSex": "F",
                    "StudyInstanceUID": f"{_ROOT}.{number}",
                    "SeriesInstanceUID": f"{_ROOT}.{number}.{series}",
                    "SOPInstanceUID": f"{_ROOT}.{number}.{series}.1",
                    "StudyDate": "20260102",
                    "AccessionNumber": f"QMHCT26{number:08}H",
                    "Modality": "CT",
                }
            )


_PATIENTS = """
    INSERT INTO order_patient (partition, identity, patient_id, attributes, updated_at)
    SELECT 'main', jsonb_build_array('P' || n, '')::text, 'P' || n,
           jsonb_build_object(
               '00100010', jsonb_build_object('vr', 'PN', 'Value', jsonb_build_array(
                   jsonb_build_object('Alphabetic', 'CHAN^NUMBER ' || CASE n % 10 WHEN 0 THEN 0
                                                                     ELSE n END))),
               '00100030', '{"vr": "DA", "Value": ["19700102"]}'::jsonb,
               '00100040', '{"vr": "CS", "Value": ["F"]}'::jsonb), now()
    FROM generate_series(1, :studies) AS n
"""
_ORDERS = """
    INSERT INTO order_ (partition, patient_pk, study_instance_uid, procedure_told,
                        accession_number, attributes, created_at, updated_at)
    SELECT 'main', p.pk, :root || '.9.' || substr(p.patient_id, 2), true,
           'QMHCT26' || lpad(substr(p.patient_id, 2), 8, '0') || 'H', '{}', now(), now()
    FROM order_patient p
"""


def main() -> None:
    """Fill an index, replay twice, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    studies = parser.parse_args().studies
    server = PostgresServer()
    try:
        url = server.create_database("replay")
        migrations.upgrade(url)
        engine = make_engine(url, statement_timeout=timedelta(minutes=10))
        began = time.monotonic()
        for first in range(1, studies + 1, _AT_ONCE):
            fill(engine, _instances(first))
        with transaction(engine) as connection:
            connection.execute(sa.text(_PATIENTS), {"studies": studies})
            connection.execute(sa.text(_ORDERS), {"root": _ROOT})
        with transaction(engine) as connection:
            for table in ("study", "series", "instance", "header", "order_", "order_patient"):
                connection.execute(sa.text(f"ANALYZE {table}"))
            before = _written(connection)
        print(f"{studies} studies filled in {time.monotonic() - began:.0f} s")
        feed = OrderFeed("main", timedelta(days=1))
        for name, policies in (("three rules", CHEAP), ("all rules", ALL)):
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            done = replay(engine, policies, since=datetime(2020, 1, 1, tzinfo=UTC), feed=feed)
            seconds = time.monotonic() - began
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
            print(
                f"{name}: {done.studies} studies in {seconds:.1f} s,"
                f" {done.studies / seconds:.0f}/s, resident {resident / 1024:.0f} MiB"
                f" and {grown / 1024:.0f} MiB more"
            )
            print(f"  {dict(done.verdicts)}")
            print(f"  {dict(done.faults)}")
        with transaction(engine) as connection:
            print(f"written meanwhile: {'nothing' if _written(connection) == before else 'much'}")
        engine.dispose()
    finally:
        server.close()


def _written(connection: sa.Connection) -> list[object]:
    return [
        connection.execute(sa.text(f"SELECT count(*), max(xmin::text::bigint) FROM {table}")).one()
        for table in ("study", "study_finding", "decision", "evidence_change", "event_note")
    ]


if __name__ == "__main__":
    main()
