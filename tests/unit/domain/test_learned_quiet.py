"""Quiet times that are learned: of few studies, in any order, and long enough for most."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.learned_quiet import FEWEST_STUDIES, MOST_STUDIES, Pauses

AT_LEAST = timedelta(seconds=30)
SEEN = st.lists(
    st.tuples(st.integers(1, 150), st.integers(0, 900).map(lambda n: timedelta(seconds=n))),
    max_size=300,
)


def learned(*seconds: int) -> timedelta | None:
    seen = [(number, timedelta(seconds=pause)) for number, pause in enumerate(seconds)]
    return Pauses().with_studies(seen).quiet_time(at_least=AT_LEAST)


def test_twice_the_pause_that_nineteen_of_twenty_stay_below() -> None:
    assert learned(*[40] * 19) is None
    assert learned(*[40] * 19, 500) == timedelta(seconds=80)
    assert learned(*[40] * 18, 500, 500) == timedelta(seconds=1000)
    assert learned(*[0] * 20) == AT_LEAST


@given(SEEN)
def test_it_remembers_the_last_studies_each_once_with_its_newest_pause(
    seen: list[tuple[int, timedelta]],
) -> None:
    pauses = Pauses()
    for one in seen:
        pauses = pauses.with_studies([one])
    assert pauses == Pauses().with_studies(seen)
    assert len(pauses.studies) <= MOST_STUDIES
    assert len(dict(pauses.studies)) == len(pauses.studies)
    newest = dict(seen)
    assert all(newest[study] == pause for study, pause in pauses.studies)
    if seen:
        assert pauses.studies[-1] == seen[-1]


@given(SEEN, st.randoms(use_true_random=False))
def test_few_studies_pause_longer_and_the_order_does_not_matter(
    seen: list[tuple[int, timedelta]], random: Random
) -> None:
    distinct = list(dict(seen).items())[-MOST_STUDIES:]
    pauses = Pauses().with_studies(distinct)
    time = pauses.quiet_time(at_least=AT_LEAST)
    random.shuffle(distinct)
    assert Pauses().with_studies(distinct).quiet_time(at_least=AT_LEAST) == time
    if time is None:
        assert len(distinct) < FEWEST_STUDIES
    else:
        assert time >= AT_LEAST
        assert sum(pause > time for _study, pause in distinct) * 20 <= len(distinct)
