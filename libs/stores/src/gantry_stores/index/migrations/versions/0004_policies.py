"""What the policies say of studies, and by which of them each was judged."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds them; every study that is there already is judged anew."""
    op.add_column("study", sa.Column("judged_by", sa.Text(), nullable=True))
    op.create_index("ix_study_judged_by", "study", ["judged_by"], unique=False)
    op.create_index(
        "ix_study_not_accepted",
        "study",
        ["verdict", "pk"],
        unique=False,
        postgresql_where=sa.text("verdict <> 'accepted'"),
    )
    op.create_index(
        "ix_study_not_complete",
        "study",
        ["indexed_at", "pk"],
        unique=False,
        postgresql_where=sa.text("completed_revision IS NULL OR completed_revision < revision"),
    )
    op.drop_index("ix_study_not_routed", "study")
    op.create_index(
        "ix_study_not_routed",
        "study",
        ["pk"],
        unique=False,
        postgresql_where=sa.text(
            "verdict = 'accepted' AND (routed_revision IS NULL OR routed_revision < revision)"
        ),
    )
    op.create_table(
        "study_finding",
        sa.Column("study_pk", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "severity IN ('info', 'warning', 'error')", name=op.f("ck_study_finding_severity")
        ),
        sa.ForeignKeyConstraint(
            ["study_pk"], ["study.pk"], name=op.f("fk_study_finding_study_pk"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("study_pk", "place", name=op.f("pk_study_finding")),
    )
