"""The tables of proof: deliveries whose destinations are asked whether they keep what was sent."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from gantry_stores.index.columns import metadata, moment

proof = Table(
    "proof",
    metadata,
    Column("delivery_pk", ForeignKey("delivery.pk", ondelete="CASCADE"), primary_key=True),
    Column("destination", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="due"),
    Column("reason", Text),
    # How often it was asked in vain, and how often what it did not keep was sent again.
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("resent", Integer, nullable=False, server_default="0"),
    # When it is to be asked, or its answer is overdue; who does so moves it ahead meanwhile.
    moment("due_at"),
    moment("delivered_at"),
    moment("proved_at", nullable=True),
    CheckConstraint("kind IN ('commitment', 'find')", name="kind"),
    CheckConstraint("state IN ('due', 'asked', 'resending', 'proved', 'failed')", name="state"),
    Index(
        "ix_proof_due",
        "due_at",
        postgresql_where=text("state IN ('due', 'asked')"),
    ),
    Index("ix_proof_open", "destination", "state", postgresql_where=text("state <> 'proved'")),
)

# Under which Transaction UID a destination was asked; it may report late.
proof_request = Table(
    "proof_request",
    metadata,
    Column("transaction_uid", Text, primary_key=True),
    Column(
        "delivery_pk",
        ForeignKey("delivery.pk", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    moment("asked_at"),
)
