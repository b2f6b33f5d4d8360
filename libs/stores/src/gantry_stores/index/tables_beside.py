"""The tables beside the index: what people deleted, and the feed of events."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)

from gantry_stores.index.columns import metadata, moment, surrogate

# What people deleted: a study, a series or an instance. The row stays when all of it is gone, for
# it says who deleted what, and when.
deletion = Table(
    "deletion",
    metadata,
    Column("id", Uuid, primary_key=True),  # the key of its journal entry follows from it
    Column("partition", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("series_instance_uid", Text),
    Column("sop_instance_uid", Text),
    Column("instances", Integer, nullable=False),
    Column("state", Text, nullable=False, server_default="marked"),
    moment("deleted_at"),
    Column("deleted_by", Text, nullable=False),
    # Whether the study was, for then what becomes of it is told to everybody.
    Column("visible", Boolean),
    # Of the journal entry that takes it back, and who asked for that.
    Column("restoration_id", Uuid),
    Column("restored_by", Text),
    moment("ended_at", nullable=True),
    CheckConstraint(
        "state IN ('marked', 'restoring', 'restored', 'purging', 'purged')", name="state"
    ),
    Index(None, "partition", "study_instance_uid"),
    Index(
        "ix_deletion_open",
        "deleted_at",
        postgresql_where=text("state IN ('marked', 'restoring', 'purging')"),
    ),
)

# The objects that are deleted and not purged yet. By these few rows is known what comes again.
deleted_object = Table(
    "deleted_object",
    metadata,
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
    Column("deletion_id", ForeignKey("deletion.id"), nullable=False, index=True),
    Column("partition", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Index(None, "partition", "sop_instance_uid"),
)


def _told() -> list[Column[object]]:
    """What an event says. It refers to the index by UIDs, for it stays when the study has gone."""
    return [
        Column("partition", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("study_instance_uid", Text, nullable=False),
        Column("series_instance_uid", Text),
        Column("sop_instance_uid", Text),
        Column("instances", Integer),
        Column("destination", Text),
        moment("at"),
        # Whether it is for everybody, and not for reviewers alone; null: as the study is visible.
        Column("visible", Boolean),
    ]


# What happened, as the transactions in which it happened wrote it down: not in any order yet. Of
# the same study `indexed` stands there once.
event_note = Table(
    "event_note",
    metadata,
    surrogate(),
    *_told(),
    Index(
        "uq_event_note_indexed",
        "partition",
        "study_instance_uid",
        unique=True,
        postgresql_where=text("kind = 'indexed'"),
    ),
)

# The same, numbered by one transaction after the other: who has seen a number has seen all below.
event = Table(
    "event",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    *_told(),
    Index(None, "partition", "id"),
)

# One row, which whoever numbers events locks: the last number, and up to which one they are
# removed.
event_feed = Table(
    "event_feed",
    metadata,
    Column("last_id", BigInteger, primary_key=True, autoincrement=False),
    Column("removed_until", BigInteger, nullable=False, server_default="0"),
)
