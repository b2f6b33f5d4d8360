"""The tables of orders, beside those of images.

    order_patient 1-n order_ 1-n order_step n-m performed_step
    performed_report    worklist_poll    polled_order    hl7_message

A row of `order_` is a requested procedure. Searchable columns follow
`gantry_domain.orders.attributes`, their text is as in the other tables; `attributes` has all of a
place, in the DICOM JSON model.
"""

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
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from gantry_domain.orders.attributes import Place, searchable_attributes
from gantry_stores.index.columns import metadata, moment, surrogate


def _searchable(place: Place) -> list[Column[str]]:
    return [Column(attribute.column, Text) for attribute in searchable_attributes(place)]


order_patient = Table(
    "order_patient",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    # PatientID and issuer, as JSON.
    Column("identity", Text, nullable=False),
    *_searchable(Place.PATIENT),
    Column("attributes", JSONB, nullable=False),
    # Whose orders are those that still come under this identifier.
    Column("merged_into", ForeignKey("order_patient.pk"), index=True),
    moment("updated_at"),
    UniqueConstraint("partition", "identity"),
)

order_ = Table(
    "order_",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    Column("patient_pk", ForeignKey("order_patient.pk"), nullable=False, index=True),
    Column("study_instance_uid", Text, nullable=False),
    # Whether somebody told the Requested Procedure ID, by which two procedures differ.
    Column("procedure_told", Boolean, nullable=False),
    *_searchable(Place.ORDER),
    Column("attributes", JSONB, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    Index(None, "partition", "accession_number"),
    Index("ix_order__placer", "partition", "placer_order_number_imaging_service_request"),
    Index("ix_order__filler", "partition", "filler_order_number_imaging_service_request"),
    Index(None, "partition", "study_instance_uid"),
)

order_step = Table(
    "order_step",
    metadata,
    surrogate(),
    Column("order_pk", ForeignKey("order_.pk", ondelete="CASCADE"), nullable=False),
    Column("partition", Text, nullable=False),
    Column("position", SmallInteger, nullable=False),
    # Whether somebody told the Scheduled Procedure Step ID.
    Column("number_told", Boolean, nullable=False),
    Column("state", Text, nullable=False, server_default="scheduled"),
    Column("scheduled_station_ae_title", ARRAY(Text), nullable=False, server_default="{}"),
    *_searchable(Place.STEP),
    Column("attributes", JSONB, nullable=False),
    moment("updated_at"),
    UniqueConstraint("order_pk", "position"),
    CheckConstraint(
        "state IN ('scheduled', 'arrived', 'in_progress', 'completed', 'discontinued',"
        " 'cancelled')",
        name="state",
    ),
    # The order of a worklist; in this form one comparison of rows continues a page.
    Index(
        "ix_order_step_worklist",
        "partition",
        text("coalesce(scheduled_procedure_step_start_date, '')"),
        text("coalesce(scheduled_procedure_step_start_time, '')"),
        "pk",
        postgresql_where=text("state IN ('scheduled', 'arrived', 'in_progress')"),
    ),
)

# A performed procedure step, as the modality tells it.
performed_step = Table(
    "performed_step",
    metadata,
    surrogate(),
    Column("partition", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    # What it says it made: an object of the archive is expected for each.
    Column("instances", Integer, nullable=False, server_default="0"),
    Column("study_instance_uids", ARRAY(Text), nullable=False, server_default="{}"),
    Column("attributes", JSONB, nullable=False),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("partition", "sop_instance_uid"),
    # Since when its studies wait for it no longer.
    moment("settled_at", nullable=True),
    CheckConstraint("state IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')", name="state"),
    Index(
        "ix_performed_step_unsettled",
        "study_instance_uids",
        postgresql_using="gin",
        postgresql_where=text("settled_at IS NULL"),
    ),
    Index("ix_performed_step_unsettled_pk", "pk", postgresql_where=text("settled_at IS NULL")),
)

performed_for = Table(
    "performed_for",
    metadata,
    Column("step_pk", ForeignKey("order_step.pk", ondelete="CASCADE"), primary_key=True),
    Column(
        "performed_pk",
        ForeignKey("performed_step.pk", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)

# What other systems are told of performed steps, as the modality told it, until they took it.
performed_report = Table(
    "performed_report",
    metadata,
    surrogate(),
    Column("destination", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("transfer_syntax", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("reason", Text),
    moment("created_at"),
    moment("due_at"),
    moment("claimed_until", nullable=True),
    # Since when it is not sent again by itself.
    moment("refused_at", nullable=True),
    CheckConstraint("operation IN ('create', 'set')", name="operation"),
    Index(None, "destination", "sop_instance_uid"),
)

# Other systems whose worklists are polled.
worklist_poll = Table(
    "worklist_poll",
    metadata,
    Column("source", Text, primary_key=True),
    moment("due_at"),
    # The last one that succeeded.
    moment("polled_at", nullable=True),
    Column("failure", Text),
)

# What they told of last, so that only changes are made, and what is gone is noticed.
polled_order = Table(
    "polled_order",
    metadata,
    Column("source", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("numbers", JSONB, nullable=False),
    Column("last_day", Text, nullable=False),
    Column("missed", Integer, nullable=False),
)

# Messages as they came, kept for a while.
hl7_message = Table(
    "hl7_message",
    metadata,
    surrogate(),
    moment("received_at"),
    Column("partition", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("sending_application", Text, nullable=False),  # MSH-3
    Column("sending_facility", Text, nullable=False),  # MSH-4
    Column("control_id", Text, nullable=False),  # MSH-10
    Column("kind", Text, nullable=False),  # such as ORM^O01
    Column("sha256", LargeBinary, nullable=False),
    Column("ack", Text, nullable=False),
    Column("reason", Text),
    Column("findings", ARRAY(Text), nullable=False, server_default="{}"),
    Column("content", LargeBinary, nullable=False),
    CheckConstraint("ack IN ('AA', 'AE', 'AR')", name="ack"),
    Index(None, "received_at"),
    # What was accepted once is acknowledged again, and has no effect.
    Index(
        "uq_hl7_message_accepted",
        "sending_application",
        "sending_facility",
        "control_id",
        "sha256",
        unique=True,
        postgresql_where=text("ack = 'AA'"),
    ),
)
