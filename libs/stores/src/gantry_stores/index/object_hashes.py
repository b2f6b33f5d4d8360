"""The hashes of stored objects as the index has them, in the order of their identifiers."""

from collections.abc import Mapping
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_FIRST = UUID(int=0)
_LAST = UUID(int=2**128 - 1)


def hashes_between(
    connection: Connection, *, after: UUID | None, until: UUID | None, limit: int
) -> Mapping[UUID, bytes | None]:
    """The SHA-256 of each data set from `after` (left out) to `until`, at most `limit` of them."""
    rows = connection.execute(
        sa.text(
            "SELECT id, sha256 FROM object WHERE id > :after AND id <= :until"
            " ORDER BY id LIMIT :limit"
        ),
        {"after": after or _FIRST, "until": until or _LAST, "limit": limit},
    )
    return {row.id: None if row.sha256 is None else bytes(row.sha256) for row in rows}


def is_named(connection: Connection, object_id: UUID) -> bool:
    """Whether the index has this object. What is deleted may be purged at any moment."""
    found = connection.execute(
        sa.text("SELECT 1 FROM object WHERE id = :id AND state <> 'deleted'"), {"id": object_id}
    ).first()
    return found is not None
