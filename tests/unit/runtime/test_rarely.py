"""Lines of strangers do not fill the log."""

from gantry_runtime.rarely import Rarely


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_of_each_kind_in_a_while() -> None:
    clock = Clock()
    rarely = Rarely(every=60, clock=clock)
    assert rarely.due("10.0.0.1", "tls") == 0
    assert [rarely.due("10.0.0.1", "tls") for _ in range(5)] == [None] * 5
    # Another kind is told at once, and how many were left out of any.
    assert rarely.due("10.0.0.2", "tls") == 5
    clock.now += 61
    assert rarely.due("10.0.0.1", "tls") == 0


def test_ever_new_kinds_do_not_fill_the_log_either() -> None:
    clock = Clock()
    rarely = Rarely(every=60, most=10, clock=clock)
    told = [rarely.due(f"TITLE{n}") for n in range(5000)]
    assert told[:10] == [0] * 10
    assert set(told[10:]) == {None}
    clock.now += 61
    assert rarely.due("TITLE1") == 4990
