"""What the rules look at beside the images: orders that change, and what people decided."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"

# Triggers, for orders change at many places, and a study whose order changed unseen would be held,
# or shown, for ever. They only write down what was touched; the worker finds the studies.
_ORDER = """
CREATE FUNCTION note_order_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.patient_pk, OLD.accession_number, OLD.study_instance_uid)
        IS NOT DISTINCT FROM (NEW.patient_pk, NEW.accession_number, NEW.study_instance_uid)
    THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO evidence_change (partition, accession_number, study_instance_uid)
        VALUES (OLD.partition, OLD.accession_number, OLD.study_instance_uid);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO evidence_change (partition, accession_number, study_instance_uid)
        VALUES (NEW.partition, NEW.accession_number, NEW.study_instance_uid);
    END IF;
    RETURN NULL;
END $$
"""
_PATIENT = """
CREATE FUNCTION note_order_patient_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO evidence_change (partition, accession_number, study_instance_uid)
    SELECT partition, accession_number, study_instance_uid FROM order_ WHERE patient_pk = NEW.pk;
    RETURN NULL;
END $$
"""
_STUDY = """
CREATE FUNCTION note_accession_given_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO evidence_change (partition, accession_number)
    VALUES (OLD.partition, OLD.accession_number);
    RETURN NULL;
END $$
"""
_TRIGGERS = (
    "CREATE TRIGGER order_changes AFTER INSERT OR UPDATE OR DELETE ON order_"
    " FOR EACH ROW EXECUTE FUNCTION note_order_change()",
    "CREATE TRIGGER order_patient_changes AFTER UPDATE OF attributes ON order_patient"
    " FOR EACH ROW WHEN (OLD.attributes IS DISTINCT FROM NEW.attributes)"
    " EXECUTE FUNCTION note_order_patient_change()",
    "CREATE TRIGGER accession_number_changes AFTER UPDATE OF accession_number ON study"
    " FOR EACH ROW WHEN (OLD.accession_number IS NOT NULL"
    " AND OLD.accession_number IS DISTINCT FROM NEW.accession_number)"
    " EXECUTE FUNCTION note_accession_given_up()",
    "CREATE TRIGGER accession_number_deleted AFTER DELETE ON study"
    " FOR EACH ROW WHEN (OLD.accession_number IS NOT NULL)"
    " EXECUTE FUNCTION note_accession_given_up()",
)


def upgrade() -> None:
    """Adds the tables, the column and the triggers."""
    op.add_column(
        "study",
        sa.Column("evidence_revision", sa.BigInteger(), server_default="0", nullable=False),
    )
    op.create_table(
        "evidence_change",
        sa.Column("pk", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=True),
        sa.Column("study_instance_uid", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_evidence_change")),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("order_uid", sa.Text(), nullable=True),
        sa.Column("content", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("visible_before", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("undoing_id", sa.Uuid(), nullable=True),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=True),
        sa.Column("undone_reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('link', 'accept', 'release', 'refuse')", name=op.f("ck_decision_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
    )
    op.create_index(
        op.f("ix_decision_partition_study_instance_uid"),
        "decision",
        ["partition", "study_instance_uid"],
    )
    op.create_index(
        "ix_decision_order_uid",
        "decision",
        ["partition", "order_uid"],
        postgresql_where=sa.text("order_uid IS NOT NULL"),
    )
    for statement in (_ORDER, _PATIENT, _STUDY, *_TRIGGERS):
        op.execute(statement)
