"""Lists of storage classes in the configuration: which alone are taken, of all or of a partner."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from gantry_runtime.values import UniqueIdentifier


def _some_class(uids: tuple[str, ...]) -> tuple[str, ...]:
    if not uids:
        raise ValueError("an empty list accepts nothing; leave the key out to accept all")
    return uids


StorageClasses = Annotated[
    tuple[UniqueIdentifier, ...], Field(strict=False), AfterValidator(_some_class)
]


def check_storage_classes(
    wanted: Iterable[tuple[str, tuple[str, ...] | None]], private: Iterable[str]
) -> None:
    """Each list has only classes that can be stored: known ones, and these private ones.

    `wanted`: the key of each list and what stands there. Raises `ValueError`.
    """
    lists = [(key, uids) for key, uids in wanted if uids]
    if not lists:
        return
    # The table comes with all of pydicom, which supervisors and commands do without.
    from gantry_domain.sop_classes import STORAGE_CLASSES

    known = {*STORAGE_CLASSES, *private}
    for key, uids in lists:
        for uid in uids:
            if uid not in known:
                raise ValueError(
                    f"{key}: {uid} is no storage class that is known (a private one has to be "
                    "in ingress.sop_classes too)"
                )
