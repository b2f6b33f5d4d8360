"""How many objects are in which state."""

import sqlalchemy as sa

from gantry_archive.indexing import index_batch
from gantry_archive.reading import ReadingRules
from gantry_domain.duplicates import ObjectState
from gantry_stores.index.census import objects_by_state
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.objects import DirectoryStore
from gantry_testkit.stored import image, stage, with_changes


def test_objects_by_state(postgres_url, tmp_path):
    engine = make_engine(postgres_url)
    store = DirectoryStore(tmp_path)
    with transaction(engine) as connection:
        assert objects_by_state(connection) == dict.fromkeys(ObjectState, 0)
    ds = image()
    sent = [
        stage(store, ds),
        stage(store, ds),
        stage(store, with_changes(ds, PixelData=bytes(512))),
        stage(store, image()),
        stage(store, b"nothing"),
    ]
    index_batch([each.receipt for each in sent], store=store, engine=engine, rules=ReadingRules())
    expected = {
        ObjectState.PRIMARY: 2,
        ObjectState.DUPLICATE: 1,
        ObjectState.CONFLICT: 1,
        ObjectState.UNREADABLE: 1,
        ObjectState.DELETED: 0,
    }
    with transaction(engine) as connection:
        assert objects_by_state(connection) == expected
        # A large archive is not counted.
        connection.execute(
            sa.text("UPDATE pg_class SET reltuples = 5000003 WHERE oid = 'object'::regclass")
        )
        assert objects_by_state(connection) == expected | {ObjectState.PRIMARY: 5_000_000}
        connection.rollback()
    engine.dispose()
