"""Messages that were received: which came before, what became of each; purged after a while."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from gantry_stores.index.order_tables import hl7_message

_LONGEST = 200
_PURGED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message as it came, and what it calls itself (MSH-3, MSH-4, MSH-10)."""

    content: bytes
    received_at: datetime
    partition: str
    host: str
    sending_application: str = ""
    sending_facility: str = ""
    control_id: str = ""
    kind: str = ""


def note_accepted(
    connection: Connection, message: ReceivedMessage, findings: tuple[str, ...] = ()
) -> bool:
    """Note a message before its changes are made, in their transaction; False: it came before.

    Two of the same wait here for each other.
    """
    statement = (
        insert(hl7_message)
        .values(_values(message) | {"ack": "AA", "findings": list(findings)})
        .on_conflict_do_nothing(
            index_elements=["sending_application", "sending_facility", "control_id", "sha256"],
            index_where=sa.text("ack = 'AA'"),
        )
        .returning(hl7_message.c.pk)
    )
    return connection.scalar(statement) is not None


def note_refused(connection: Connection, message: ReceivedMessage, ack: str, reason: str) -> None:
    """Note a message that changes nothing."""
    connection.execute(
        sa.insert(hl7_message).values(_values(message) | {"ack": ack, "reason": reason})
    )


def _values(message: ReceivedMessage) -> dict[str, object]:
    return {
        "received_at": message.received_at,
        "partition": message.partition,
        "host": message.host,
        "sending_application": _short(message.sending_application),
        "sending_facility": _short(message.sending_facility),
        "control_id": _short(message.control_id),
        "kind": _short(message.kind),
        "sha256": hashlib.sha256(message.content).digest(),
        "content": message.content,
    }


def _short(text: str) -> str:
    return text.replace("\0", "")[:_LONGEST]


def last_message_at(connection: Connection) -> datetime | None:
    """When the last message came that is still kept."""
    last: datetime | None = connection.scalar(sa.select(sa.func.max(hl7_message.c.received_at)))
    return last


def purge_messages(connection: Connection, before: datetime) -> int:
    """Remove some of the messages that came before; how many."""
    oldest = (
        sa.select(hl7_message.c.pk)
        .where(hl7_message.c.received_at < before)
        .order_by(hl7_message.c.received_at)
        .limit(_PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(sa.delete(hl7_message).where(hl7_message.c.pk.in_(oldest))).rowcount
