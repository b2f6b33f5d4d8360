"""The table of storage commitment: what partners asked us to keep, and what we told them."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from gantry_stores.index.columns import metadata, moment, surrogate

commitment = Table(
    "commitment",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("called_ae", Text, nullable=False),
    Column("transaction_uid", Text, nullable=False),
    # Of what is asked for: by it the same request is known that comes again.
    Column("digest", LargeBinary, nullable=False),
    # The Transaction UID was in use already, with other instances.
    Column("conflicting", Boolean, nullable=False, server_default="false"),
    # [[SOP class, SOP instance], ...], and of those that are not kept {SOP instance: reason}.
    Column("referenced", JSONB, nullable=False),
    Column("failed", JSONB),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("reason", Text),
    # Everything that was received before the request has its row.
    Column("caught_up", Boolean, nullable=False, server_default="false"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    moment("requested_at"),
    # When it is to be looked at next; whoever does so moves it ahead, for as long as that takes.
    moment("due_at"),
    # As long as the association lasts over which it was asked, and over which it is to be told.
    moment("held_until", nullable=True),
    moment("checked_at", nullable=True),
    moment("reported_at", nullable=True),
    CheckConstraint("state IN ('waiting', 'checked', 'reported', 'dead')", name="state"),
    Index(
        "uq_commitment_transaction",
        "calling_ae",
        "transaction_uid",
        unique=True,
        postgresql_where=text("NOT conflicting"),
    ),
    Index(
        "ix_commitment_due",
        "state",
        "due_at",
        postgresql_where=text("state IN ('waiting', 'checked')"),
    ),
    Index(None, "requested_at"),
)
