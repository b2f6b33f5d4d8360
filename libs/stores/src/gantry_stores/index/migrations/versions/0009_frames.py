"""Where the frames of each object are, beside its header."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Adds it; of what is indexed already frames are looked for whenever they are asked for."""
    op.add_column("header", sa.Column("frames", sa.LargeBinary(), nullable=True))
    op.create_table(
        "frames_due",
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("object_id", name=op.f("pk_frames_due")),
        sa.ForeignKeyConstraint(
            ["object_id"],
            ["object.id"],
            name=op.f("fk_frames_due_object_id"),
            ondelete="CASCADE",
        ),
    )
