"""The object store: write once under a key, read by range, list in key order."""

from gantry_stores.objects.directory import DirectoryStore
from gantry_stores.objects.opening import open_store, prepare_store
from gantry_stores.objects.protocol import (
    InvalidKey,
    ObjectExists,
    ObjectLost,
    ObjectNotFound,
    ObjectStat,
    ObjectStore,
    ObjectWriter,
    StoreFull,
    StoreUnavailable,
)

__all__ = [
    "DirectoryStore",
    "InvalidKey",
    "ObjectExists",
    "ObjectLost",
    "ObjectNotFound",
    "ObjectStat",
    "ObjectStore",
    "ObjectWriter",
    "StoreFull",
    "StoreUnavailable",
    "open_store",
    "prepare_store",
]
