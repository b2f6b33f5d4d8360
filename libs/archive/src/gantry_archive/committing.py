"""Answers for instances that partners ask us to keep: by the index, and by what is in the store."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from sqlalchemy.engine import Engine

from gantry_archive.reading import dataset_sha256
from gantry_domain.commitment import CommitmentFailure, Reference
from gantry_domain.duplicates import ObjectState
from gantry_domain.findings import DATA_SET_BROKEN, PIXEL_DATA_TRUNCATED, TRUNCATED
from gantry_domain.keys import object_key
from gantry_runtime.logs import get_logger
from gantry_stores.index.commitments import Commitment, KeptObject, kept_objects
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectNotFound, ObjectStore

log = get_logger(__name__)

_AT_ONCE = 500
# A conflict is what else came under the UID: it is kept too, for a person to decide.
_ANSWERED_FOR = frozenset({ObjectState.PRIMARY.value, ObjectState.CONFLICT.value})
_CUT_OFF = (TRUNCATED, PIXEL_DATA_TRUNCATED, DATA_SET_BROKEN)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. `failed`: reasons by SOP Instance UID; `pending`: the index does not know of
    so many, and may yet; nothing is decided then."""

    failed: dict[str, CommitmentFailure]
    pending: int = 0


def check_commitment(
    commitment: Commitment,
    *,
    engine: Engine,
    store: ObjectStore,
    storage_classes: frozenset[str],
    read_bytes: bool,
    readers: Executor,
    progress: Callable[[], None] = lambda: None,
) -> Checked:
    """Look at every instance of a request.

    An instance is committed if the index has it under its class, nothing of it is missing, and its
    object is in the store in its full size; with `read_bytes`, if these are the bytes as received.
    `progress` is called now and then. Raises the transient errors of the index and the store.
    """
    references = commitment.references
    if commitment.conflicting:
        duplicate = CommitmentFailure.DUPLICATE_TRANSACTION_UID
        return Checked({each.SOPInstanceUID: duplicate for each in references})
    failed: dict[str, CommitmentFailure] = {}
    to_look_at: list[tuple[str, KeptObject]] = []
    pending = 0
    for start in range(0, len(references), _AT_ONCE):
        part = references[start : start + _AT_ONCE]
        with transaction(engine) as connection:
            kept = kept_objects(
                connection,
                commitment.partition,
                [each.SOPInstanceUID for each in part],
                cut_off=_CUT_OFF,
            )
        for each in part:
            found = kept.get(each.SOPInstanceUID, [])
            if not found and not commitment.caught_up:
                pending += 1
                continue
            reason = _by_index(each, found, storage_classes)
            if reason is not None:
                failed[each.SOPInstanceUID] = reason
            to_look_at += [
                (each.SOPInstanceUID, one) for one in found if one.state in _ANSWERED_FOR
            ]
    if pending:
        return Checked({}, pending)
    looked = readers.map(lambda pair: _by_store(pair[1], store, read_bytes), to_look_at)
    for (uid, _object), reason in zip(to_look_at, looked, strict=True):
        if reason is not None:
            failed.setdefault(uid, reason)
        progress()
    return Checked(failed)


def _by_index(
    reference: Reference, found: Sequence[KeptObject], storage_classes: frozenset[str]
) -> CommitmentFailure | None:
    kept = [each for each in found if each.state in _ANSWERED_FOR]
    if not kept:
        if any(each.state == ObjectState.UNREADABLE.value for each in found):
            return CommitmentFailure.PROCESSING_FAILURE
        if reference.SOPClassUID not in storage_classes:
            return CommitmentFailure.SOP_CLASS_NOT_SUPPORTED
        return CommitmentFailure.NO_SUCH_OBJECT_INSTANCE
    if all(each.SOPClassUID != reference.SOPClassUID for each in kept):
        return CommitmentFailure.CLASS_INSTANCE_CONFLICT
    if any(each.cut_off for each in kept):
        return CommitmentFailure.PROCESSING_FAILURE
    return None


def _by_store(kept: KeptObject, store: ObjectStore, read_bytes: bool) -> CommitmentFailure | None:
    key = object_key(kept.object_id)
    try:
        stat = store.stat(key)
        whole = stat.size == kept.size
        if whole and read_bytes and kept.dataset_offset is not None:
            told = {each for each in (kept.sha256, stat.sha256) if each is not None}
            whole = told <= {dataset_sha256(store, key, kept.dataset_offset)}
    except ObjectNotFound:
        log.error("committed_object_missing", object=str(kept.object_id))
        return CommitmentFailure.NO_SUCH_OBJECT_INSTANCE
    if not whole:
        log.error("committed_object_changed", object=str(kept.object_id))
        return CommitmentFailure.PROCESSING_FAILURE
    return None
