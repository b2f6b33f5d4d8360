"""Proof that destinations keep what was sent to them."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def _must(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default=default, nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def _delivery() -> sa.Column[int]:
    return sa.Column("delivery_pk", sa.BigInteger(), nullable=False)


def upgrade() -> None:
    """Adds the tables, and to each item of a delivery when it was proved."""
    op.add_column("delivery_item", _moment("proved_at", nullable=True))
    op.create_table(
        "proof",
        _delivery(),
        _must("destination"),
        _must("kind"),
        _must("state", "due"),
        sa.Column("reason", sa.Text(), nullable=True),
        _count("attempts"),
        _count("resent"),
        _moment("due_at"),
        _moment("delivered_at"),
        _moment("proved_at", nullable=True),
        sa.CheckConstraint("kind IN ('commitment', 'find')", name=op.f("ck_proof_kind")),
        sa.CheckConstraint(
            "state IN ('due', 'asked', 'resending', 'proved', 'failed')",
            name=op.f("ck_proof_state"),
        ),
        sa.ForeignKeyConstraint(
            ["delivery_pk"],
            ["delivery.pk"],
            name=op.f("fk_proof_delivery_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("delivery_pk", name=op.f("pk_proof")),
    )
    op.create_index(
        "ix_proof_due", "proof", ["due_at"], postgresql_where=sa.text("state IN ('due', 'asked')")
    )
    op.create_index(
        "ix_proof_open",
        "proof",
        ["destination", "state"],
        postgresql_where=sa.text("state <> 'proved'"),
    )
    op.create_table(
        "proof_request",
        _must("transaction_uid"),
        _delivery(),
        _moment("asked_at"),
        sa.ForeignKeyConstraint(
            ["delivery_pk"],
            ["delivery.pk"],
            name=op.f("fk_proof_request_delivery_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_proof_request")),
    )
    op.create_index(op.f("ix_proof_request_delivery_pk"), "proof_request", ["delivery_pk"])
