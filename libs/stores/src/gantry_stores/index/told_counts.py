"""How many instances senders say that their studies have, in the images themselves."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.completeness import told_instances
from gantry_domain.entries import Entry

# Who counts as it goes says more with each image: the most is its last word.
_NOTE = """
    INSERT INTO study_told AS t (study_pk, calling_ae, instances)
    SELECT * FROM unnest(CAST(:pks AS bigint[]), CAST(:callers AS text[]), CAST(:told AS integer[]))
    ON CONFLICT (study_pk, calling_ae) DO UPDATE
    SET instances = excluded.instances WHERE t.instances < excluded.instances
"""


def note_told(connection: Connection, entries: Iterable[tuple[int, Entry]]) -> None:
    """Note what these images say, each with the number of its study, which is locked."""
    most: dict[tuple[int, str], int] = {}
    for study_pk, entry in entries:
        told = told_instances(entry.attributes)
        # Of moved ones it is about the study that they were sent in.
        if told is not None and not entry.moved:
            key = (study_pk, entry.calling_ae)
            most[key] = max(told, most.get(key, 0))
    if most:
        connection.execute(
            sa.text(_NOTE),
            {
                "pks": [pk for pk, _ae in most],
                "callers": [ae for _pk, ae in most],
                "told": list(most.values()),
            },
        )


def told_counts(
    connection: Connection, study_pks: Sequence[int]
) -> Mapping[int, Mapping[str, int]]:
    """What was said of those studies of which something was, by calling AE title."""
    rows = connection.execute(
        sa.text(
            "SELECT study_pk, calling_ae, instances FROM study_told WHERE study_pk = ANY(:pks)"
        ),
        {"pks": list(study_pks)},
    )
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.study_pk, {})[row.calling_ae] = row.instances
    return found
