"""Series that people move to other studies."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Adds the table and the column; no series is moved."""
    op.create_table(
        "moved_object",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("sent_study_instance_uid", sa.Text(), nullable=False),
        sa.Column("moved_by", postgresql.ARRAY(sa.Uuid()), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"],
            ["object.id"],
            name=op.f("fk_moved_object_object_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_moved_object")),
    )
    op.add_column("decision", sa.Column("from_uid", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_decision_kind"), "decision")
    op.create_check_constraint(
        op.f("ck_decision_kind"),
        "decision",
        "kind IN ('link', 'accept', 'release', 'refuse', 'correct', 'move')",
    )
    op.create_index(
        "ix_decision_from_uid",
        "decision",
        ["partition", "from_uid"],
        postgresql_where=sa.text("from_uid IS NOT NULL"),
    )
