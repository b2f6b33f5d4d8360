"""Studies that a partner asked us to keep, all that is here of them, by storage commitment.

It counts for the revision that it was asked of: what is added or taken away makes it void.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# One look at both, counts and instances: what is added at this moment is in both or in neither.
_NOTE = """
    INSERT INTO study_asked AS a (study_pk, revision, calling_ae)
    SELECT s.pk, s.revision, :calling_ae
    FROM study s JOIN (
        SELECT e.study_pk, count(*) AS named FROM instance i JOIN series e ON e.pk = i.series_pk
        WHERE i.partition = :partition AND i.sop_instance_uid = ANY(:uids) GROUP BY e.study_pk
    ) AS told ON told.study_pk = s.pk
    WHERE told.named = s.number_of_study_related_instances
      AND (s.completed_revision IS NULL OR s.completed_revision < s.revision)
    ORDER BY s.partition, s.study_instance_uid FOR KEY SHARE OF s
    ON CONFLICT (study_pk) DO UPDATE
    SET revision = excluded.revision, calling_ae = excluded.calling_ae
"""

_ASKED = """
    SELECT a.study_pk, a.calling_ae FROM study_asked a
    JOIN study s ON s.pk = a.study_pk AND s.revision = a.revision
    WHERE a.study_pk = ANY(:pks)
"""


def note_asked(
    connection: Connection, SOPInstanceUIDs: Sequence[str], *, partition: str, calling_ae: str
) -> int:
    """Note the studies that are not complete and all of whose instances are among these; how many
    there are."""
    return connection.execute(
        sa.text(_NOTE),
        {"uids": list(SOPInstanceUIDs), "partition": partition, "calling_ae": calling_ae},
    ).rowcount


def asked_by(connection: Connection, study_pks: Sequence[int]) -> dict[int, str]:
    """Of those studies that were asked for as they are now, by whom."""
    rows = connection.execute(sa.text(_ASKED), {"pks": list(study_pks)})
    return {row.study_pk: row.calling_ae for row in rows}


def forget_asked(connection: Connection, study_pks: Sequence[int]) -> None:
    """They are complete: nobody needs to know any more."""
    connection.execute(
        sa.text("DELETE FROM study_asked WHERE study_pk = ANY(:pks)"), {"pks": list(study_pks)}
    )
