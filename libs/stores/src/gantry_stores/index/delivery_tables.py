"""The tables of deliveries: what is on its way to whom, and what became of each instance of it."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from gantry_stores.index.columns import metadata, moment, surrogate

# A study, series or instance on its way to one destination. It refers to the index by UIDs, for
# it tells what was sent also when the study has gone.
delivery = Table(
    "delivery",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    Column("destination", Text, nullable=False),  # an AE title
    Column("level", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("series_instance_uid", Text),
    Column("sop_instance_uid", Text),
    Column("origin", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("reason", Text),
    Column("priority", SmallInteger, nullable=False, server_default="0"),
    # Rounds of sending that failed in a row; what waits is due at next_attempt_at.
    Column("attempts", Integer, nullable=False, server_default="0"),
    moment("next_attempt_at"),
    # Who sends it, until when that is believed, and the number that proves it: each claim and
    # each cancellation increments the fence, and what names an older one is not written.
    Column("lease_owner", Text),
    moment("lease_until", nullable=True),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("study_revision", BigInteger, nullable=False),
    moment("created_at"),
    moment("completed_at", nullable=True),  # of the study
    moment("unsent_since"),  # since when what is unsettled waits
    moment("delivered_at", nullable=True),
    CheckConstraint("level IN ('study', 'series', 'instance')", name="level"),
    CheckConstraint(
        "origin IN ('route', 'push', 'correction', 'replay', 'rejection')", name="origin"
    ),
    CheckConstraint(
        "state IN ('waiting', 'sending', 'failed', 'delivered', 'dead', 'cancelled')", name="state"
    ),
    # Several routes to one destination send once, and late instances join what was sent.
    Index(
        "uq_delivery_routed",
        "partition",
        "destination",
        "study_instance_uid",
        unique=True,
        postgresql_where=text("origin = 'route'"),
    ),
    Index(
        "uq_delivery_pushed",
        "partition",
        "destination",
        "study_instance_uid",
        text("coalesce(series_instance_uid, '')"),
        text("coalesce(sop_instance_uid, '')"),
        unique=True,
        postgresql_where=text("origin = 'push' AND state IN ('waiting', 'sending', 'failed')"),
    ),
    Index(
        "uq_delivery_corrected",
        "partition",
        "destination",
        "study_instance_uid",
        unique=True,
        postgresql_where=text(
            "origin = 'correction' AND state IN ('waiting', 'sending', 'failed')"
        ),
    ),
    Index(
        "uq_delivery_replayed",
        "partition",
        "destination",
        "study_instance_uid",
        unique=True,
        postgresql_where=text("origin = 'replay' AND state IN ('waiting', 'sending', 'failed')"),
    ),
    Index(
        "ix_delivery_due",
        "destination",
        text("priority DESC"),
        "next_attempt_at",
        "pk",
        postgresql_where=text("state IN ('waiting', 'sending', 'failed')"),
    ),
    Index(
        "ix_delivery_not_delivered",
        "state",
        "destination",
        "pk",
        postgresql_where=text("state <> 'delivered'"),
    ),
    Index(None, "partition", "study_instance_uid"),
    Index("ix_delivery_lease_owner", "lease_owner", postgresql_where=text("state = 'sending'")),
)

delivery_item = Table(
    "delivery_item",
    metadata,
    Column("delivery_pk", ForeignKey("delivery.pk", ondelete="CASCADE"), primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("object_id", Uuid, nullable=False),  # planned, and then what was sent
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("status", Integer),  # (0000,0900) of the last answer
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, server_default="0"),
    moment("settled_at", nullable=True),
    moment("proved_at", nullable=True),  # its destination said that it keeps it
    CheckConstraint(
        "state IN ('waiting', 'failed', 'accepted', 'warned', 'refused', 'withheld')", name="state"
    ),
    Index(
        "ix_delivery_item_unsettled",
        "delivery_pk",
        "attempts",
        "object_id",
        postgresql_where=text("state IN ('waiting', 'failed')"),
    ),
)
