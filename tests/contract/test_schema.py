"""The migrations of the index against real PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gantry_domain.errors import ConfigurationError
from gantry_stores.index import migrations
from gantry_stores.index.database import IndexUnavailable, make_engine, transaction
from gantry_stores.index.schema import metadata
from gantry_testkit.postgres import PostgresServer


def test_migrated_database_equals_the_schema(postgres_url):
    engine = make_engine(postgres_url)
    with transaction(engine) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_index_definitions_are_those_of_the_schema(postgres_url, empty_database_url):
    """Alembic does not compare expressions, predicates and methods; PostgreSQL's own text does."""
    migrated, created = make_engine(postgres_url), make_engine(empty_database_url)
    with transaction(created) as connection:
        connection.execute(sa.text("CREATE EXTENSION pg_trgm"))
        metadata.create_all(connection)

    def definitions(engine):
        with transaction(engine) as connection:
            indexes = connection.execute(
                sa.text(
                    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
                    " AND tablename <> 'alembic_version'"
                )
            )
            checks = connection.execute(
                sa.text(
                    "SELECT conrelid::regclass || ' ' || conname || ' ' ||"
                    " pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE connamespace = 'public'::regnamespace"
                    " AND conrelid <> coalesce(to_regclass('alembic_version'), 0)"
                )
            )
            return sorted(indexes.scalars()), sorted(checks.scalars())

    assert definitions(migrated) == definitions(created)
    migrated.dispose()
    created.dispose()


def test_without_the_right_to_create_extensions_only_an_index_is_missing(
    empty_database_url,
):
    owner = make_engine(empty_database_url)
    with transaction(owner) as connection:
        connection.execute(sa.text("CREATE ROLE tenant LOGIN"))
        connection.execute(sa.text("GRANT CREATE ON SCHEMA public TO tenant"))
    url = sa.make_url(empty_database_url).set(username="tenant")
    migrations.upgrade(url.render_as_string(hide_password=False))
    assert migrations.is_current(empty_database_url)
    with transaction(owner) as connection:
        found = connection.scalars(
            sa.text("SELECT indexname FROM pg_indexes WHERE indexname ~ 'trigrams|newest'")
        )
        assert found.all() == ["ix_study_newest"]
        connection.execute(sa.text("DROP OWNED BY tenant"))
        connection.execute(sa.text("DROP ROLE tenant"))
    owner.dispose()


def test_headers_are_stored_uncompressed_out_of_line(postgres_url):
    engine = make_engine(postgres_url)
    with transaction(engine) as connection:
        storage = connection.scalar(
            sa.text(
                "SELECT attstorage FROM pg_attribute"
                " WHERE attrelid = 'header'::regclass AND attname = 'data'"
            )
        )
    assert storage == "e"
    engine.dispose()


def test_upgrade_twice_changes_nothing(postgres_url):
    assert migrations.is_current(postgres_url)
    migrations.upgrade(postgres_url)
    assert migrations.is_current(postgres_url)


def test_many_processes_may_upgrade_at_once(empty_database_url):
    assert not migrations.is_current(empty_database_url)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrations.upgrade, [empty_database_url] * 4))
    assert migrations.is_current(empty_database_url)


def test_a_newer_database_is_refused_by_name(postgres_url):
    engine = make_engine(postgres_url)
    with transaction(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(migrations.NewerSchema, match="newer Gantry"):
        migrations.upgrade(postgres_url)
    with pytest.raises(ConfigurationError):
        migrations.is_current(postgres_url)


def test_a_database_that_is_away_is_a_transient_error(tmp_path):
    with pytest.raises(IndexUnavailable):
        migrations.upgrade(f"postgresql+psycopg://gantry@/gantry?host={tmp_path}")


def test_a_stopped_server_is_transient_and_comes_back():
    server = PostgresServer()
    try:
        engine = make_engine(server.create_database("db"))
        with transaction(engine) as connection:
            connection.execute(sa.text("SELECT 1"))
        server.stop()
        for _ in range(2):
            with pytest.raises(IndexUnavailable), transaction(engine) as connection:
                connection.execute(sa.text("SELECT 1"))
        server.start()
        with transaction(engine) as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
        engine.dispose()
    finally:
        server.close()
