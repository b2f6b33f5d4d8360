"""The feed of what happens to studies."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds it, empty: it begins now."""
    op.create_table(
        "event_note",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_event_note")),
    )
    op.create_index(
        "uq_event_note_indexed",
        "event_note",
        ["partition", "study_instance_uid"],
        unique=True,
        postgresql_where=sa.text("kind = 'indexed'"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_partition_id"), "event", ["partition", "id"], unique=False)
    op.create_table(
        "event_feed",
        sa.Column("last_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("removed_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("last_id", name=op.f("pk_event_feed")),
    )
    op.execute(
        "INSERT INTO event_feed (last_id, removed_until)"
        " SELECT n, n FROM CAST(extract(epoch FROM now()) * 1000 AS bigint) AS n"
    )
