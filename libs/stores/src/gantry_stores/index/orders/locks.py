"""What a message is about, locked in one order before anything is read: so nothing deadlocks."""

import hashlib
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from gantry_domain.orders.changes import (
    Change,
    ChangeState,
    ChangeVisit,
    MergePatients,
    OrderNumbers,
    PlaceOrder,
    RegisterPatient,
)
from gantry_stores.index.orders.patients import patient_locks


def lock_all_of(connection: Connection, changes: Iterable[Change], partition: str) -> None:
    """Hold all patients and order numbers of these changes for the rest of the transaction."""
    wanted: set[tuple[str, str]] = set()
    for change in changes:
        match change:
            case RegisterPatient(patient):
                wanted |= patient_locks([patient.key])
            case MergePatients(survivor, old):
                wanted |= patient_locks([survivor.key, old])
            case ChangeVisit(key):
                wanted |= patient_locks([key])
            case PlaceOrder(patient, numbers):
                wanted |= patient_locks([patient.key]) | _number_locks(numbers)
            case ChangeState(maybe_key, numbers):
                wanted |= _number_locks(numbers)
                wanted |= set() if maybe_key is None else patient_locks([maybe_key])
    keys = sorted(_lock_number(partition, *each) for each in wanted)
    connection.execute(
        sa.text("SELECT pg_advisory_xact_lock(k) FROM unnest(:keys) AS k").bindparams(
            sa.bindparam("keys", keys, type_=ARRAY(sa.BigInteger))
        )
    )


def _number_locks(numbers: OrderNumbers) -> set[tuple[str, str]]:
    named = {"accession": numbers.accession, "placer": numbers.placer, "filler": numbers.filler}
    return {(kind, value) for kind, value in named.items() if value}


def _lock_number(*parts: str) -> int:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
