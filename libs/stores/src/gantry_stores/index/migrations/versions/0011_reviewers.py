"""The index of studies, newest first, holds those too that only reviewers see."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Makes it anew: 1,000,000 studies take some seconds, in which nothing is indexed."""
    op.drop_index("ix_study_newest", table_name="study")
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
        postgresql_where=sa.text("visible OR verdict = 'held'"),
    )
