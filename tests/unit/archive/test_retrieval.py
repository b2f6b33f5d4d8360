"""The tally of a retrieval: counts that add up, and a list that fits into its element."""

from gantry_archive.retrieval import Tally
from gantry_domain.store_responses import StoreResult
from gantry_domain.sub_operations import SubOperations

LONGEST = "1.2." + "3" * 60


def test_the_counts_add_up_to_what_was_expected() -> None:
    tally = Tally(10)
    assert tally.counts == SubOperations(remaining=10)
    tally.add("1.1", StoreResult.ACCEPTED)
    tally.add("1.2", StoreResult.WARNED)
    tally.add("1.3", StoreResult.FAILED)
    tally.add("1.4", StoreResult.REFUSED)
    assert tally.counts == SubOperations(remaining=6, completed=1, warning=1, failed=2)
    assert tally.failed_uids == ["1.3", "1.4"]
    tally.end()
    assert tally.counts == SubOperations(completed=1, warning=1, failed=8)


def test_what_came_meanwhile_is_counted_too() -> None:
    tally = Tally(1)
    for number in range(3):
        tally.add(f"1.{number}", StoreResult.ACCEPTED)
    tally.end()
    assert tally.counts == SubOperations(completed=3)


def test_the_list_of_what_failed_fits_into_its_element() -> None:
    tally = Tally(3000)
    for _ in range(3000):
        tally.add(LONGEST, StoreResult.FAILED)
    assert tally.counts.failed == 3000
    named = tally.failed_uids
    assert len(named) > 1000
    assert len("\\".join(named)) <= 0xFFFE
