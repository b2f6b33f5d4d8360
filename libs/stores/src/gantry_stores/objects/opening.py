"""Opens the object store at its place: a folder or a bucket."""

from pathlib import Path

from gantry_domain.errors import ConfigurationError, TransientError
from gantry_domain.object_place import ObjectPlace
from gantry_stores.objects.directory import DirectoryStore
from gantry_stores.objects.protocol import ObjectStore

# What speaks S3 is imported where there is a bucket: boto3 takes longer than all the rest, and each
# of a dozen processes would wait for it.


def prepare_store(place: ObjectPlace) -> None:
    """Once, at the start: make the store if need be, and refuse what cannot be one.

    Raises `ConfigurationError`.
    """
    if not isinstance(place, Path):
        from gantry_stores.objects.bucket import prepare_bucket

        prepare_bucket(place)
        return
    try:
        DirectoryStore(place, create=True)
    except TransientError as error:
        raise ConfigurationError(f"{place}: {error}") from error


def open_store(place: ObjectPlace) -> ObjectStore:
    """The store that was prepared at this place. Raises `StoreUnavailable` where a folder is not.

    Called in the process that uses it, never before a fork.
    """
    if isinstance(place, Path):
        return DirectoryStore(place, create=False)
    from gantry_stores.objects.s3 import S3Store

    return S3Store(place)
