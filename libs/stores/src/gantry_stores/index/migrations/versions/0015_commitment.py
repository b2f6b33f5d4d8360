"""Storage commitment: what partners asked us to keep."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"


def _must(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default="false", nullable=False)


def upgrade() -> None:
    """Adds the table."""
    op.create_table(
        "commitment",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        _must("partition"),
        _must("calling_ae"),
        _must("called_ae"),
        _must("transaction_uid"),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        _flag("conflicting"),
        sa.Column("referenced", postgresql.JSONB(), nullable=False),
        sa.Column("failed", postgresql.JSONB(), nullable=True),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        _flag("caught_up"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("requested_at"),
        _moment("due_at"),
        _moment("held_until", nullable=True),
        _moment("checked_at", nullable=True),
        _moment("reported_at", nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'checked', 'reported', 'dead')",
            name=op.f("ck_commitment_state"),
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_commitment")),
    )
    op.create_index(
        "uq_commitment_transaction",
        "commitment",
        ["calling_ae", "transaction_uid"],
        unique=True,
        postgresql_where=sa.text("NOT conflicting"),
    )
    op.create_index(
        "ix_commitment_due",
        "commitment",
        ["state", "due_at"],
        postgresql_where=sa.text("state IN ('waiting', 'checked')"),
    )
    op.create_index(op.f("ix_commitment_requested_at"), "commitment", ["requested_at"])
