"""Counts what each sender brings in a day, and refuses what is over its quota.

    first bytes ─▶ whose? ─▶ counted in the broker ─▶ staged ─▶ its bytes counted
                                │ over: refused, or taken and its study told of it

Where the broker or, for a sender's first object of a day, the index is away everything is taken. It
counts later only if the broker forgot what it had: then it is filled from the index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Engine

from gantry_archive.staging import Admission, Admit, Provenance, Refusal
from gantry_domain.errors import TransientError
from gantry_domain.policies.quota import Amounts, quota_at_door
from gantry_domain.policies.rules import Rule
from gantry_domain.prefix import Identification
from gantry_domain.routes import StudyFacts
from gantry_runtime.logs import get_logger
from gantry_runtime.rarely import Rarely
from gantry_stores.index.database import transaction
from gantry_stores.index.quotas import brought_since, note_over_quota
from gantry_stores.queue.sender_counts import Brought, Counted, Over, SenderCounts

log = get_logger(__name__)

_MOST_TOLD = 10_000
_REFUSED = "refused"

Sender = tuple[str, str, date]
"""Partition, calling AE title, and the day."""


class DoorQuota:
    """The quotas of one process. Safe for many threads. `zone`: where a day begins."""

    def __init__(
        self, rules: tuple[Rule, ...], *, counts: SenderCounts, engine: Engine, zone: ZoneInfo
    ) -> None:
        self._rules = rules
        self._counts = counts
        self._engine = engine
        self._zone = zone
        self._rarely = Rarely()
        # What is written down already; to write it twice does no harm.
        self._told: dict[tuple[str, str, str], None] = {}

    def admit(self, provenance: Provenance, found: Identification) -> Admission | None:
        """Whether an object is within the quota of its sender; None: it has none, or nobody can
        tell just now."""
        study = found.StudyInstanceUID
        if not study:
            return None
        quota = quota_at_door(
            self._rules,
            StudyFacts(
                partition=provenance.partition,
                calling_aes=(provenance.calling_ae,),
                called_aes=(provenance.receiving_ae,),
            ),
        )
        if quota is None:
            return None
        sender = (provenance.partition, provenance.calling_ae, datetime.now(self._zone).date())
        try:
            counted = self._counts.take(
                *sender, study, most=quota.refused, brought=partial(self._brought, sender)
            )
        except TransientError as error:
            self._away(error)
            return None
        if isinstance(counted, Over):
            self._tell(provenance.partition, study, [_REFUSED])
            detail = "more than this sender may bring in a day"
            return Admission(granted=False, refusal=Refusal.OVER_QUOTA, detail=detail)
        self._tell(provenance.partition, study, _exceeded(counted, quota.told))
        return Admission(
            granted=True,
            release=partial(self._settle, lambda: self._counts.give_back(*sender)),
            settle=lambda size: self._settle(lambda: self._counts.add_bytes(*sender, size)),
        )

    def _brought(self, sender: Sender) -> Brought:
        partition, calling_ae, day = sender
        since = datetime.combine(day, time(), self._zone).astimezone(UTC)
        with transaction(self._engine) as connection:
            return brought_since(connection, since, partition=partition, calling_ae=calling_ae)

    def _settle(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TransientError as error:
            self._away(error)

    def _away(self, error: TransientError) -> None:
        if self._rarely.due("away", type(error).__name__) is not None:
            log.warning("quota_not_counted", error=type(error).__name__)

    def _tell(self, partition: str, study: str, amounts: Sequence[str]) -> None:
        news = [each for each in amounts if (partition, study, each) not in self._told]
        if not news:
            return
        try:
            with transaction(self._engine) as connection:
                note_over_quota(
                    connection, partition=partition, StudyInstanceUID=study, amounts=news
                )
        except TransientError as error:
            log.warning("quota_excess_not_noted", error=type(error).__name__)
            return
        if len(self._told) > _MOST_TOLD:
            self._told.clear()
        self._told |= dict.fromkeys((partition, study, each) for each in news)


def _exceeded(counted: Counted, most: Amounts) -> list[str]:
    """The amounts that are over with this object; bytes where they were full before it."""
    over = []
    if most.instances is not None and counted.instances > most.instances:
        over.append("instances")
    if most.studies is not None and counted.studies > most.studies:
        over.append("studies")
    if most.bytes is not None and counted.bytes >= most.bytes:
        over.append("bytes")
    return over


@dataclass(frozen=True, slots=True)
class AdmittedByAll:
    """Several that an object has to pass, in their order."""

    doors: tuple[Admit, ...]

    def admit(self, provenance: Provenance, found: Identification) -> Admission | None:
        """The first that refuses; else all of them together."""
        passed: list[Admission] = []
        for door in self.doors:
            admission = door(provenance, found)
            if admission is None:
                continue
            if not admission.granted:
                for each in passed:
                    each.release()
                return admission
            passed.append(admission)
        if not passed:
            return None

        def release() -> None:
            for each in passed:
                each.release()

        def settle(size: int) -> None:
            for each in passed:
                each.settle(size)

        return Admission(granted=True, release=release, settle=settle)
