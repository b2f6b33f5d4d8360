"""The tables of the index.

Searchable columns and returned attributes follow `gantry_domain.attributes`:

    patient 1-n study 1-n series 1-n instance 1-1 object 1-1 header
                study 1-n study_finding           object 1-n finding

`pk` columns are surrogates; nothing outside the database knows them. Text in searchable columns
is as `gantry_domain.levels` makes it: free of NUL, bounded, names folded, dates and times padded.
`attributes` holds each level's attributes in full (a study's those of its patient too), in the
DICOM JSON model, from the object named in `source`: the lowest identifier among the level's
primaries, so that the order of indexing makes no difference.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from gantry_domain.attributes import Level, Matching, attributes_at
from gantry_stores.index.columns import metadata, moment, surrogate
from gantry_stores.index.commitment_tables import commitment
from gantry_stores.index.delivery_tables import delivery, delivery_item
from gantry_stores.index.identity_tables import decision
from gantry_stores.index.lane_tables import lane
from gantry_stores.index.order_tables import order_
from gantry_stores.index.proof_tables import proof
from gantry_stores.index.quiet_tables import partner_pauses, study_asked, study_told
from gantry_stores.index.rejection_tables import rejection_note
from gantry_stores.index.subscriber_tables import subscriber
from gantry_stores.index.tables_beside import deletion

__all__ = [
    "commitment",
    "decision",
    "deletion",
    "delivery",
    "delivery_item",
    "lane",
    "metadata",
    "order_",
    "partner_pauses",
    "proof",
    "rejection_note",
    "study_asked",
    "study_told",
    "subscriber",
]


def _searchable(*levels: Level) -> list[Column[str]]:
    """A column for each attribute that a header gives and that can be matched."""
    return [
        Column(attribute.column, Text)
        for attribute in attributes_at(*levels)
        if attribute.matching and not attribute.computed and attribute.matching is not Matching.UID
    ]


# One row per stored key, whatever became of it.
object_ = Table(
    "object",
    metadata,
    Column("id", Uuid, primary_key=True),  # the key follows from it: gantry_domain.keys
    Column("partition", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),  # why it is not primary: a slug
    # The object that the reason is about: what has the same bytes, what it differs from.
    Column("relates_to", Uuid),
    Column("size", BigInteger, nullable=False),  # bytes of the whole file
    Column("dataset_offset", Integer),  # bytes of preamble and file meta
    Column("sha256", LargeBinary),  # of the data set as sent
    Column("transfer_syntax_uid", Text),
    Column("sop_class_uid", Text),
    Column("sop_instance_uid", Text),
    # Where it is; `moved_object` has the study that it was sent in, if that is another one.
    Column("study_instance_uid", Text),
    Column("series_instance_uid", Text),
    Column("calling_ae", Text),
    Column("called_ae", Text),
    moment("indexed_at"),
    CheckConstraint(
        "state IN ('primary', 'duplicate', 'conflict', 'unreadable', 'deleted')", name="state"
    ),
    Index(None, "partition", "sop_instance_uid"),
    Index("ix_object_not_primary", "state", "id", postgresql_where=text("state <> 'primary'")),
    Index(
        "ix_object_to_purge",
        "id",
        postgresql_where=text("state = 'duplicate' AND reason = 'same_bytes'"),
    ),
)

patient = Table(
    "patient",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    # PatientID and its issuer, or the study's UID where there is no PatientID, for two studies
    # without one are not of the same person.
    Column("identity", Text, nullable=False),
    Column("source", Uuid, nullable=False),
    *_searchable(Level.PATIENT),
    Column("attributes", JSONB, nullable=False),
    UniqueConstraint("partition", "identity"),
)

study = Table(
    "study",
    metadata,
    surrogate(),
    Column("patient_pk", ForeignKey("patient.pk"), nullable=False, index=True),
    Column("partition", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("source", Uuid, nullable=False),
    # A study says of its patient what its own images say, which another study may contradict.
    *_searchable(Level.PATIENT, Level.STUDY),
    Column("attributes", JSONB, nullable=False),
    Column("modalities_in_study", ARRAY(Text), nullable=False, server_default="{}"),
    Column("sop_classes_in_study", ARRAY(Text), nullable=False, server_default="{}"),
    Column("number_of_study_related_series", Integer, nullable=False, server_default="0"),
    Column("number_of_study_related_instances", Integer, nullable=False, server_default="0"),
    # 1- and 2-grams of all component groups, in lower case; trigrams do not serve Chinese.
    Column("patient_name_grams", ARRAY(Text), nullable=False, server_default="{}"),
    # By what the name is found loosely: gantry_domain.loose_names. An older Gantry leaves it out.
    Column("patient_name_beginnings", ARRAY(Text)),
    # Each index transaction increments the revision; a verdict holds for the one it names.
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("judged_revision", BigInteger),
    # Incremented when what the rules look at beside the images changed: an order, a decision. A
    # verdict holds for the one it names of this, too.
    Column("evidence_revision", BigInteger, nullable=False, server_default="0"),
    # The fingerprint of the policies that it was judged by; absent where it is to be judged anew.
    Column("judged_by", Text),
    Column("verdict", Text),
    Column("visible", Boolean, nullable=False, server_default="false"),
    # Whether corrections stand, or it has moved series: what is asked for only then costs nobody
    # else anything.
    Column("corrected", Boolean, nullable=False, server_default="false"),
    # The revision at which its quiet time was over, and when that was.
    Column("completed_revision", BigInteger),
    moment("completed_at", nullable=True),
    # Up to which revision the routes were asked where the study goes.
    Column("routed_revision", BigInteger),
    # The same of what leaves before it is complete, and when its series are to be looked at again.
    Column("asked_revision", BigInteger),
    moment("series_due_at", nullable=True),
    moment("first_received_at"),
    moment("last_received_at"),
    moment("indexed_at"),
    UniqueConstraint("partition", "study_instance_uid"),
    CheckConstraint("verdict IN ('accepted', 'held', 'refused')", name="verdict"),
    # The default order, newest study first: in this form one comparison of rows continues a page,
    # and the order is the same after a reindex.
    Index(
        "ix_study_newest",
        "partition",
        text("coalesce(study_date, '') DESC"),
        text("coalesce(study_time, '') DESC"),
        text("study_instance_uid DESC"),
        # Those that are held and hidden are few, and reviewers see them.
        postgresql_where=text("visible OR verdict = 'held'"),
    ),
    Index(None, "partition", "patient_id"),
    Index(None, "partition", "accession_number"),
    Index("ix_study_patient_name_grams", "patient_name_grams", postgresql_using="gin"),
    Index("ix_study_patient_name_beginnings", "patient_name_beginnings", postgresql_using="gin"),
    Index(
        "ix_study_without_beginnings",
        "pk",
        postgresql_where=text("patient_name_beginnings IS NULL"),
    ),
    # What has a wildcard in front is found by these; the extension may be missing, for all that is
    # lost then is speed.
    Index(
        "ix_study_trigrams",
        "patient_id",
        "accession_number",
        postgresql_using="gin",
        postgresql_ops={"patient_id": "gin_trgm_ops", "accession_number": "gin_trgm_ops"},
    ),
    Index("ix_study_modalities_in_study", "modalities_in_study", postgresql_using="gin"),
    Index(
        "ix_study_not_judged",
        "pk",
        postgresql_where=text("judged_revision IS NULL OR judged_revision < revision"),
    ),
    Index("ix_study_judged_by", "judged_by"),
    Index(
        "ix_study_not_accepted",
        "verdict",
        "pk",
        postgresql_where=text("verdict <> 'accepted'"),
    ),
    Index(
        "ix_study_not_complete",
        "indexed_at",
        "pk",
        postgresql_where=text("completed_revision IS NULL OR completed_revision < revision"),
    ),
    Index(
        "ix_study_coming",
        "pk",
        # Few: of the others routes are asked once.
        postgresql_where=text(
            "verdict = 'accepted' AND (completed_revision IS NULL OR completed_revision < revision)"
        ),
    ),
    Index(
        "ix_study_not_routed",
        "pk",
        # Held ones may wait for years, and the routes are asked twice a second.
        postgresql_where=text(
            "verdict = 'accepted' AND (routed_revision IS NULL OR routed_revision < revision)"
        ),
    ),
)

series = Table(
    "series",
    metadata,
    surrogate(),
    Column("study_pk", ForeignKey("study.pk"), nullable=False),
    Column("series_instance_uid", Text, nullable=False, index=True),
    Column("source", Uuid, nullable=False),
    *_searchable(Level.SERIES),
    Column("attributes", JSONB, nullable=False),
    Column("sop_classes_in_series", ARRAY(Text), nullable=False, server_default="{}"),
    Column("number_of_series_related_instances", Integer, nullable=False, server_default="0"),
    UniqueConstraint("study_pk", "series_instance_uid"),
)

instance = Table(
    "instance",
    metadata,
    surrogate(),
    Column("series_pk", ForeignKey("series.pk"), nullable=False),
    Column("partition", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("object_id", ForeignKey("object.id"), nullable=False, unique=True),
    # What `patient.identity` would be if this instance were the source of its study.
    Column("patient_identity", Text, nullable=False, server_default=""),
    *_searchable(Level.INSTANCE),
    Column("attributes", JSONB, nullable=False),
    UniqueConstraint("partition", "sop_instance_uid"),
    # Counts and classes of a series come from the index alone.
    Index(None, "series_pk", "sop_class_uid"),
)

# The whole header of each readable object: compressed DICOM JSON, apart from the rows that
# searches read. `codec` names how `data` is made: gantry_stores.index.headers.
header = Table(
    "header",
    metadata,
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
    Column("codec", SmallInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # Where its frames are: gantry_stores.index.frame_tables. Absent where that is still due.
    Column("frames", LargeBinary),
)

# Objects whose frames take more than the header to find: the fragments of many frames.
frames_due = Table(
    "frames_due",
    metadata,
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), primary_key=True),
)

# What the policies say of a study at its judged revision, in the order of the rules.
study_finding = Table(
    "study_finding",
    metadata,
    Column("study_pk", ForeignKey("study.pk", ondelete="CASCADE"), primary_key=True),
    Column("place", SmallInteger, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    CheckConstraint("severity IN ('info', 'warning', 'error')", name="severity"),
)

# What is odd about an object.
finding = Table(
    "finding",
    metadata,
    surrogate(),
    Column("object_id", ForeignKey("object.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("rule", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("tag", Text),
    Column("detail", Text),
    CheckConstraint("severity IN ('info', 'warning', 'error')", name="severity"),
)

# Hours of the object store in which every key is known to have its row, and never needs a look.
closed_hour = Table(
    "closed_hour",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("objects", Integer, nullable=False),
    moment("closed_at"),
)

# Hours that the sweep still looks at; the older ones less and less often.
open_hour = Table(
    "open_hour",
    metadata,
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("objects", Integer, nullable=False),  # keys seen at the last look
    Column("missing", Integer, nullable=False),  # of them without a row
    moment("looked_at"),
)

# Objects whose indexing was begun with care and has not ended: their process may have died of them.
suspect = Table(
    "suspect",
    metadata,
    Column("object_id", Uuid, primary_key=True),
    # Those at the object alone, counted before each begins.
    Column("attempts", Integer, nullable=False),
)

# One row: when the index was made. What was stored before and is found again, as after the loss of
# the database, is not forwarded by itself. And up to when, as the sweep last saw, nothing that was
# received waits for its row.
beginning = Table(
    "beginning",
    metadata,
    Column("began_at", DateTime(timezone=True), primary_key=True),
    moment("all_indexed_until", nullable=True),
)
