"""Refuses the image that is one too many for its study, before anything of it is stored.

    first bytes ─▶ which study? ─▶ a place among `limit` in the broker ─▶ staged
                                      │ none is left: refused, and the study told of it

Where the broker or, for the first image of a study, the index is away every image is taken: the
worker judges by the same rule then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.engine import Engine

from gantry_archive.door_quota import AdmittedByAll, DoorQuota
from gantry_archive.staging import Admission, Admit, Provenance, Refusal
from gantry_domain.errors import TransientError
from gantry_domain.policies.door import has_limits, limit_at_door
from gantry_domain.policies.quota import has_quotas
from gantry_domain.policies.rules import Rule
from gantry_domain.prefix import Identification
from gantry_domain.routes import StudyFacts
from gantry_runtime.logs import get_logger
from gantry_runtime.rarely import Rarely
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.door_limits import IMAGES, images_of_study, note_refusal
from gantry_stores.queue.image_places import ImagePlaces, Place
from gantry_stores.queue.sender_counts import SenderCounts

log = get_logger(__name__)

_STATEMENT_LIMIT = timedelta(seconds=2)
_CONNECT_LIMIT = timedelta(seconds=2)
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class _Taken:
    """A place that an image has, until it is staged or not."""

    places: ImagePlaces
    names: tuple[str, str, str]

    def release(self) -> None:
        """Give it back; blocks for a moment at most."""
        try:
            self.places.release(*self.names)
        except TransientError as error:
            # The image has it still if it is sent again, and nobody else gets it for a day.
            log.warning("image_place_lost", error=type(error).__name__)


class DoorLimit:
    """The limits of one process. Safe for many threads."""

    def __init__(self, rules: tuple[Rule, ...], *, places: ImagePlaces, engine: Engine) -> None:
        self._rules = rules
        self._places = places
        self._engine = engine
        self._rarely = Rarely()

    def admit(self, provenance: Provenance, found: Identification) -> Admission | None:
        """Whether an image has a place; None: it needs none, or nobody can tell just now."""
        SOPClassUID = found.SOPClassUID or provenance.SOPClassUID
        study, image = found.StudyInstanceUID, found.SOPInstanceUID
        if SOPClassUID not in IMAGES or not study or not image:
            return None
        partition = provenance.partition
        limit = limit_at_door(
            self._rules,
            StudyFacts(
                partition=partition,
                calling_aes=(provenance.calling_ae,),
                called_aes=(provenance.receiving_ae,),
            ),
        )
        if limit is None:
            return None
        try:
            place = self._places.reserve(
                partition, study, image, limit=limit, images=self._images(partition, study)
            )
        except TransientError as error:
            if self._rarely.due("away", type(error).__name__) is not None:
                log.warning("image_limit_left_to_worker", error=type(error).__name__)
            return None
        if place is Place.FULL:
            self._tell(partition, study)
            return Admission(
                granted=False,
                refusal=Refusal.TOO_MANY_IMAGES,
                detail=f"the study has {limit} images, no more fit",
            )
        if place is Place.KNOWN:
            return None
        taken = _Taken(self._places, (partition, study, image))
        return Admission(granted=True, release=taken.release)

    def _images(self, partition: str, study: str) -> Callable[[], list[str]]:
        def look() -> list[str]:
            with transaction(self._engine) as connection:
                return list(
                    images_of_study(connection, partition=partition, StudyInstanceUID=study)
                )

        return look

    def _tell(self, partition: str, study: str) -> None:
        try:
            with transaction(self._engine) as connection:
                note_refusal(connection, partition=partition, StudyInstanceUID=study)
        except TransientError as error:
            log.warning("image_refusal_not_noted", error=type(error).__name__)


def door_of(settings: Settings) -> Admit:
    """The quotas and limits of the configuration; nothing is connected to before the first
    object."""
    engine = make_engine(
        settings.database_url,
        pool_size=_CONNECTIONS,
        connect_timeout=_CONNECT_LIMIT,
        statement_timeout=_STATEMENT_LIMIT,
        application_name="gantry-door",
    )
    rules = settings.policy_set.rules
    doors: list[Admit] = []
    if has_quotas(rules):
        counts = SenderCounts(settings.broker_url)
        quota = DoorQuota(rules, counts=counts, engine=engine, zone=settings.zone)
        doors.append(quota.admit)
    if has_limits(rules):
        places = ImagePlaces(settings.broker_url)
        doors.append(DoorLimit(rules, places=places, engine=engine).admit)
    return AdmittedByAll(tuple(doors)).admit
