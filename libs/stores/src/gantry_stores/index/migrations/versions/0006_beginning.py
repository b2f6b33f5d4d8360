"""When the index began, so that what was stored before is not forwarded."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds it: for an index that is in use already, the time of its oldest study."""
    op.create_table(
        "beginning",
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("began_at", name=op.f("pk_beginning")),
    )
    op.execute(
        "INSERT INTO beginning (began_at)"
        " SELECT coalesce((SELECT min(first_received_at) FROM study), now())"
    )
