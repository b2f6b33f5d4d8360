"""Marks studies complete whose quiet time is over, so that their routes are asked."""

from datetime import UTC, datetime

from sqlalchemy.engine import Engine

from gantry_domain.completeness import QuietTimes, is_complete
from gantry_stores.index.quiet import quiet_studies, write_complete


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
            )
        ]
        complete += write_complete(engine, over)
    return complete
