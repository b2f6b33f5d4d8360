"""Tries a store: what is written is listed and comes back."""

import uuid

from gantry_stores.objects.protocol import ObjectNotFound, ObjectStore, StoreUnavailable

_CONTENT = b"probe"


def try_store(store: ObjectStore, name: str) -> None:
    """Write, list, read and delete one object. Raises `StoreUnavailable`, which calls it `name`."""
    key = f"probe/{uuid.uuid4().hex}"
    writer = store.create(key)
    try:
        writer.write([_CONTENT])
        writer.commit()
    finally:
        writer.abort()
    try:
        listed = [found.size for found in store.list(key)]
        if store.read(key) != _CONTENT or listed != [len(_CONTENT)]:
            raise StoreUnavailable(f"{name} does not return what was written")
    except ObjectNotFound as error:
        raise StoreUnavailable(f"{name} does not return what was written") from error
    finally:
        store.delete(key)
