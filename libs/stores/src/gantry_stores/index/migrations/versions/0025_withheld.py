"""Instances that are withheld from who must not know whose they are."""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Items of deliveries have one state more."""
    op.drop_constraint(op.f("ck_delivery_item_state"), "delivery_item")
    op.create_check_constraint(
        op.f("ck_delivery_item_state"),
        "delivery_item",
        "state IN ('waiting', 'failed', 'accepted', 'warned', 'refused', 'withheld')",
    )
