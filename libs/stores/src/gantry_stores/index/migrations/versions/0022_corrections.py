"""What people correct of studies, and that destinations get it."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_OPEN_CORRECTION = "origin = 'correction' AND state IN ('waiting', 'sending', 'failed')"


def upgrade() -> None:
    """Adds the table, the column and the indexes; no study is corrected."""
    op.create_table(
        "sent_header",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"],
            ["object.id"],
            name=op.f("fk_sent_header_object_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_sent_header")),
    )
    op.add_column(
        "study", sa.Column("corrected", sa.Boolean(), server_default="false", nullable=False)
    )
    op.drop_constraint(op.f("ck_decision_kind"), "decision")
    op.create_check_constraint(
        op.f("ck_decision_kind"),
        "decision",
        "kind IN ('link', 'accept', 'release', 'refuse', 'correct')",
    )
    op.create_index(
        "ix_decision_correction",
        "decision",
        ["partition", "study_instance_uid"],
        postgresql_where=sa.text("kind = 'correct' AND undoing_id IS NULL"),
    )
    op.drop_constraint(op.f("ck_delivery_origin"), "delivery")
    op.create_check_constraint(
        op.f("ck_delivery_origin"), "delivery", "origin IN ('route', 'push', 'correction')"
    )
    op.create_index(
        "uq_delivery_corrected",
        "delivery",
        ["partition", "destination", "study_instance_uid"],
        unique=True,
        postgresql_where=sa.text(_OPEN_CORRECTION),
    )
