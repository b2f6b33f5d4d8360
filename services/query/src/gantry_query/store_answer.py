"""The answer to a store transaction: its status, and the data set of PS3.18 Annex I."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gantry_archive.refusal_statuses import STATUSES
from gantry_archive.staging import Refusal, Refused, Staged
from gantry_domain.comparison import Relation
from gantry_domain.prefix import Identification
from gantry_domain.statuses import (
    CANNOT_UNDERSTAND,
    COERCION_OF_DATA_ELEMENTS,
    DUPLICATE_SOP_INSTANCE,
    TRANSFER_SYNTAX_NOT_SUPPORTED,
    Status,
)
from gantry_query.addresses import resource
from gantry_query.reception import Outcome, Unsupported
from gantry_stores.index.search import Subject

RETRIEVE_URL = "00081190"
FAILED_SOP_SEQUENCE = "00081198"
REFERENCED_SOP_SEQUENCE = "00081199"
OTHER_FAILURES_SEQUENCE = "0008119A"
_SOP_CLASS, _SOP_INSTANCE = "00081150", "00081155"
_WARNING_REASON, _FAILURE_REASON = "00081196", "00081197"

_TRANSIENT = frozenset({Refusal.STORE_AWAY, Refusal.STORE_FULL, Refusal.OVER_QUOTA})

Item = dict[str, dict[str, Any]]


@dataclass(slots=True)
class StoreAnswer:
    """What became of each instance; filled one by one."""

    base: str
    referenced: list[Item] = field(default_factory=list)
    failed: list[Item] = field(default_factory=list)
    others: list[Item] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)
    warned: bool = False
    kinds: set[str] = field(default_factory=set)
    """Why instances failed, as far as the status depends on it."""

    @property
    def empty(self) -> bool:
        """Whether the body held no instance."""
        return not (self.referenced or self.failed or self.others)

    @property
    def status(self) -> int:
        """Of PS3.18 Table 10.5.3-1; 503 where all may be tried again."""
        if self.referenced:
            return 202 if self.failed or self.others or self.warned else 200
        match sorted(self.kinds):
            case ["transient"]:
                return 503
            case ["too_large"]:
                return 413
            case ["type"]:
                return 415
        return 409

    def document(self) -> Item:
        """The data set of the answer."""
        document: Item = {}
        if len(self.studies) == 1:
            (study,) = self.studies
            document[RETRIEVE_URL] = _element("UR", resource(self.base, Subject(study)))
        for tag, items in (
            (FAILED_SOP_SEQUENCE, self.failed),
            (REFERENCED_SOP_SEQUENCE, self.referenced),
            (OTHER_FAILURES_SEQUENCE, self.others),
        ):
            if items:
                document[tag] = {"vr": "SQ", "Value": items}
        return document

    def add_rest(self) -> None:
        """Of the body's end nobody knows what it held."""
        self.others.append({_FAILURE_REASON: _element("US", CANNOT_UNDERSTAND.code)})
        self.kinds.add("broken")

    def add(self, outcome: Outcome, relation: Relation | None) -> None:
        """One instance; `relation` to what was kept under its UID, where the bytes differ."""
        match outcome.result:
            case Staged():
                self._stored(outcome.found, relation)
            case Refused(refusal=refusal):
                kind = "transient" if refusal in _TRANSIENT else refusal.value
                self._not_stored(outcome.found, STATUSES[refusal], kind)
            case Unsupported(syntax=True):
                self._not_stored(outcome.found, TRANSFER_SYNTAX_NOT_SUPPORTED, "syntax")
            case Unsupported():
                self._not_stored(outcome.found, CANNOT_UNDERSTAND, "type")

    def _stored(self, found: Identification | None, relation: Relation | None) -> None:
        if relation is Relation.CONFLICT:
            # It is kept for a person to decide, and not served.
            self._not_stored(found, DUPLICATE_SOP_INSTANCE, "conflict")
            return
        item = _names(found)
        if found is not None and found.StudyInstanceUID:
            self.studies.add(found.StudyInstanceUID)
            if found.SeriesInstanceUID and found.SOPInstanceUID:
                subject = Subject(
                    found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID
                )
                item[RETRIEVE_URL] = _element("UR", resource(self.base, subject))
        if relation is Relation.DEMOGRAPHICS:
            item[_WARNING_REASON] = _element("US", COERCION_OF_DATA_ELEMENTS.code)
            self.warned = True
        self.referenced.append(item)

    def _not_stored(self, found: Identification | None, status: Status, kind: str) -> None:
        self.kinds.add(kind)
        item = _names(found)
        item[_FAILURE_REASON] = _element("US", status.code)
        (self.failed if _SOP_INSTANCE in item else self.others).append(item)


def make_answer(
    outcomes: Sequence[Outcome], relations: Mapping[UUID, Relation], *, base: str
) -> StoreAnswer:
    """The answer for instances in the order in which they came."""
    answer = StoreAnswer(base)
    for outcome in outcomes:
        staged = outcome.result if isinstance(outcome.result, Staged) else None
        answer.add(outcome, relations.get(staged.receipt.object_id) if staged else None)
    return answer


def _names(found: Identification | None) -> Item:
    """The UIDs of an instance; none where it does not have both."""
    if found is None or not found.SOPClassUID or not found.SOPInstanceUID:
        return {}
    return {
        _SOP_CLASS: _element("UI", found.SOPClassUID),
        _SOP_INSTANCE: _element("UI", found.SOPInstanceUID),
    }


def _element(vr: str, value: str | int) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}
