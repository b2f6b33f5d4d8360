"""Events of studies that are out of sight are told to reviewers alone."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Adds columns that an older Gantry leaves empty: those events go by what the study is now."""
    for table in ("event_note", "event", "deletion"):
        op.add_column(table, sa.Column("visible", sa.Boolean(), nullable=True))
