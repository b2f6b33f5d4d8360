"""Whether objects that were just staged contradict what is kept under their SOP Instance UIDs.

For a door that can say so at once; what becomes of them the worker decides, by the same comparison,
when it indexes them. Such a door asks for no more than a few comparisons, for each reads both
objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.engine import Engine

from gantry_archive.comparing import compare
from gantry_archive.reading import ReadingRules, read_object
from gantry_domain.comparison import Relation
from gantry_domain.duplicates import pair
from gantry_domain.entries import Entry
from gantry_domain.prefix import Identification
from gantry_domain.receipts import Receipt
from gantry_stores.index.database import transaction
from gantry_stores.index.same_uid import Kept, kept_objects
from gantry_stores.objects import ObjectStore

_UIDS_AT_ONCE = 1000
_MOST_COMPARED = 16


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object that was just staged, and who its first bytes say that it is."""

    receipt: Receipt
    found: Identification


def contradictions(
    staged: Sequence[StagedObject],
    *,
    partition: str,
    store: ObjectStore,
    engine: Engine,
    rules: ReadingRules,
) -> dict[UUID, Relation]:
    """The relation of each object to the one kept before it, where their bytes differ.

    At most a few are compared, and the others left out. Raises the transient errors of both
    stores, `ObjectNotFound` and `ProcessesExhausted`.
    """
    relations: dict[UUID, Relation] = {}
    compared = 0
    for start in range(0, len(staged), _UIDS_AT_ONCE):
        some = staged[start : start + _UIDS_AT_ONCE]
        with transaction(engine) as connection:
            uids = {str(each.found.SOPInstanceUID) for each in some}
            kept = kept_objects(connection, uids, partition=partition)
        for each in some:
            before = kept.get(str(each.found.SOPInstanceUID))
            object_id = each.receipt.object_id
            if before is None or before.object_id == object_id:
                continue
            if before.sha256 == each.receipt.sha256:
                continue
            if not _same_parents(each.found, before):
                relations[object_id] = Relation.CONFLICT
            elif compared < _MOST_COMPARED:
                compared += 1
                entry = read_object(each.receipt, store=store, rules=rules).entry
                if isinstance(entry, Entry):
                    wanted = pair(before.object_id, object_id)
                    found = compare([wanted], store=store, engine=engine, entries=[entry])
                    relations[object_id] = found[wanted]
    return relations


def _same_parents(found: Identification, kept: Kept) -> bool:
    """As far as the first bytes tell."""
    return all(
        said is None or said == held
        for said, held in (
            (found.SOPClassUID, kept.SOPClassUID),
            (found.StudyInstanceUID, kept.StudyInstanceUID),
            (found.SeriesInstanceUID, kept.SeriesInstanceUID),
        )
    )
