"""Quiet time: whose counts, and when it is over."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.completeness import QuietTimes, is_complete, told_instances

QUIET = QuietTimes(
    default=timedelta(minutes=5),
    modalities={"US": timedelta(minutes=30), "CR": timedelta(minutes=1)},
    partners={"CT01": timedelta(minutes=10)},
    committed={"CT01": timedelta(seconds=20), "US01": timedelta(hours=2)},
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MOMENTS = st.integers(0, 7200).map(lambda seconds: NOON + timedelta(seconds=seconds))


def test_a_partner_goes_before_the_modality_and_the_longest_counts() -> None:
    assert QUIET.of(ModalitiesInStudy=["CT"], calling_aes=["X"]) == timedelta(minutes=5)
    assert QUIET.of(ModalitiesInStudy=["CR", "US"], calling_aes=["X"]) == timedelta(minutes=30)
    assert QUIET.of(ModalitiesInStudy=["US"], calling_aes=["CT01", "X"]) == timedelta(minutes=10)


@given(
    st.sets(st.sampled_from(["CT", "US", "CR"])),
    st.sets(st.sampled_from(["CT01", "US01", "X"])),
    st.sampled_from([None, "ct01", "US01", "X"]),
)
def test_who_asks_to_keep_all_makes_the_time_shorter_and_never_longer(
    modalities: set[str], callers: set[str], asker: str | None
) -> None:
    told = QUIET.of(ModalitiesInStudy=modalities, calling_aes=callers)
    asked = QUIET.of(ModalitiesInStudy=modalities, calling_aes=callers, asked_by=asker)
    assert asked == (timedelta(seconds=20) if asker == "ct01" else told)
    assert QUIET.shortest <= asked


@given(st.lists(st.sampled_from(["CT01", "US01", "X"])), st.integers(0, 900), st.integers(0, 900))
def test_what_was_learned_counts_where_it_is_known_of_every_sender(
    callers: list[str], first: int, second: int
) -> None:
    told = QUIET.of(ModalitiesInStudy=["CT"], calling_aes=callers)
    learned = {"ct01": timedelta(seconds=first), "US01": timedelta(seconds=second)}
    time = QUIET.of(ModalitiesInStudy=["CT"], calling_aes=callers, learned=learned)
    if "X" in callers or not callers:
        assert time == told
    else:
        senders = {learned["ct01" if ae == "CT01" else ae] for ae in callers}
        assert time == min(told, max(senders))


@given(st.dictionaries(st.sampled_from(["CT01", "ct02", "X"]), st.integers(1, 9)), MOMENTS, MOMENTS)
def test_the_most_that_believed_senders_tell_of_is_expected(
    told: dict[str, int], indexed: datetime, told_at: datetime
) -> None:
    times = QuietTimes(
        timedelta(minutes=5), longest=timedelta(hours=1), counted=frozenset({"ct01", "CT02"})
    )
    believed = [number for ae, number in told.items() if ae != "X"]
    assert times.expected(told) == max(believed, default=None)
    assert times.of(ModalitiesInStudy=[], calling_aes=[], all_here=True) == times.shortest
    until = times.awaited_until(indexed_at=indexed, told_at=None, missing=True)
    assert until == indexed + times.longest
    assert times.awaited_until(indexed_at=indexed, told_at=None, missing=False) is None
    later = times.awaited_until(indexed_at=indexed, told_at=told_at, missing=False)
    assert later == max(indexed, told_at) + times.longest


@given(st.one_of(st.none(), st.integers(), st.floats(), st.text()))
def test_whatever_an_image_says_of_its_study_is_a_number_or_nothing(value: object) -> None:
    told = told_instances({"00201208": {"vr": "IS", "Value": [value]}})
    assert told is None or 0 < told <= 10_000_000
    assert told_instances({"00201208": {"vr": "IS"}}) is None
    assert told_instances({"00201208": {"vr": "IS", "Value": [12]}}) == 12


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
