"""The table of the rejection notes that go before, or instead of, the items of a delivery."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, LargeBinary, Table, Text

from gantry_stores.index.columns import metadata, moment

rejection_note = Table(
    "rejection_note",
    metadata,
    Column("delivery_pk", ForeignKey("delivery.pk", ondelete="CASCADE"), primary_key=True),
    Column("sop_instance_uid", Text, nullable=False),
    Column("title", Text, nullable=False),  # the code
    # Its data set, for it tells what its destination had and the index has no more.
    Column("content", LargeBinary, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("status", Integer),
    Column("reason", Text),
    moment("settled_at", nullable=True),
    CheckConstraint(
        "state IN ('waiting', 'failed', 'accepted', 'warned', 'refused')", name="state"
    ),
)
