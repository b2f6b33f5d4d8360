"""When a study was complete, and at which revision."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns; studies that are there already count as incomplete."""
    op.add_column("study", sa.Column("completed_revision", sa.BigInteger(), nullable=True))
    op.add_column("study", sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True))
