"""The tables of what tells when studies are complete: what we were asked to keep, how many images
senders told of, and how they pause."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from gantry_stores.index.columns import metadata, moment

# Until the study is complete. What came or went since has another revision, and then the row says
# nothing.
study_asked = Table(
    "study_asked",
    metadata,
    Column("study_pk", ForeignKey("study.pk", ondelete="CASCADE"), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("calling_ae", Text, nullable=False),
)

# How many instances a sender says that the study has.
study_told = Table(
    "study_told",
    metadata,
    Column("study_pk", ForeignKey("study.pk", ondelete="CASCADE"), primary_key=True),
    Column("calling_ae", Text, primary_key=True),
    Column("instances", Integer, nullable=False),
)

# A row for each partner that is learned of: the last studies and their longest pauses.
partner_pauses = Table(
    "partner_pauses",
    metadata,
    Column("calling_ae", Text, primary_key=True),
    Column("studies", JSONB, nullable=False),  # [[study_pk, milliseconds], ...], oldest first
    moment("updated_at"),
)
