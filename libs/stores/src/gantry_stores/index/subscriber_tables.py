"""The tables of those who are told of events: how far each is, and what of it stands aside."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, text

from gantry_stores.index.columns import metadata, moment

subscriber = Table(
    "subscriber",
    metadata,
    Column("name", Text, primary_key=True),
    # All events up to this number were told, or stand aside.
    Column("position", BigInteger, nullable=False),
    # By a person.
    moment("paused_at", nullable=True),
    # Attempts in a row that found nobody.
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    moment("due_at"),
    # By whoever tells it just now; what he still writes after another took it over is refused.
    moment("claimed_until", nullable=True),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    moment("told_at", nullable=True),
)

# Events that were not taken, and those of the same studies behind them.
subscriber_event = Table(
    "subscriber_event",
    metadata,
    Column("subscriber", ForeignKey("subscriber.name", ondelete="CASCADE"), primary_key=True),
    Column("event_id", BigInteger, primary_key=True),
    Column("partition", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    moment("since"),
    moment("due_at"),
    # Since when it is not told again by itself.
    moment("refused_at", nullable=True),
    Index(
        "ix_subscriber_event_open",
        "subscriber",
        "partition",
        "study_instance_uid",
        "event_id",
        postgresql_where=text("refused_at IS NULL"),
    ),
)
