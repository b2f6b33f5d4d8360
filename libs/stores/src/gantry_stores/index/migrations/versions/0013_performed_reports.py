"""Performed steps are passed on to other systems."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def _must(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Adds the table, empty."""
    op.create_table(
        "performed_report",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        _must("destination"),
        _must("sop_instance_uid"),
        _must("operation"),
        _must("transfer_syntax"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        _moment("created_at"),
        _moment("due_at"),
        _moment("claimed_until", nullable=True),
        _moment("refused_at", nullable=True),
        sa.CheckConstraint(
            "operation IN ('create', 'set')", name=op.f("ck_performed_report_operation")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_performed_report")),
    )
    op.create_index(
        op.f("ix_performed_report_destination_sop_instance_uid"),
        "performed_report",
        ["destination", "sop_instance_uid"],
        unique=False,
    )
