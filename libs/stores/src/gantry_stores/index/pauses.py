"""Pauses between the images of a partner's studies, and what was learned of them."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.learned_quiet import Pauses

_MILLISECOND = timedelta(milliseconds=1)

# The first 48 bits of an identifier are the milliseconds of its reception (gantry_domain.keys). A
# pause that is longer than the study's own quiet time is none that anybody would have waited for.
_LONGEST = """
    SELECT study_pk, title,
           coalesce(max(pause) FILTER (WHERE pause <= longest), 0) AS pause
    FROM (
        SELECT w.study_pk, w.longest, p.title,
               came - lag(came) OVER (PARTITION BY w.study_pk, p.title ORDER BY came) AS pause
        FROM unnest(CAST(:pks AS bigint[]), CAST(:longest AS bigint[])) AS w(study_pk, longest)
        JOIN series s ON s.study_pk = w.study_pk
        JOIN instance i ON i.series_pk = s.pk
        JOIN object o ON o.id = i.object_id
        JOIN unnest(CAST(:partners AS text[])) AS p(title) ON lower(p.title) = lower(o.calling_ae)
        CROSS JOIN LATERAL (
            SELECT ('x' || left(replace(o.id::text, '-', ''), 12))::bit(48)::bigint AS came
        ) AS received
    ) AS pauses
    GROUP BY study_pk, title ORDER BY study_pk
"""

_WRITE = """
    INSERT INTO partner_pauses (calling_ae, studies, updated_at)
    VALUES (:calling_ae, CAST(:studies AS jsonb), now())
    ON CONFLICT (calling_ae) DO UPDATE
    SET studies = excluded.studies, updated_at = excluded.updated_at
"""


def learn_pauses(
    connection: Connection,
    longest: Mapping[int, timedelta],
    *,
    partners: Collection[str],
) -> None:
    """Look at studies that are over: `longest` says of each how long a pause may be to count.

    One at a time learns, for the sweep is one. Studies of other senders teach nothing.
    """
    rows = connection.execute(
        sa.text(_LONGEST),
        {
            "pks": list(longest),
            "longest": [time // _MILLISECOND for time in longest.values()],
            "partners": list(partners),
        },
    )
    seen: dict[str, list[tuple[int, timedelta]]] = {}
    for row in rows:
        seen.setdefault(row.title, []).append((row.study_pk, row.pause * _MILLISECOND))
    known = read_pauses(connection, list(seen))
    for title, studies in sorted(seen.items()):
        pauses = known.get(title, Pauses()).with_studies(studies)
        connection.execute(
            sa.text(_WRITE),
            {
                "calling_ae": title,
                "studies": json.dumps(
                    [[study, pause // _MILLISECOND] for study, pause in pauses.studies]
                ),
            },
        )


def read_pauses(connection: Connection, partners: Sequence[str]) -> dict[str, Pauses]:
    """What is known of those partners of whom something is."""
    rows = connection.execute(
        sa.text("SELECT calling_ae, studies FROM partner_pauses WHERE calling_ae = ANY(:partners)"),
        {"partners": list(partners)},
    )
    return {
        row.calling_ae: Pauses(
            tuple((study, milliseconds * _MILLISECOND) for study, milliseconds in row.studies)
        )
        for row in rows
    }
