"""The corrections that stand of studies, read: for those who index them and those who send them."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.corrections import Correction, in_order

_TOLD = """
    json_agg(json_build_object('id', d.id, 'attributes', d.content->'corrected')
             ORDER BY d.id)::text
"""

_OF_STUDY = """
    d.partition = {study}.partition AND d.study_instance_uid = {study}.study_instance_uid
    AND d.kind = 'correct' AND d.undoing_id IS NULL
"""

_STANDING = f"SELECT {_TOLD} FROM decision d WHERE {_OF_STUDY}"  # noqa: S608 - constants

# As `gantry_domain.series_moves.changes_of` says: of a moved object its moves, and what was
# corrected after the last of them.
_OF_OBJECT = f"""
    SELECT {_TOLD} FROM (
        SELECT d.id, d.content FROM decision d WHERE {_OF_STUDY}
          AND d.id > coalesce((SELECT m.moved_by[cardinality(m.moved_by)] FROM moved_object m
                               WHERE m.object_id = {{object}}),
                              '00000000-0000-0000-0000-000000000000'::uuid)
        UNION ALL
        SELECT d.id, d.content FROM moved_object m JOIN decision d ON d.id = ANY(m.moved_by)
        WHERE m.object_id = {{object}}
    ) AS d
"""  # noqa: S608 - constants

_OF_STUDIES = f"""
    SELECT w.partition, w.study_instance_uid, ({_STANDING.format(study="w")}) AS corrections
    FROM unnest(CAST(:partitions AS text[]), CAST(:uids AS text[]))
         AS w(partition, study_instance_uid)
"""  # noqa: S608 - constants


def corrections_column(study: str, object_id: str) -> str:
    """What selects all that is changed of an object, for `read_corrections`: of the study of this
    alias, where the object's identifier is this column.

    Null, and nothing is looked up, where no object of the study is changed.
    """
    asked = _OF_OBJECT.format(study=study, object=object_id)
    return f"CASE WHEN {study}.corrected THEN ({asked}) END"


@lru_cache(maxsize=64)  # of a study nearly all instances have the same
def read_corrections(text: str | None) -> tuple[Correction, ...]:
    """The corrections, in order, from the text that the index gives."""
    found = () if text is None else orjson.loads(text)
    return in_order(Correction(UUID(each["id"]), each["attributes"]) for each in found)


def standing_corrections(
    connection: Connection, studies: Collection[tuple[str, str]]
) -> Mapping[tuple[str, str], tuple[Correction, ...]]:
    """What stands of studies (partition and UID), be they here or not; uncorrected ones are
    absent."""
    ordered = sorted(studies)
    rows = connection.execute(
        sa.text(_OF_STUDIES),
        {"partitions": [each[0] for each in ordered], "uids": [each[1] for each in ordered]},
    )
    return {
        (row.partition, row.study_instance_uid): read_corrections(row.corrections)
        for row in rows
        if row.corrections is not None
    }
