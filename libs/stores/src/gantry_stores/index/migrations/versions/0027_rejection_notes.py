"""Rejection notes, and deliveries that are nothing but one."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Adds the table; there are no notes."""
    op.create_table(
        "rejection_note",
        sa.Column("delivery_pk", sa.BigInteger(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'failed', 'accepted', 'warned', 'refused')",
            name=op.f("ck_rejection_note_state"),
        ),
        sa.ForeignKeyConstraint(
            ["delivery_pk"],
            ["delivery.pk"],
            name=op.f("fk_rejection_note_delivery_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_pk", name=op.f("pk_rejection_note")),
    )
    op.drop_constraint(op.f("ck_delivery_origin"), "delivery")
    op.create_check_constraint(
        op.f("ck_delivery_origin"),
        "delivery",
        "origin IN ('route', 'push', 'correction', 'replay', 'rejection')",
    )
