"""Where the data set of an instance lies in the object store, and how it is encoded there."""

from dataclasses import dataclass
from uuid import UUID

from gantry_domain.corrections import Correction


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An instance as the object store has it: identifier, sizes in bytes, encoding.

    `corrections`: what people corrected of its study since, in order; nobody gets it without.
    `content`: the data set itself of one that was made to be sent, and is in no store.
    """

    object_id: UUID
    SOPClassUID: str
    TransferSyntaxUID: str
    dataset_offset: int
    size: int
    corrections: tuple[Correction, ...] = ()
    content: bytes | None = None
