"""The table of lanes: destinations that are paused, or left alone because they do not answer."""

from sqlalchemy import Boolean, CheckConstraint, Column, Integer, Table, Text

from gantry_stores.index.columns import metadata, moment

# A destination without a row is sent to.
lane = Table(
    "lane",
    metadata,
    Column("destination", Text, primary_key=True),
    # By a person. Drained: what is being sent comes to its end.
    moment("paused_at", nullable=True),
    Column("drained", Boolean, nullable=False, server_default="false"),
    # Rounds in a row that found nobody; after a few nothing is tried but a C-ECHO, now and then.
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("probes", Integer, nullable=False, server_default="0"),
    moment("opened_at", nullable=True),
    moment("probe_at", nullable=True),
    Column("reason", Text),
    CheckConstraint("(opened_at IS NULL) = (probe_at IS NULL)", name="probed"),
)
