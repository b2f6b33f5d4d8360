"""Locks studies by their rows, in the order in which indexing locks them."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def lock_in_order(connection: Connection, pks: Sequence[int]) -> None:
    """Hold the studies for the rest of the transaction; one that is gone is left out."""
    connection.execute(
        sa.text(
            "SELECT pk FROM study WHERE pk = ANY(:pks)"
            " ORDER BY partition, study_instance_uid FOR UPDATE"
        ),
        {"pks": list(pks)},
    )
