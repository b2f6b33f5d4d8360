"""The index in PostgreSQL: schema, migrations, writes and search."""
