"""Marks studies complete whose quiet time is over, or whose modality said what to expect and it is
there; so that their routes are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from gantry_domain.completeness import QuietTimes, is_complete
from gantry_domain.learned_quiet import Pauses
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.expecting import give_up_performed, settle_performed
from gantry_stores.index.pauses import learn_pauses, read_pauses
from gantry_stores.index.quiet import QuietStudy, complete_now, quiet_studies, write_complete


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
    learned = {
        title: time
        for title, pauses in known_pauses(engine, quiet_times).items()
        if (time := pauses.quiet_time(at_least=quiet_times.learned_at_least)) is not None
    }
    complete = 0
    for page in quiet_studies(
        engine,
        indexed_before=now - quiet_times.shortest,
        received_before=all_indexed_until - quiet_times.shortest,
        with_senders=bool(quiet_times.partners or quiet_times.learning),
    ):
        over = []
        for study in page:
            expected = quiet_times.expected(study.told)
            if is_complete(
                now=now,
                last_received_at=study.last_received_at,
                indexed_at=study.indexed_at,
                all_indexed_until=all_indexed_until,
                quiet=quiet_times.of(
                    ModalitiesInStudy=study.ModalitiesInStudy,
                    calling_aes=study.calling_aes,
                    asked_by=study.asked_by,
                    learned=learned,
                    # Where there are more the sender was wrong, and is not believed.
                    all_here=study.instances == expected,
                ),
                awaited_until=quiet_times.awaited_until(
                    indexed_at=study.indexed_at,
                    told_at=study.awaited_since,
                    missing=expected is not None and study.instances < expected,
                ),
            ):
                over.append(study)
        complete += write_complete(engine, over)
        _learn(engine, quiet_times, over)
    return complete


def known_pauses(engine: Engine, quiet_times: QuietTimes) -> dict[str, Pauses]:
    """What is known of the partners that are learned of. Raises `IndexUnavailable`."""
    if not quiet_times.learning:
        return {}
    with transaction(engine) as connection:
        return read_pauses(connection, sorted(quiet_times.learning))


def _learn(engine: Engine, quiet_times: QuietTimes, over: Sequence[QuietStudy]) -> None:
    if not quiet_times.learning or not over:
        return
    # Not what was learned itself: the time would shrink by its own shortness.
    longest = {
        study.pk: quiet_times.configured(
            ModalitiesInStudy=study.ModalitiesInStudy, calling_aes=study.calling_aes
        )
        for study in over
    }
    with transaction(engine) as connection:
        learn_pauses(connection, longest, partners=sorted(quiet_times.learning))


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
