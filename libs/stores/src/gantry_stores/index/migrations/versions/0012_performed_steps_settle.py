"""Performed steps are waited for until all that they refer to is there."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the column; for what there is, nobody waits."""
    op.add_column(
        "performed_step", sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.execute("UPDATE performed_step SET settled_at = now()")
    op.create_index(
        "ix_performed_step_unsettled",
        "performed_step",
        ["study_instance_uids"],
        unique=False,
        postgresql_using="gin",
        postgresql_where=sa.text("settled_at IS NULL"),
    )
    op.create_index(
        "ix_performed_step_unsettled_pk",
        "performed_step",
        ["pk"],
        unique=False,
        postgresql_where=sa.text("settled_at IS NULL"),
    )
