"""Identifiers with a wildcard in front are found by an index of trigrams, where that can be had."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """1,000,000 studies take some ten seconds, in which nothing is indexed.

    The extension belongs to PostgreSQL and is trusted: the owner of the database may create it.
    Without that right, or where it is not installed, such questions stay slow.
    """
    op.execute(
        """
        DO $$
        BEGIN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
            CREATE INDEX ix_study_trigrams ON study
                USING gin (patient_id gin_trgm_ops, accession_number gin_trgm_ops);
        EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file THEN
            RAISE WARNING 'pg_trgm cannot be created: wildcards in front of identifiers are slow';
        END
        $$
        """
    )
