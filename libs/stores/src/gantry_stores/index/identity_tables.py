"""The tables of what the rules look at beside the images, and of what people decided."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from gantry_stores.index.columns import metadata, moment, surrogate

# What the studies of these numbers have to be judged anew for. Triggers on orders, their patients
# and studies write it (migration 0014), in the transaction of the change.
evidence_change = Table(
    "evidence_change",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    Column("accession_number", Text),
    Column("study_instance_uid", Text),
)

# Studies of which an image was refused at the door, for being one too many.
door_refusal = Table(
    "door_refusal",
    metadata,
    Column("partition", Text, primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),
    Column("refused", Integer, nullable=False),
    moment("last_at"),
)

# Studies whose sender had brought more of an amount that day than it may.
quota_excess = Table(
    "quota_excess",
    metadata,
    Column("partition", Text, primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),
    Column("amount", Text, primary_key=True),
    moment("noted_at"),
)

# What a person decided of a study. The row stays when it is undone, for it says who, when and why.
decision = Table(
    "decision",
    metadata,
    Column("id", Uuid, primary_key=True),  # the key of its journal entry follows from it
    Column("partition", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("kind", Text, nullable=False),
    # Of the order that the study was linked to.
    Column("order_uid", Text),
    # The study that series were moved out of; the decision is one of the study that has them now.
    Column("from_uid", Text),
    # The faults that were accepted, as pairs of rule and code; the values that were corrected, also
    # by a move, and its series.
    Column("content", JSONB, nullable=False, server_default="{}"),
    moment("decided_at"),
    Column("decided_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    # Whether clinicians saw the study, which undoing restores.
    Column("visible_before", Boolean, nullable=False, server_default="false"),
    # Of the journal entry that takes it back.
    Column("undoing_id", Uuid),
    moment("undone_at", nullable=True),
    Column("undone_by", Text),
    Column("undone_reason", Text),
    CheckConstraint(
        "kind IN ('link', 'accept', 'release', 'refuse', 'correct', 'move')", name="kind"
    ),
    Index(None, "partition", "study_instance_uid"),
    Index(
        "ix_decision_correction",
        "partition",
        "study_instance_uid",
        postgresql_where=text("kind = 'correct' AND undoing_id IS NULL"),
    ),
    Index(
        "ix_decision_order_uid",
        "partition",
        "order_uid",
        postgresql_where=text("order_uid IS NOT NULL"),
    ),
    Index(
        "ix_decision_from_uid",
        "partition",
        "from_uid",
        postgresql_where=text("from_uid IS NOT NULL"),
    ),
)

# The headers of corrected objects as they were sent; `header` has them as they are corrected.
sent_header = Table(
    "sent_header",
    metadata,
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
    Column("codec", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Objects of series that people moved: `object` says in which study they are, this in which they
# were sent, and which decisions moved them, in order.
moved_object = Table(
    "moved_object",
    metadata,
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
    Column("sent_study_instance_uid", Text, nullable=False),
    Column("moved_by", ARRAY(Uuid), nullable=False),
)
