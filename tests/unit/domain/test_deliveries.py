"""Back-off is bounded and grows; a delivery is what its items add up to."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.deliveries import (
    DeliveryState,
    ItemState,
    RetryPolicy,
    Settlement,
    settle,
)

POLICY = RetryPolicy(
    base=timedelta(seconds=10), ceiling=timedelta(minutes=30), give_up_after=timedelta(days=3)
)

policies = st.builds(
    lambda base, factor, give_up: RetryPolicy(
        base=timedelta(milliseconds=base),
        ceiling=timedelta(milliseconds=base * factor),
        give_up_after=timedelta(seconds=give_up),
    ),
    st.integers(1, 100_000),
    st.integers(1, 1_000_000),
    st.integers(1, 10_000_000),
)
fractions = st.floats(0, 1)
items = st.dictionaries(st.sampled_from(ItemState), st.integers(0, 5000))


def test_the_longest_delay_doubles_up_to_the_ceiling() -> None:
    seconds = [POLICY.longest_delay(attempt).total_seconds() for attempt in range(1, 12)]
    assert seconds == [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800]


@given(policies, st.integers(1, 10_000_000), fractions)
def test_a_delay_is_within_the_ceiling_and_the_bound_never_falls(
    policy: RetryPolicy, attempt: int, fraction: float
) -> None:
    assert timedelta() <= policy.delay(attempt, fraction) <= policy.longest_delay(attempt)
    assert policy.base <= policy.longest_delay(attempt) <= policy.ceiling
    assert policy.longest_delay(attempt) <= policy.longest_delay(attempt + 1)


def test_full_jitter_reaches_from_nothing_to_the_bound() -> None:
    assert POLICY.delay(3, 0.0) == timedelta()
    assert POLICY.delay(3, 0.5) == timedelta(seconds=20)
    assert POLICY.delay(3, 1.0) == timedelta(seconds=40)


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_are_counted_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="from 1"):
        POLICY.delay(attempt, 0.5)


def test_a_fraction_beyond_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="fraction"):
        POLICY.delay(1, 1.5)


@pytest.mark.parametrize(
    ("base", "ceiling"), [(timedelta(), timedelta(1)), (timedelta(2), timedelta(1))]
)
def test_a_policy_that_never_waits_is_a_mistake(base: timedelta, ceiling: timedelta) -> None:
    with pytest.raises(ValueError, match="delay"):
        RetryPolicy(base=base, ceiling=ceiling, give_up_after=timedelta(days=1))


def ended(
    counts: dict[ItemState, int],
    *,
    not_taken: int = 0,
    failure: str | None = "away",
    attempt: int = 1,
    unsent_for: timedelta = timedelta(),
) -> Settlement:
    return settle(
        counts,
        not_taken=not_taken,
        failure=failure,
        attempt=attempt,
        unsent_for=unsent_for,
        policy=POLICY,
        fraction=0.5,
    )


def test_all_accepted_or_warned_is_delivered() -> None:
    assert ended({ItemState.ACCEPTED: 3, ItemState.WARNED: 1}, failure=None) == Settlement(
        DeliveryState.DELIVERED
    )


def test_one_refused_makes_it_dead_with_the_count_once_the_rest_has_arrived() -> None:
    assert ended({ItemState.ACCEPTED: 4, ItemState.REFUSED: 1}, failure=None) == Settlement(
        DeliveryState.DEAD, "1 of 5 refused"
    )


def test_what_is_withheld_is_not_waited_for_and_is_counted() -> None:
    some = {ItemState.ACCEPTED: 4, ItemState.WITHHELD: 1}
    assert ended(some, failure=None) == Settlement(DeliveryState.DELIVERED, "1 of 5 withheld")


def test_classes_of_no_images_that_are_not_taken_are_not_waited_for() -> None:
    some = {ItemState.ACCEPTED: 100, ItemState.REFUSED: 1}
    told = "1 of 101 refused: its class is not taken there"
    assert ended(some, not_taken=1, failure=None) == Settlement(DeliveryState.DELIVERED, told)
    some |= {ItemState.REFUSED: 2, ItemState.WITHHELD: 3}
    told = "3 of 105 withheld, 2 of 105 refused: their classes are not taken there"
    assert ended(some, not_taken=2, failure=None) == Settlement(DeliveryState.DELIVERED, told)
    # An image is among them.
    assert ended(some, not_taken=1, failure=None) == Settlement(
        DeliveryState.DEAD, "2 of 105 refused"
    )
    # Something else is still to be sent.
    assert ended({**some, ItemState.FAILED: 1}, not_taken=2).state is DeliveryState.FAILED


def test_where_nothing_has_arrived_nothing_is_delivered() -> None:
    assert ended({ItemState.REFUSED: 2}, not_taken=2, failure=None) == Settlement(
        DeliveryState.DEAD, "2 of 2 refused"
    )


def test_a_failure_waits_longer_each_time() -> None:
    counts = {ItemState.ACCEPTED: 4, ItemState.REFUSED: 1, ItemState.FAILED: 1}
    assert ended(counts, attempt=1) == Settlement(
        DeliveryState.FAILED, "away", timedelta(seconds=5)
    )
    assert ended(counts, attempt=4) == Settlement(
        DeliveryState.FAILED, "away", timedelta(seconds=40)
    )


def test_what_is_too_old_is_given_up_with_the_last_reason() -> None:
    assert ended({ItemState.WAITING: 1}, unsent_for=timedelta(days=3)) == Settlement(
        DeliveryState.DEAD, "gave up: away"
    )


def test_an_interruption_of_our_own_costs_no_wait_and_never_gives_up() -> None:
    assert ended({ItemState.WAITING: 2}, failure=None, unsent_for=timedelta(days=30)) == Settlement(
        DeliveryState.WAITING
    )


@given(
    counts=items,
    not_taken=st.integers(0, 5000),
    failure=st.none() | st.just("away"),
    attempt=st.integers(1, 1000),
    unsent_for=st.timedeltas(min_value=timedelta(), max_value=timedelta(days=10)),
    fraction=fractions,
)
def test_no_item_is_forgotten(
    *,
    counts: dict[ItemState, int],
    not_taken: int,
    failure: str | None,
    attempt: int,
    unsent_for: timedelta,
    fraction: float,
) -> None:
    refused = counts.get(ItemState.REFUSED, 0)
    not_taken = min(not_taken, refused)
    settlement = settle(
        counts,
        not_taken=not_taken,
        failure=failure,
        attempt=attempt,
        unsent_for=unsent_for,
        policy=POLICY,
        fraction=fraction,
    )
    unsettled = counts.get(ItemState.WAITING, 0) + counts.get(ItemState.FAILED, 0)
    if settlement.state is DeliveryState.DELIVERED:
        assert not unsettled
        assert refused == not_taken
        arrived = counts.get(ItemState.ACCEPTED, 0) + counts.get(ItemState.WARNED, 0)
        assert arrived or not refused
        left_out = refused + counts.get(ItemState.WITHHELD, 0)
        assert bool(settlement.reason) == bool(left_out)
        assert f"{refused} of " in (settlement.reason or "") or not refused
    if settlement.state is DeliveryState.DEAD:
        assert settlement.reason
    if unsettled and settlement.state is not DeliveryState.DEAD:
        assert settlement.state.open
    assert (settlement.retry_after is not None) == (settlement.state is DeliveryState.FAILED)
    assert settlement.state is not DeliveryState.SENDING
