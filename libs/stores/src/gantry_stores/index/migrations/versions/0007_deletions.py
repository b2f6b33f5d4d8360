"""What people deleted, and the objects of it that are not purged yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds both, and lets an object be deleted."""
    op.execute("ALTER TABLE object DROP CONSTRAINT ck_object_state")
    op.create_check_constraint(
        op.f("ck_object_state"),
        "object",
        "state IN ('primary', 'duplicate', 'conflict', 'unreadable', 'deleted')",
    )
    op.create_table(
        "deletion",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="marked", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.Column("restoration_id", sa.Uuid(), nullable=True),
        sa.Column("restored_by", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('marked', 'restoring', 'restored', 'purging', 'purged')",
            name=op.f("ck_deletion_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion")),
    )
    op.create_index(
        op.f("ix_deletion_partition_study_instance_uid"),
        "deletion",
        ["partition", "study_instance_uid"],
        unique=False,
    )
    op.create_index(
        "ix_deletion_open",
        "deletion",
        ["deleted_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('marked', 'restoring', 'purging')"),
    )
    op.create_table(
        "deleted_object",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("deletion_id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"],
            ["object.id"],
            name=op.f("fk_deleted_object_object_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deletion_id"], ["deletion.id"], name=op.f("fk_deleted_object_deletion_id")
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_deleted_object")),
    )
    op.create_index(
        op.f("ix_deleted_object_deletion_id"), "deleted_object", ["deletion_id"], unique=False
    )
    op.create_index(
        op.f("ix_deleted_object_partition_sop_instance_uid"),
        "deleted_object",
        ["partition", "sop_instance_uid"],
        unique=False,
    )
