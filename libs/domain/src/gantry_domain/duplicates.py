"""The same SOP Instance UID again: which object is primary, and what becomes of the others.

A pure fold, in the order of reception, over all readable objects of one SOP Instance UID in a
partition; so any order of indexing ends in the same states:

    the first                                primary
    bytes of one that is kept                duplicate, same_bytes; purged later
    same content in another encoding         duplicate, encoding
    other demographics alone                 duplicate, demographics; or, where the sender's last
                                             word counts, the primary becomes duplicate, superseded
    another study, series or class           conflict, other_parents
    anything else, pixels included           conflict, other_content
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from gantry_domain.comparison import Relation


class ObjectState(StrEnum):
    """What became of a stored object."""

    PRIMARY = "primary"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    DELETED = "deleted"
    """By a person: no rival of any other, and purged when its time has come."""


class Reason(StrEnum):
    """Why an object is a duplicate or in conflict."""

    SAME_BYTES = "same_bytes"
    ENCODING = "encoding"
    DEMOGRAPHICS = "demographics"
    SUPERSEDED = "superseded"
    OTHER_PARENTS = "other_parents"
    OTHER_CONTENT = "other_content"


@dataclass(frozen=True, slots=True)
class Rival:
    """One of several objects with the same SOP Instance UID.

    `sha256` is that of the data set as sent, `parents` are StudyInstanceUID, SeriesInstanceUID
    and SOPClassUID, `take_last` says whether its sender's newer demographics replace older ones.
    """

    object_id: UUID
    sha256: bytes
    parents: tuple[str, str, str]
    take_last: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state of an object; `relates_to` is the object that `reason` compares it with."""

    state: ObjectState
    reason: Reason | None = None
    relates_to: UUID | None = None


PRIMARY = Outcome(ObjectState.PRIMARY)

Pair = tuple[UUID, UUID]
"""Two objects, the older one first."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of each object; or the pairs whose relation must be known first."""

    outcomes: dict[UUID, Outcome]
    missing: tuple[Pair, ...] = ()

    @property
    def primary(self) -> UUID:
        """The one object that counts."""
        return next(
            object_id
            for object_id, outcome in self.outcomes.items()
            if outcome.state is ObjectState.PRIMARY
        )


_RELATION_OF = {
    Reason.ENCODING: Relation.SAME_CONTENT,
    Reason.DEMOGRAPHICS: Relation.DEMOGRAPHICS,
    Reason.SUPERSEDED: Relation.DEMOGRAPHICS,
    Reason.OTHER_CONTENT: Relation.CONFLICT,
}


def pair(one: UUID, other: UUID) -> Pair:
    """The two, the older one first."""
    return (one, other) if one < other else (other, one)


def recorded_relations(outcomes: Mapping[UUID, Outcome]) -> dict[Pair, Relation]:
    """The relations that earlier outcomes tell, so that nothing is compared twice."""
    return {
        pair(object_id, outcome.relates_to): _RELATION_OF[outcome.reason]
        for object_id, outcome in outcomes.items()
        if outcome.relates_to is not None and outcome.reason in _RELATION_OF
    }


def settle(rivals: Iterable[Rival], relations: Mapping[Pair, Relation]) -> Settled:
    """The outcome for all objects of one SOP Instance UID; at least one.

    `relations` hold what is known of pairs; the ones that are missing are asked for instead.
    """
    ordered = sorted(rivals, key=lambda rival: rival.object_id)
    primary = ordered[0]
    outcomes = {primary.object_id: PRIMARY}
    kept = {primary.sha256: primary.object_id}
    for position, rival in enumerate(ordered[1:], start=1):
        outcome = _outcome(rival, primary, kept, relations)
        if outcome is None:
            return Settled({}, tuple(_unknown(primary, ordered[position:], relations)))
        if outcome.state is ObjectState.PRIMARY:
            outcomes[primary.object_id] = Outcome(
                ObjectState.DUPLICATE, Reason.SUPERSEDED, rival.object_id
            )
            primary = rival
        outcomes[rival.object_id] = outcome
        if outcome.reason is not Reason.SAME_BYTES:
            kept[rival.sha256] = rival.object_id
    return Settled(outcomes)


def _outcome(
    rival: Rival,
    primary: Rival,
    kept: Mapping[bytes, UUID],
    relations: Mapping[Pair, Relation],
) -> Outcome | None:
    if rival.sha256 == primary.sha256:
        return Outcome(ObjectState.DUPLICATE, Reason.SAME_BYTES, primary.object_id)
    twin = kept.get(rival.sha256)
    same_parents = rival.parents == primary.parents
    if twin is not None and not (rival.take_last and same_parents):
        return Outcome(ObjectState.DUPLICATE, Reason.SAME_BYTES, twin)
    if not same_parents:
        return Outcome(ObjectState.CONFLICT, Reason.OTHER_PARENTS, primary.object_id)
    relation = relations.get(pair(primary.object_id, rival.object_id))
    if relation is None:
        return None
    if relation is Relation.DEMOGRAPHICS and rival.take_last:
        return PRIMARY
    if twin is not None:
        return Outcome(ObjectState.DUPLICATE, Reason.SAME_BYTES, twin)
    if relation is Relation.SAME_CONTENT:
        return Outcome(ObjectState.DUPLICATE, Reason.ENCODING, primary.object_id)
    if relation is Relation.DEMOGRAPHICS:
        return Outcome(ObjectState.DUPLICATE, Reason.DEMOGRAPHICS, primary.object_id)
    return Outcome(ObjectState.CONFLICT, Reason.OTHER_CONTENT, primary.object_id)


def _unknown(
    primary: Rival, later: Sequence[Rival], relations: Mapping[Pair, Relation]
) -> Iterable[Pair]:
    """What comparing the later ones with the present primary lacks, for they all will need it
    unless one of them takes its place."""
    for rival in later:
        wanted = pair(primary.object_id, rival.object_id)
        if (
            rival.sha256 != primary.sha256
            and rival.parents == primary.parents
            and wanted not in relations
        ):
            yield wanted
