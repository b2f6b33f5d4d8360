"""Polls of other systems' worklists: whose turn it is, when one succeeded, and what it told."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from gantry_domain.orders.changes import OrderNumbers, PatientKey
from gantry_stores.index.order_tables import polled_order, worklist_poll
from gantry_stores.index.orders.messages import last_message_at


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOrder:
    """An order as a source told of it last; `missed`: how many answers in a row lacked it."""

    name: str
    digest: bytes
    key: PatientKey
    numbers: OrderNumbers
    last_day: str
    missed: int = 0


def claim_poll(connection: Connection, source: str, *, now: datetime, lease: timedelta) -> bool:
    """Whether it is due, and nobody else polls this source during the lease."""
    columns = worklist_poll.c
    connection.execute(
        insert(worklist_poll).values(source=source, due_at=now).on_conflict_do_nothing()
    )
    claimed = connection.scalar(
        sa.update(worklist_poll)
        .where(columns.source == source, columns.due_at <= now)
        .values(due_at=now + lease)
        .returning(columns.source)
    )
    return claimed is not None


def poll_ended(
    connection: Connection, source: str, *, now: datetime, due_at: datetime, failure: str | None
) -> None:
    """Note how a poll ended, and when the next is due."""
    values: dict[str, Any] = {"due_at": due_at, "failure": failure}
    if failure is None:
        values["polled_at"] = now
    connection.execute(
        sa.update(worklist_poll).where(worklist_poll.c.source == source).values(**values)
    )


def last_poll_at(connection: Connection) -> datetime | None:
    """When a poll last succeeded."""
    last: datetime | None = connection.scalar(sa.select(sa.func.max(worklist_poll.c.polled_at)))
    return last


def last_heard_at(connection: Connection) -> datetime | None:
    """When orders last came in, or could have: the last message, or the last poll."""
    heard = [last_message_at(connection), last_poll_at(connection)]
    return max((each for each in heard if each is not None), default=None)


def known_orders(connection: Connection, source: str) -> dict[str, KnownOrder]:
    """What a source told of, by name."""
    rows = connection.execute(sa.select(polled_order).where(polled_order.c.source == source))
    return {
        row.name: KnownOrder(
            name=row.name,
            digest=row.digest,
            key=PatientKey(row.numbers["patient"], row.numbers["issuer"]),
            numbers=OrderNumbers(
                row.numbers["accession"],
                row.numbers["placer"],
                row.numbers["filler"],
                row.numbers["procedure"],
            ),
            last_day=row.last_day,
            missed=row.missed,
        )
        for row in rows
    }


def remember_order(connection: Connection, source: str, order: KnownOrder) -> None:
    """Note what a source tells of an order now, or that it does not."""
    numbers = {
        "patient": order.key.PatientID,
        "issuer": order.key.issuer,
        "accession": order.numbers.accession,
        "placer": order.numbers.placer,
        "filler": order.numbers.filler,
        "procedure": order.numbers.procedure,
    }
    values = {
        "digest": order.digest,
        "numbers": numbers,
        "last_day": order.last_day,
        "missed": order.missed,
    }
    connection.execute(
        insert(polled_order)
        .values(source=source, name=order.name, **values)
        .on_conflict_do_update(index_elements=["source", "name"], set_=values)
    )


def forget_orders(connection: Connection, source: str, names: Iterable[str]) -> None:
    """They are over, or too long ago."""
    connection.execute(
        sa.delete(polled_order).where(
            polled_order.c.source == source, polled_order.c.name.in_(list(names))
        )
    )
