"""Alembic's entry: runs the revisions on the connection that `upgrade` opened."""

from alembic import context

from gantry_stores.index.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
