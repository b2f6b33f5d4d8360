"""Back-off: doubles up to its ceiling and forgets after a stable run."""

from gantry_runtime.backoff import Backoff


def test_it_doubles_to_the_ceiling_and_forgets() -> None:
    backoff = Backoff(first=1, ceiling=5, stable=60)
    assert [backoff.after(0.1) for _ in range(5)] == [1, 2, 4, 5, 5]
    assert backoff.after(61) == 1
    assert backoff.after(0.1) == 2
