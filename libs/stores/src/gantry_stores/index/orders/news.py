"""What happens to orders, for the feed of events: by the study that an order is for."""

from collections.abc import Iterable

from sqlalchemy.engine import Connection

from gantry_domain.events import EventKind, Happening
from gantry_stores.index.events import note


def tell(connection: Connection, kind: EventKind, partition: str, uids: Iterable[str]) -> None:
    """Note it of each study; it is told if the transaction is committed."""
    note(
        connection,
        [
            Happening(kind=kind, partition=partition, StudyInstanceUID=uid)
            for uid in dict.fromkeys(uids)
        ],
    )
