"""Destinations that are paused, or left alone because they do not answer."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def upgrade() -> None:
    """Adds the table, empty: all are sent to."""
    op.create_table(
        "lane",
        sa.Column("destination", sa.Text(), nullable=False),
        _moment("paused_at"),
        sa.Column("drained", sa.Boolean(), server_default="false", nullable=False),
        _count("failures"),
        _count("probes"),
        _moment("opened_at"),
        _moment("probe_at"),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("(opened_at IS NULL) = (probe_at IS NULL)", name=op.f("ck_lane_probed")),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_lane")),
    )
