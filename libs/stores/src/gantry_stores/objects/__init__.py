"""The object store: write once under a key, read by range, list in key order."""

from gantry_stores.objects.directory import TEMPORARY, DirectoryStore
from gantry_stores.objects.opening import (
    is_prepared,
    open_replacing,
    open_store,
    prepare_replacing,
    prepare_store,
)
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
    "TEMPORARY",
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
    "is_prepared",
    "open_replacing",
    "open_store",
    "prepare_replacing",
    "prepare_store",
]
