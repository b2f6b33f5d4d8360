"""Where the data set of an instance lies in the object store, and how it is encoded there."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An instance as the object store has it: identifier, sizes in bytes, encoding."""

    object_id: UUID
    SOPClassUID: str
    TransferSyntaxUID: str
    dataset_offset: int
    size: int
