"""Times of the day, over midnight too."""

from datetime import time

import pytest

from gantry_domain.day_times import parse_day_span


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
