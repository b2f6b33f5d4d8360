"""What leaves before its study is complete, and what people replay."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Adds the columns, empty, and indexes: deliveries are found by their study."""
    op.add_column("study", sa.Column("asked_revision", sa.BigInteger(), nullable=True))
    op.add_column("study", sa.Column("series_due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_study_coming",
        "study",
        ["pk"],
        postgresql_where=sa.text(
            "verdict = 'accepted' AND (completed_revision IS NULL OR completed_revision < revision)"
        ),
    )
    op.add_column(
        "beginning", sa.Column("all_indexed_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        op.f("ix_delivery_partition_study_instance_uid"),
        "delivery",
        ["partition", "study_instance_uid"],
    )
    op.drop_constraint(op.f("ck_delivery_origin"), "delivery")
    op.create_check_constraint(
        op.f("ck_delivery_origin"),
        "delivery",
        "origin IN ('route', 'push', 'correction', 'replay')",
    )
    op.create_index(
        "uq_delivery_replayed",
        "delivery",
        ["partition", "destination", "study_instance_uid"],
        unique=True,
        postgresql_where=sa.text("origin = 'replay' AND state IN ('waiting', 'sending', 'failed')"),
    )
