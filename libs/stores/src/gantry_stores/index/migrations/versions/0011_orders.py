"""Orders: their patients, steps, what was performed for them, and the messages of HL7."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text(), nullable=True) for name in names]


def _moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _must(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _pk() -> sa.Column[int]:
    return sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False)


def _texts(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False)


def _json() -> sa.Column[object]:
    return sa.Column("attributes", postgresql.JSONB(), nullable=False)


def upgrade() -> None:
    """Adds the tables."""
    op.create_table(
        "order_patient",
        _pk(),
        _must("partition"),
        _must("identity"),
        *_text(
            "patient_name",
            "patient_id",
            "issuer_of_patient_id",
            "patient_birth_date",
            "patient_sex",
        ),
        _json(),
        sa.Column("merged_into", sa.BigInteger(), nullable=True),
        _moment("updated_at"),
        sa.ForeignKeyConstraint(
            ["merged_into"], ["order_patient.pk"], name=op.f("fk_order_patient_merged_into")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_order_patient")),
        sa.UniqueConstraint(
            "partition", "identity", name=op.f("uq_order_patient_partition_identity")
        ),
    )
    op.create_index(op.f("ix_order_patient_merged_into"), "order_patient", ["merged_into"])
    op.create_table(
        "order_",
        _pk(),
        _must("partition"),
        sa.Column("patient_pk", sa.BigInteger(), nullable=False),
        _must("study_instance_uid"),
        sa.Column("procedure_told", sa.Boolean(), nullable=False),
        *_text(
            "accession_number",
            "referring_physician_name",
            "requesting_physician",
            "requesting_service",
            "admission_id",
            "current_patient_location",
            "placer_order_number_imaging_service_request",
            "filler_order_number_imaging_service_request",
            "requested_procedure_id",
            "requested_procedure_description",
            "requested_procedure_priority",
        ),
        _json(),
        _moment("created_at"),
        _moment("updated_at"),
        sa.ForeignKeyConstraint(
            ["patient_pk"], ["order_patient.pk"], name=op.f("fk_order__patient_pk")
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_order_")),
    )
    op.create_index(op.f("ix_order__patient_pk"), "order_", ["patient_pk"])
    for name, column in (
        (op.f("ix_order__partition_accession_number"), "accession_number"),
        ("ix_order__placer", "placer_order_number_imaging_service_request"),
        ("ix_order__filler", "filler_order_number_imaging_service_request"),
        (op.f("ix_order__partition_study_instance_uid"), "study_instance_uid"),
    ):
        op.create_index(name, "order_", ["partition", column])
    op.create_table(
        "order_step",
        _pk(),
        sa.Column("order_pk", sa.BigInteger(), nullable=False),
        _must("partition"),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("number_told", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), server_default="scheduled", nullable=False),
        _texts("scheduled_station_ae_title"),
        *_text(
            "modality",
            "scheduled_station_name",
            "scheduled_procedure_step_location",
            "scheduled_procedure_step_start_date",
            "scheduled_procedure_step_start_time",
            "scheduled_performing_physician_name",
            "scheduled_procedure_step_description",
            "scheduled_procedure_step_id",
        ),
        _json(),
        _moment("updated_at"),
        sa.CheckConstraint(
            "state IN ('scheduled', 'arrived', 'in_progress', 'completed', 'discontinued',"
            " 'cancelled')",
            name=op.f("ck_order_step_state"),
        ),
        sa.ForeignKeyConstraint(
            ["order_pk"], ["order_.pk"], name=op.f("fk_order_step_order_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_order_step")),
        sa.UniqueConstraint("order_pk", "position", name=op.f("uq_order_step_order_pk_position")),
    )
    op.create_index(
        "ix_order_step_worklist",
        "order_step",
        [
            "partition",
            sa.text("coalesce(scheduled_procedure_step_start_date, '')"),
            sa.text("coalesce(scheduled_procedure_step_start_time, '')"),
            "pk",
        ],
        postgresql_where=sa.text("state IN ('scheduled', 'arrived', 'in_progress')"),
    )
    op.create_table(
        "performed_step",
        _pk(),
        _must("partition"),
        _must("sop_instance_uid"),
        _must("state"),
        _must("calling_ae"),
        sa.Column("instances", sa.Integer(), server_default="0", nullable=False),
        _texts("study_instance_uids"),
        _json(),
        _moment("created_at"),
        _moment("updated_at"),
        sa.CheckConstraint(
            "state IN ('IN PROGRESS', 'COMPLETED', 'DISCONTINUED')",
            name=op.f("ck_performed_step_state"),
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_performed_step")),
        sa.UniqueConstraint(
            "partition",
            "sop_instance_uid",
            name=op.f("uq_performed_step_partition_sop_instance_uid"),
        ),
    )
    op.create_table(
        "performed_for",
        sa.Column("step_pk", sa.BigInteger(), nullable=False),
        sa.Column("performed_pk", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["step_pk"],
            ["order_step.pk"],
            name=op.f("fk_performed_for_step_pk"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["performed_pk"],
            ["performed_step.pk"],
            name=op.f("fk_performed_for_performed_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("step_pk", "performed_pk", name=op.f("pk_performed_for")),
    )
    op.create_index(op.f("ix_performed_for_performed_pk"), "performed_for", ["performed_pk"])
    op.create_table(
        "hl7_message",
        _pk(),
        _moment("received_at"),
        *(
            _must(name)
            for name in (
                "partition",
                "host",
                "sending_application",
                "sending_facility",
                "control_id",
                "kind",
            )
        ),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        _must("ack"),
        *_text("reason"),
        _texts("findings"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("ack IN ('AA', 'AE', 'AR')", name=op.f("ck_hl7_message_ack")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_hl7_message")),
    )
    op.create_index(op.f("ix_hl7_message_received_at"), "hl7_message", ["received_at"])
    op.create_index(
        "uq_hl7_message_accepted",
        "hl7_message",
        ["sending_application", "sending_facility", "control_id", "sha256"],
        unique=True,
        postgresql_where=sa.text("ack = 'AA'"),
    )
