"""Which studies of another archive are asked for: ranges of dates, and what is here already."""

from datetime import date

import pytest

from gantry_archive.pulling import RemoteStudy, Wanted

TODAY = date(2026, 3, 1)


@pytest.mark.parametrize(
    ("wanted", "ranges"),
    [
        (Wanted(), [""]),
        (Wanted(until=date(2026, 1, 2)), ["-20260102"]),
        (Wanted(since=date(2026, 2, 27)), ["20260227", "20260228", "20260301-"]),
        (
            Wanted(since=date(2025, 12, 31), until=date(2026, 1, 1)),
            ["20251231", "20260101"],
        ),
        (Wanted(since=date(2026, 1, 2), until=date(2026, 1, 1)), []),
        (Wanted(since=date(2026, 3, 2)), ["20260302-"]),
    ],
)
def test_ranges_match_each_study_once(wanted: Wanted, ranges: list[str]) -> None:
    assert list(wanted.ranges(TODAY)) == ranges


@pytest.mark.parametrize(
    ("there", "here", "held"),
    [(3, 3, True), (3, 4, True), (3, 2, False), (3, None, False), (None, 9, False), (0, 0, False)],
)
def test_a_study_is_held_where_as_many_instances_are_here(
    there: int | None, here: int | None, held: bool
) -> None:
    study = RemoteStudy("1.2", "20260101", "CT", there)
    assert study.held({} if here is None else {"1.2": here}) is held
