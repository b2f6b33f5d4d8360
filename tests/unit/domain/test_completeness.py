"""Quiet time: whose counts, and when it is over."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.completeness import QuietTimes, is_complete

QUIET = QuietTimes(
    default=timedelta(minutes=5),
    modalities={"US": timedelta(minutes=30), "CR": timedelta(minutes=1)},
    partners={"CT01": timedelta(minutes=10)},
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MOMENTS = st.integers(0, 7200).map(lambda seconds: NOON + timedelta(seconds=seconds))


def test_a_partner_goes_before_the_modality_and_the_longest_counts() -> None:
    assert QUIET.of(ModalitiesInStudy=["CT"], calling_aes=["X"]) == timedelta(minutes=5)
    assert QUIET.of(ModalitiesInStudy=["CR", "US"], calling_aes=["X"]) == timedelta(minutes=30)
    assert QUIET.of(ModalitiesInStudy=["US"], calling_aes=["CT01", "X"]) == timedelta(minutes=10)


def test_a_backlog_keeps_every_study_open() -> None:
    times = {"last_received_at": NOON, "indexed_at": NOON, "quiet": timedelta(minutes=5)}
    later = NOON + timedelta(hours=1)
    assert is_complete(now=later, all_indexed_until=later, **times)
    assert not is_complete(now=later, all_indexed_until=NOON + timedelta(minutes=4), **times)


@given(MOMENTS, MOMENTS, MOMENTS, MOMENTS, st.integers(0, 600))
def test_complete_stays_complete_while_nothing_arrives(
    now: datetime, received: datetime, indexed: datetime, until: datetime, quiet: int
) -> None:
    times = {
        "last_received_at": received,
        "indexed_at": indexed,
        "quiet": timedelta(seconds=quiet),
    }
    if is_complete(now=now, all_indexed_until=until, **times):
        later = timedelta(seconds=1)
        assert is_complete(now=now + later, all_indexed_until=until + later, **times)
        assert now >= indexed + timedelta(seconds=quiet)
