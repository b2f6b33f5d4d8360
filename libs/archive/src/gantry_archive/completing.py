"""Marks studies complete whose quiet time is over, or whose modality said what to expect and it is
there; so that their routes are asked."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_domain.completeness import QuietTimes, is_complete
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.expecting import give_up_performed, settle_performed
from gantry_stores.index.quiet import complete_now, quiet_studies, write_complete


def complete_studies(
    engine: Engine,
    quiet_times: QuietTimes,
    *,
    all_indexed_until: datetime,
    now: datetime | None = None,
) -> int:
    """Mark every study complete whose quiet time is over; how many were.

    `all_indexed_until`: every object whose reception began before then has its row. A study that
    changes meanwhile is left for the next time. Raises `IndexUnavailable`.
    """
    now = now or datetime.now(UTC)
    complete = 0
    for page in quiet_studies(
        engine,
        indexed_before=now - quiet_times.shortest,
        received_before=all_indexed_until - quiet_times.shortest,
        with_senders=bool(quiet_times.partners),
    ):
        over = [
            study
            for study in page
            if is_complete(
                now=now,
                last_received_at=study.last_received_at,
                indexed_at=study.indexed_at,
                all_indexed_until=all_indexed_until,
                quiet=quiet_times.of(
                    ModalitiesInStudy=study.ModalitiesInStudy, calling_aes=study.calling_aes
                ),
                awaited_until=study.awaited_since
                and max(study.awaited_since, study.indexed_at) + quiet_times.longest,
            )
        ]
        complete += write_complete(engine, over)
    return complete


@dataclass(frozen=True, slots=True)
class Performed:
    """How many studies are complete because their modality said so, and how many performed steps
    nobody waits for any longer although not all came that they tell of."""

    complete: int
    given_up: int


def complete_performed(
    engine: Engine, *, longest: timedelta, now: datetime | None = None
) -> Performed:
    """Mark every study complete that has all that its performed steps refer to.

    Quiet time does not matter, nor what else waits to be indexed: what is expected is there.
    Raises `IndexUnavailable`.
    """
    now = now or datetime.now(UTC)
    complete = 0
    while True:
        with transaction(engine) as connection:
            settled = settle_performed(connection, now=now)
            complete += complete_now(connection, settled.study_pks)
        if not settled.steps:
            break
    with transaction(engine) as connection:
        given_up = give_up_performed(connection, now=now, longest=longest)
    return Performed(complete, given_up)
