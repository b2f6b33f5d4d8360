"""The first tables: object, patient, study, series, instance, header, finding, hours."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates everything."""
    op.create_table(
        "closed_hour",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("objects", sa.Integer(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_closed_hour")),
    )
    op.create_table(
        "object",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("relates_to", sa.Uuid(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("dataset_offset", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("transfer_syntax_uid", sa.Text, nullable=True),
        sa.Column("sop_class_uid", sa.Text, nullable=True),
        sa.Column("sop_instance_uid", sa.Text, nullable=True),
        sa.Column("study_instance_uid", sa.Text, nullable=True),
        sa.Column("series_instance_uid", sa.Text, nullable=True),
        sa.Column("calling_ae", sa.Text, nullable=True),
        sa.Column("called_ae", sa.Text, nullable=True),
        sa.Column("indexed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('primary', 'duplicate', 'conflict', 'unreadable')",
            name=op.f("ck_object_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object")),
    )
    op.create_index(
        "ix_object_not_primary",
        "object",
        ["state", "id"],
        unique=False,
        postgresql_where=sa.text("state <> 'primary'"),
    )
    op.create_index(
        op.f("ix_object_partition_sop_instance_uid"),
        "object",
        ["partition", "sop_instance_uid"],
        unique=False,
    )
    op.create_index(
        "ix_object_to_purge",
        "object",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'duplicate' AND reason = 'same_bytes'"),
    )
    op.create_table(
        "open_hour",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("objects", sa.Integer(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hour", name=op.f("pk_open_hour")),
    )
    op.create_table(
        "patient",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("source", sa.Uuid(), nullable=False),
        sa.Column("patient_name", sa.Text, nullable=True),
        sa.Column("patient_id", sa.Text, nullable=True),
        sa.Column("issuer_of_patient_id", sa.Text, nullable=True),
        sa.Column("patient_birth_date", sa.Text, nullable=True),
        sa.Column("patient_sex", sa.Text, nullable=True),
        sa.Column("attributes", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_patient")),
        sa.UniqueConstraint("partition", "identity", name=op.f("uq_patient_partition_identity")),
    )
    op.create_table(
        "finding",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("tag", sa.Text, nullable=True),
        sa.Column("detail", sa.Text, nullable=True),
        sa.CheckConstraint(
            "severity IN ('info', 'warning', 'error')", name=op.f("ck_finding_severity")
        ),
        sa.ForeignKeyConstraint(
            ["object_id"], ["object.id"], name=op.f("fk_finding_object_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_finding")),
    )
    op.create_index(op.f("ix_finding_object_id"), "finding", ["object_id"], unique=False)
    op.create_table(
        "header",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"], ["object.id"], name=op.f("fk_header_object_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_header")),
    )
    op.create_table(
        "study",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("patient_pk", sa.BigInteger(), nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("study_instance_uid", sa.Text, nullable=False),
        sa.Column("source", sa.Uuid(), nullable=False),
        sa.Column("patient_name", sa.Text, nullable=True),
        sa.Column("patient_id", sa.Text, nullable=True),
        sa.Column("issuer_of_patient_id", sa.Text, nullable=True),
        sa.Column("patient_birth_date", sa.Text, nullable=True),
        sa.Column("patient_sex", sa.Text, nullable=True),
        sa.Column("study_date", sa.Text, nullable=True),
        sa.Column("study_time", sa.Text, nullable=True),
        sa.Column("accession_number", sa.Text, nullable=True),
        sa.Column("study_id", sa.Text, nullable=True),
        sa.Column("referring_physician_name", sa.Text, nullable=True),
        sa.Column("study_description", sa.Text, nullable=True),
        sa.Column("attributes", postgresql.JSONB(), nullable=False),
        sa.Column(
            "modalities_in_study", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column(
            "sop_classes_in_study", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column(
            "number_of_study_related_series", sa.Integer(), server_default="0", nullable=False
        ),
        sa.Column(
            "number_of_study_related_instances", sa.Integer(), server_default="0", nullable=False
        ),
        sa.Column(
            "patient_name_grams", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False
        ),
        sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("judged_revision", sa.BigInteger(), nullable=True),
        sa.Column("verdict", sa.Text, nullable=True),
        sa.Column("visible", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("first_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("indexed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "verdict IN ('accepted', 'held', 'refused')", name=op.f("ck_study_verdict")
        ),
        sa.ForeignKeyConstraint(["patient_pk"], ["patient.pk"], name=op.f("fk_study_patient_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_study")),
        sa.UniqueConstraint(
            "partition", "study_instance_uid", name=op.f("uq_study_partition_study_instance_uid")
        ),
    )
    op.create_index(
        "ix_study_modalities_in_study",
        "study",
        ["modalities_in_study"],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(
        "ix_study_newest",
        "study",
        [
            "partition",
            sa.literal_column("coalesce(study_date, '') DESC"),
            sa.literal_column("coalesce(study_time, '') DESC"),
            sa.literal_column("study_instance_uid DESC"),
        ],
        unique=False,
        postgresql_where=sa.text("visible"),
    )
    op.create_index(
        "ix_study_not_judged",
        "study",
        ["pk"],
        unique=False,
        postgresql_where=sa.text("judged_revision IS NULL OR judged_revision < revision"),
    )
    op.create_index(
        op.f("ix_study_partition_accession_number"),
        "study",
        ["partition", "accession_number"],
        unique=False,
    )
    op.create_index(
        op.f("ix_study_partition_patient_id"), "study", ["partition", "patient_id"], unique=False
    )
    op.create_index(
        "ix_study_patient_name_grams",
        "study",
        ["patient_name_grams"],
        unique=False,
        postgresql_using="gin",
    )
    op.create_index(op.f("ix_study_patient_pk"), "study", ["patient_pk"], unique=False)
    op.create_table(
        "series",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("series_instance_uid", sa.Text, nullable=False),
        sa.Column("source", sa.Uuid(), nullable=False),
        sa.Column("modality", sa.Text, nullable=True),
        sa.Column("series_number", sa.Text, nullable=True),
        sa.Column("series_description", sa.Text, nullable=True),
        sa.Column("series_date", sa.Text, nullable=True),
        sa.Column("series_time", sa.Text, nullable=True),
        sa.Column("body_part_examined", sa.Text, nullable=True),
        sa.Column("protocol_name", sa.Text, nullable=True),
        sa.Column("institution_name", sa.Text, nullable=True),
        sa.Column("station_name", sa.Text, nullable=True),
        sa.Column("manufacturer", sa.Text, nullable=True),
        sa.Column("manufacturer_model_name", sa.Text, nullable=True),
        sa.Column("performing_physician_name", sa.Text, nullable=True),
        sa.Column("operators_name", sa.Text, nullable=True),
        sa.Column("performed_procedure_step_start_date", sa.Text, nullable=True),
        sa.Column("performed_procedure_step_start_time", sa.Text, nullable=True),
        sa.Column("attributes", postgresql.JSONB(), nullable=False),
        sa.Column(
            "sop_classes_in_series",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
        ),
        sa.Column(
            "number_of_series_related_instances", sa.Integer(), server_default="0", nullable=False
        ),
        sa.ForeignKeyConstraint(["study_pk"], ["study.pk"], name=op.f("fk_series_study_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_series")),
        sa.UniqueConstraint(
            "study_pk", "series_instance_uid", name=op.f("uq_series_study_pk_series_instance_uid")
        ),
    )
    op.create_index(
        op.f("ix_series_series_instance_uid"), "series", ["series_instance_uid"], unique=False
    )
    op.create_table(
        "instance",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("series_pk", sa.BigInteger(), nullable=False),
        sa.Column("partition", sa.Text, nullable=False),
        sa.Column("sop_instance_uid", sa.Text, nullable=False),
        sa.Column("sop_class_uid", sa.Text, nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("patient_identity", sa.Text, server_default="", nullable=False),
        sa.Column("instance_number", sa.Text, nullable=True),
        sa.Column("content_date", sa.Text, nullable=True),
        sa.Column("content_time", sa.Text, nullable=True),
        sa.Column("attributes", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_instance_object_id")),
        sa.ForeignKeyConstraint(["series_pk"], ["series.pk"], name=op.f("fk_instance_series_pk")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_instance")),
        sa.UniqueConstraint("object_id", name=op.f("uq_instance_object_id")),
        sa.UniqueConstraint(
            "partition", "sop_instance_uid", name=op.f("uq_instance_partition_sop_instance_uid")
        ),
    )
    op.create_index(
        op.f("ix_instance_series_pk_sop_class_uid"),
        "instance",
        ["series_pk", "sop_class_uid"],
        unique=False,
    )
    # A header is compressed already.
    op.execute("ALTER TABLE header ALTER COLUMN data SET STORAGE EXTERNAL")
