"""What the quota of a sender knows of the index, and tells it."""

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.keys import first_object_id
from gantry_stores.queue.sender_counts import Brought

# By the identifiers, which are in the order of reception: the objects of one day.
_BROUGHT = """
    SELECT count(*) AS instances, coalesce(sum(size), 0) AS bytes,
           coalesce(array_agg(DISTINCT study_instance_uid)
                    FILTER (WHERE study_instance_uid IS NOT NULL), '{}') AS studies
    FROM object WHERE id >= :first AND partition = :partition AND calling_ae = :calling_ae
"""


def brought_since(
    connection: Connection, since: datetime, *, partition: str, calling_ae: str
) -> Brought:
    """What a sender brought from a moment (aware) on."""
    row = connection.execute(
        sa.text(_BROUGHT),
        {"first": first_object_id(since), "partition": partition, "calling_ae": calling_ae},
    ).one()
    return Brought(row.instances, int(row.bytes), tuple(row.studies))


def note_over_quota(
    connection: Connection, *, partition: str, StudyInstanceUID: str, amounts: Iterable[str]
) -> None:
    """The sender of a study brought too much of these amounts: it is to be judged anew."""
    named = {"partition": partition, "uid": StudyInstanceUID}
    written = connection.execute(
        sa.text(
            "INSERT INTO quota_excess (partition, study_instance_uid, amount, noted_at)"
            " SELECT :partition, :uid, amount, now() FROM unnest(CAST(:amounts AS text[]))"
            " AS r(amount) ON CONFLICT DO NOTHING"
        ),
        {**named, "amounts": sorted(amounts)},
    )
    if written.rowcount:
        connection.execute(
            sa.text(
                "INSERT INTO evidence_change (partition, study_instance_uid)"
                " VALUES (:partition, :uid)"
            ),
            named,
        )


def over_quota(
    connection: Connection, studies: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], frozenset[str]]:
    """Of which amounts the senders of these studies (partition and UID) brought too much."""
    wanted = list(studies)
    rows = connection.execute(
        sa.text(
            "SELECT q.partition, q.study_instance_uid, array_agg(q.amount) AS amounts"
            " FROM quota_excess q"
            " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)"
            " ON q.partition = w.partition AND q.study_instance_uid = w.uid GROUP BY 1, 2"
        ),
        {"partitions": [each[0] for each in wanted], "uids": [each[1] for each in wanted]},
    )
    return {(row.partition, row.study_instance_uid): frozenset(row.amounts) for row in rows}
