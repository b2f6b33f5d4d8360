"""Looks into the index and the object store of a run, past every service."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from blackbox.dicomweb import dataset_of
from blackbox.run import Gantry

# What a row holds besides what was read of the objects: when, and in which order, it was written.
_SURROGATE = (
    "'{pk,patient_pk,study_pk,series_pk,revision,judged_revision,evidence_revision,"
    "routed_revision,completed_revision,completed_at,closed_at,indexed_at,"
    "first_received_at,last_received_at}'::text[]"
)

_TABLES = {
    "object": f"SELECT to_jsonb(o) - {_SURROGATE} FROM object o",
    "patient": f"SELECT to_jsonb(p) - {_SURROGATE} FROM patient p",
    "study": f"""SELECT to_jsonb(s) - {_SURROGATE} || jsonb_build_object('patient', p.identity)
        FROM study s JOIN patient p ON p.pk = s.patient_pk""",
    "series": f"""SELECT to_jsonb(e) - {_SURROGATE} || jsonb_build_object(
            'study', s.study_instance_uid, 'partition', s.partition)
        FROM series e JOIN study s ON s.pk = e.study_pk""",
    "instance": f"""SELECT to_jsonb(i) - {_SURROGATE} || jsonb_build_object(
            'series', e.series_instance_uid, 'study', s.study_instance_uid)
        FROM instance i JOIN series e ON e.pk = i.series_pk JOIN study s ON s.pk = e.study_pk""",
    # A table of fragments may still be due.
    "header": """SELECT CASE WHEN starts_with(encode(frames, 'escape'), 'N') THEN to_jsonb(h)
        ELSE to_jsonb(h) - 'frames' END FROM header h""",
    "study_finding": f"""SELECT to_jsonb(f) - {_SURROGATE} || jsonb_build_object(
            'study', s.study_instance_uid, 'partition', s.partition)
        FROM study_finding f JOIN study s ON s.pk = f.study_pk""",
    "finding": f"SELECT to_jsonb(f) - {_SURROGATE} FROM finding f",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one object."""

    id: UUID
    state: str
    reason: str | None
    sha256: bytes | None
    transfer_syntax_uid: str | None


class Index:
    """The database and the store of a run."""

    def __init__(self, run: Gantry, database: str = "gantry") -> None:
        self.run = run
        self.database = database

    @property
    def password(self) -> str:
        """Of the embedded database."""
        return (self.run.data / "secrets" / "database").read_text().strip()

    @property
    def sockets(self) -> Path:
        """The folder of its socket."""
        return self.run.data / "run" / "p"

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection of our own."""
        with psycopg.connect(
            host=str(self.sockets),
            user="gantry",
            dbname=self.database,
            password=self.password,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            yield connection

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer to a question."""
        with self.connection() as connection:
            return connection.execute(sql, values).fetchall()

    def snapshot(self) -> dict[str, list[str]]:
        """Every row of every table as text, without surrogates and moments, in order."""
        with self.connection() as connection:
            return {
                table: sorted(
                    row[0] for row in connection.execute(f"SELECT q::text FROM ({sql}) q(q)")
                )
                for table, sql in _TABLES.items()
            }

    def objects_of(self, SOPInstanceUID: str, partition: str = "main") -> list[Row]:
        """What became of every object of one SOP Instance UID, oldest first."""
        found = self.rows(
            """SELECT id, state, reason, sha256, transfer_syntax_uid FROM object
               WHERE partition = %s AND sop_instance_uid = %s ORDER BY id""",
            partition,
            SOPInstanceUID,
        )
        return [Row(*row) for row in found]

    def object_ids(self) -> set[UUID]:
        """The identifiers of all object rows."""
        return {row[0] for row in self.rows("SELECT id FROM object")}

    def stored_keys(self) -> dict[UUID, str]:
        """The keys of the store by identifier."""
        return self.run.store.keys()

    def stored_dataset(self, object_id: UUID) -> bytes:
        """The data set that the store holds, as it was sent."""
        return dataset_of(self.run.store.content(self.stored_keys()[object_id]))

    def settled(self) -> bool:
        """Whether every stored key has its row, every row its key, and every study a verdict."""
        keys = set(self.stored_keys())
        waiting = "judged_revision IS NULL OR judged_revision < revision"
        try:
            if keys != self.object_ids() or keys != set(self.stored_keys()):
                return False
            return self.rows(f"SELECT count(*) FROM study WHERE {waiting}") == [(0,)]
        except psycopg.OperationalError:  # it is just coming back
            return False
