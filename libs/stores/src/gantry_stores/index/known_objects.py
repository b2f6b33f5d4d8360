"""Which data sets the index has already, byte for byte: for imports that are begun again."""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_KNOWN = """
    SELECT DISTINCT w.uid, w.hash
    FROM unnest(CAST(:uids AS text[]), CAST(:hashes AS bytea[])) AS w(uid, hash)
    JOIN object o ON o.partition = :partition AND o.sop_instance_uid = w.uid AND o.sha256 = w.hash
    WHERE o.state IN ('primary', 'duplicate', 'conflict')
"""


def known_data_sets(
    connection: Connection, wanted: Iterable[tuple[str, bytes]], *, partition: str
) -> set[tuple[str, bytes]]:
    """Those of these data sets, by SOP Instance UID and SHA-256, that are in the archive."""
    pairs = list(wanted)
    rows = connection.execute(
        sa.text(_KNOWN),
        {
            "partition": partition,
            "uids": [uid for uid, _ in pairs],
            "hashes": [digest for _, digest in pairs],
        },
    )
    return {(row.uid, bytes(row.hash)) for row in rows}
