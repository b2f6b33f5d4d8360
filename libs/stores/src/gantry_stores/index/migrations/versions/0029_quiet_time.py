"""What tells when studies are complete: who asked us to keep all of one, how many images senders
told of, and how they pause."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Adds the tables; of what was before nothing is known."""
    op.create_table(
        "study_asked",
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_pk"],
            ["study.pk"],
            name=op.f("fk_study_asked_study_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_pk", name=op.f("pk_study_asked")),
    )
    op.create_table(
        "partner_pauses",
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("studies", postgresql.JSONB(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("calling_ae", name=op.f("pk_partner_pauses")),
    )
    op.create_table(
        "study_told",
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_pk"],
            ["study.pk"],
            name=op.f("fk_study_told_study_pk"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("study_pk", "calling_ae", name=op.f("pk_study_told")),
    )
