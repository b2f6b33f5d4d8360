"""Finds the studies that have to be judged anew, for something beside their images has changed.

Changes are read after they are committed. So a study that was indexed before is found here, and one
that is indexed later is judged with the change in sight; none falls between.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.policies.patient_identity import NO_ORDER
from gantry_stores.index.decisions import judge_anew

_TAKE = """
    DELETE FROM evidence_change WHERE pk IN (
        SELECT pk FROM evidence_change ORDER BY pk LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING partition, accession_number, study_instance_uid
"""

# A number that more studies have than these is nobody's number.
_MOST_OF_ONE_NUMBER = 500

# Each by an index of its own.
_STUDIES = """
    WITH changed AS (
        SELECT * FROM unnest(CAST(:partitions AS text[]), CAST(:accessions AS text[]),
                             CAST(:uids AS text[])) AS c(partition, accession, uid)
    )
    SELECT t.pk FROM changed c CROSS JOIN LATERAL (
        SELECT t.pk FROM study t
        WHERE t.partition = c.partition AND t.accession_number = c.accession LIMIT :most
    ) AS t
    UNION
    SELECT t.pk FROM changed c JOIN study t
        ON t.partition = c.partition AND t.study_instance_uid = c.uid
    UNION
    SELECT t.pk FROM changed c
    JOIN decision d ON d.partition = c.partition AND d.order_uid = c.uid
    JOIN study t ON t.partition = d.partition AND t.study_instance_uid = d.study_instance_uid
"""

_WITHOUT_ORDER = """
    SELECT t.pk FROM study t JOIN study_finding f ON f.study_pk = t.pk
    WHERE t.verdict = 'held' AND f.code = :code AND t.judged_by IS NOT NULL LIMIT :limit
"""


def take_changes(connection: Connection, *, limit: int) -> int:
    """Have the studies of at most `limit` changes judged anew; how many changes there were."""
    changes = connection.execute(sa.text(_TAKE), {"limit": limit}).all()
    if changes:
        pks = connection.scalars(
            sa.text(_STUDIES),
            {
                "partitions": [change.partition for change in changes],
                "accessions": [change.accession_number for change in changes],
                "uids": [change.study_instance_uid for change in changes],
                "most": _MOST_OF_ONE_NUMBER,
            },
        ).all()
        judge_anew(connection, pks)
    return len(changes)


def recall_without_orders(connection: Connection, *, limit: int) -> int:
    """Have at most `limit` studies judged anew that are held for having no order; how many."""
    pks = connection.scalars(sa.text(_WITHOUT_ORDER), {"code": NO_ORDER, "limit": limit}).all()
    judge_anew(connection, pks)
    return len(pks)
