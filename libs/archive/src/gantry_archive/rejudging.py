"""Judges anew what an order, a decision, or a feed that died has changed."""

import time

from sqlalchemy.engine import Engine

from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.index.evidence_changes import recall_without_orders, take_changes

_AT_ONCE = 100
_STUDIES_AT_ONCE = 5000


def order_feed(settings: Settings) -> OrderFeed:
    """Where orders come in by HL7."""
    return OrderFeed(settings.hl7.partition, settings.hl7.alive_for)


def recall_changed(engine: Engine, *, feed: OrderFeed | None, seconds: float = 5.0) -> None:
    """Have the studies judged anew that changes concern, for about so many seconds.

    While no orders come in, nobody is held for having none. Raises `IndexUnavailable`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with transaction(engine) as connection:
            if take_changes(connection, limit=_AT_ONCE) < _AT_ONCE:
                break
    with transaction(engine) as connection:
        if feed is None or not feed.alive(connection):
            recall_without_orders(connection, limit=_STUDIES_AT_ONCE)
