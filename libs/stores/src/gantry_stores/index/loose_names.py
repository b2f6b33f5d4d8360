"""Names that cannot be found loosely yet: those of rows that an older Gantry wrote."""

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from gantry_domain.levels import name_beginnings
from gantry_stores.index.database import transaction
from gantry_stores.index.recordsets import rows_parameter, update_rows
from gantry_stores.index.schema import study

_WITHOUT = (
    "SELECT pk, patient_name FROM study WHERE patient_name_beginnings IS NULL"
    " ORDER BY pk LIMIT :limit FOR UPDATE SKIP LOCKED"
)


def fill_beginnings(engine: Engine, *, limit: int) -> int:
    """Write what is missing of at most `limit` studies; of how many it was.

    Those that are being indexed are left for the next time. Raises `IndexUnavailable`.
    """
    with transaction(engine) as connection:
        found = connection.execute(sa.text(_WITHOUT), {"limit": limit}).all()
        rows = [
            {
                "pk": row.pk,
                "patient_name_beginnings": name_beginnings({"patient_name": row.patient_name}),
            }
            for row in found
        ]
        if rows:
            connection.execute(
                update_rows(study, rows[0], key="pk"), {"rows": rows_parameter(rows)}
            )
    return len(rows)
