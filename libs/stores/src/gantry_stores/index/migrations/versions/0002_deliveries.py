"""Deliveries and their items; up to which revision a study was routed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the tables; studies that are there already are not routed."""
    op.add_column("study", sa.Column("routed_revision", sa.BigInteger(), nullable=True))
    op.execute("UPDATE study SET routed_revision = revision")
    op.create_index(
        "ix_study_not_routed",
        "study",
        ["pk"],
        unique=False,
        postgresql_where=sa.text("routed_revision IS NULL OR routed_revision < revision"),
    )
    op.create_table(
        "delivery",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("study_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unsent_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "level IN ('study', 'series', 'instance')", name=op.f("ck_delivery_level")
        ),
        sa.CheckConstraint("origin IN ('route', 'push')", name=op.f("ck_delivery_origin")),
        sa.CheckConstraint(
            "state IN ('waiting', 'sending', 'failed', 'delivered', 'dead', 'cancelled')",
            name=op.f("ck_delivery_state"),
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_delivery")),
    )
    op.create_index(
        "uq_delivery_routed",
        "delivery",
        ["partition", "destination", "study_instance_uid"],
        unique=True,
        postgresql_where=sa.text("origin = 'route'"),
    )
    op.create_index(
        "uq_delivery_pushed",
        "delivery",
        [
            "partition",
            "destination",
            "study_instance_uid",
            sa.text("coalesce(series_instance_uid, '')"),
            sa.text("coalesce(sop_instance_uid, '')"),
        ],
        unique=True,
        postgresql_where=sa.text("origin = 'push' AND state IN ('waiting', 'sending', 'failed')"),
    )
    op.create_index(
        "ix_delivery_due",
        "delivery",
        ["destination", sa.text("priority DESC"), "next_attempt_at", "pk"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'sending', 'failed')"),
    )
    op.create_index(
        "ix_delivery_not_delivered",
        "delivery",
        ["state", "destination", "pk"],
        unique=False,
        postgresql_where=sa.text("state <> 'delivered'"),
    )
    op.create_index(
        "ix_delivery_lease_owner",
        "delivery",
        ["lease_owner"],
        unique=False,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.create_table(
        "delivery_item",
        sa.Column("delivery_pk", sa.BigInteger(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'failed', 'accepted', 'warned', 'refused')",
            name=op.f("ck_delivery_item_state"),
        ),
        sa.ForeignKeyConstraint(
            ["delivery_pk"],
            ["delivery.pk"],
            name=op.f("fk_delivery_item_delivery_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_pk", "sop_instance_uid", name=op.f("pk_delivery_item")),
    )
    op.create_index(
        "ix_delivery_item_unsettled",
        "delivery_item",
        ["delivery_pk", "attempts", "object_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('waiting', 'failed')"),
    )
