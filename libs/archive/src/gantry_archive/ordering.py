"""Orders that come as records, from a file, over HTTP or from another system's worklist."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.engine import Engine

from gantry_domain.errors import PermanentError
from gantry_domain.orders.records import order_of
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.applying import apply_changes


def take_record(
    engine: Engine, record: Mapping[str, str], *, partition: str, now: datetime
) -> str | None:
    """Make or change the order of a record, in a transaction of its own; why not, where it is not.

    The reason names an attribute, and never its value. `now` is aware, in the zone of the
    department. Raises `IndexUnavailable`.
    """
    try:
        change = order_of(record)
        with transaction(engine) as connection:
            apply_changes(connection, [change], partition=partition, now=now)
    except PermanentError as error:
        return str(error)
    return None
