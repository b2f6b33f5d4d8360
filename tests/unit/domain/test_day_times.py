"""Times of the day and of the week, over midnight too."""

from datetime import datetime, time

import pytest

from gantry_domain.day_times import parse_day_span, parse_week_span


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("22:00-06:00", [time(22), time(0), time(5, 59, 59)], [time(6), time(21, 59, 59)]),
        ("12:30-13:00", [time(12, 30), time(12, 59)], [time(13), time(12, 29), time(0)]),
    ],
)
def test_a_span_includes_its_beginning_and_not_its_end(
    span: str, inside: list[time], outside: list[time]
) -> None:
    parsed = parse_day_span(span)
    assert all(parsed.includes(each) for each in inside)
    assert not any(parsed.includes(each) for each in outside)


@pytest.mark.parametrize("text", ["22-6", "24:00-06:00", "10:00-10:00", "", "1:00-2:00"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time of the day|begins when"):
        parse_day_span(text)


MONDAY, FRIDAY, SATURDAY, SUNDAY = 2, 6, 7, 8  # of November 2026


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, day, hour, minute)  # noqa: DTZ001 - the zone is the configuration's


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("Mon-Fri 08:00-18:00", [at(MONDAY, 8), at(FRIDAY, 17, 59)], [at(7, 9), at(FRIDAY, 18)]),
        ("sat,SUN", [at(SATURDAY, 0), at(SUNDAY, 23, 59)], [at(FRIDAY, 23, 59), at(9, 0)]),
        ("Sat-Mon", [at(SATURDAY, 1), at(SUNDAY, 1), at(MONDAY, 1)], [at(FRIDAY, 1), at(3, 1)]),
        ("12:00-13:00", [at(each, 12, 30) for each in range(2, 9)], [at(MONDAY, 13)]),
        # What begins on Friday lasts into Saturday, and Friday's early hours are Thursday's.
        (
            "Fri 22:00-06:00",
            [at(FRIDAY, 22), at(SATURDAY, 5, 59)],
            [at(FRIDAY, 5), at(SATURDAY, 22), at(SUNDAY, 1)],
        ),
    ],
)
def test_a_time_of_the_week(span: str, inside: list[datetime], outside: list[datetime]) -> None:
    parsed = parse_week_span(span)
    assert [each for each in inside if not parsed.includes(each)] == []
    assert [each for each in outside if parsed.includes(each)] == []


@pytest.mark.parametrize(
    "text", ["", "Mon-Fri 8-18", "Mo-Fr", "Mon Tue", "Mon-Fri 08:00-18:00 x", "Mon, Tue", "-"]
)
def test_what_is_no_time_of_the_week_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time of the (day|week)|day of the week"):
        parse_week_span(text)
