"""Studies whose sender brought more in a day than it may."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Adds the table; nobody brought too much."""
    op.create_table(
        "quota_excess",
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "partition", "study_instance_uid", "amount", name=op.f("pk_quota_excess")
        ),
    )
