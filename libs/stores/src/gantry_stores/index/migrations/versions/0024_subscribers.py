"""Those who are told of events: how far each is, and what of it stands aside."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Adds the tables, empty: who is to be told is told from then on."""
    op.create_table(
        "subscriber",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        _moment("paused_at", nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        _moment("due_at"),
        _moment("claimed_until", nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        _moment("told_at", nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_subscriber")),
    )
    op.create_table(
        "subscriber_event",
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        _moment("since"),
        _moment("due_at"),
        _moment("refused_at", nullable=True),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["subscriber.name"],
            name=op.f("fk_subscriber_event_subscriber"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("subscriber", "event_id", name=op.f("pk_subscriber_event")),
    )
    op.create_index(
        "ix_subscriber_event_open",
        "subscriber_event",
        ["subscriber", "partition", "study_instance_uid", "event_id"],
        postgresql_where=sa.text("refused_at IS NULL"),
    )
