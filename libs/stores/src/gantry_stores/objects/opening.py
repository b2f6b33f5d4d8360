"""Opens the object store at its place: a folder or a bucket."""

from pathlib import Path

from gantry_domain.errors import ConfigurationError, TransientError
from gantry_domain.object_place import ObjectPlace
from gantry_stores.objects.directory import TEMPORARY, DirectoryStore
from gantry_stores.objects.protocol import ObjectStore, StoreUnavailable

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


def is_prepared(folder: Path) -> bool:
    """Whether a folder is there, and is one that `prepare_replacing` or `prepare_store` made so."""
    return (folder / TEMPORARY).is_dir()


def prepare_replacing(folder: Path) -> None:
    """Make a folder that is there one for `open_replacing`. Raises `StoreFull`, `StoreUnavailable`.

    To be said once of each: said again after it was unmounted it would hide that.
    """
    if not folder.is_dir():
        raise StoreUnavailable("its folder is not there")
    DirectoryStore(folder, create=True, replaces=True)


def open_replacing(place: ObjectPlace) -> ObjectStore:
    """The store at a place that is not ours alone: `commit` there replaces what has the key.

    Nothing is half there at any time: what was there before stays until the new is whole. An
    `abort` after a `commit` that failed leaves whichever is there. Raises, and is called, as
    `open_store`.
    """
    if isinstance(place, Path):
        return DirectoryStore(place, create=False, replaces=True)
    from gantry_stores.objects.s3 import S3Store

    return S3Store(place, replaces=True)


def open_store(place: ObjectPlace) -> ObjectStore:
    """The store that was prepared at this place. Raises `StoreUnavailable` where a folder is not.

    Called in the process that uses it, never before a fork.
    """
    if isinstance(place, Path):
        return DirectoryStore(place, create=False)
    from gantry_stores.objects.s3 import S3Store

    return S3Store(place)
