"""Each status of a C-STORE response means one thing for the sender."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.store_responses import StoreResult, read_store_status


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (0x0000, StoreResult.ACCEPTED),
        (0x0111, StoreResult.ACCEPTED),
        (0x0001, StoreResult.WARNED),
        (0x0107, StoreResult.WARNED),
        (0x0116, StoreResult.WARNED),
        (0xB000, StoreResult.WARNED),
        (0xB006, StoreResult.WARNED),
        (0xB007, StoreResult.WARNED),
        (0xBFFF, StoreResult.WARNED),
        (0xA700, StoreResult.FAILED),
        (0xA7FF, StoreResult.FAILED),
        (0x0110, StoreResult.FAILED),
        (0x0210, StoreResult.FAILED),
        (0x0213, StoreResult.FAILED),
        (0xFE00, StoreResult.FAILED),
        (0xA900, StoreResult.REFUSED),
        (0xA9FF, StoreResult.REFUSED),
        (0xC000, StoreResult.REFUSED),
        (0xCFFF, StoreResult.REFUSED),
        (0x0117, StoreResult.REFUSED),
        (0x0122, StoreResult.REFUSED),
        (0x0124, StoreResult.REFUSED),
        (0x0211, StoreResult.REFUSED),
        (0x0212, StoreResult.REFUSED),
        # A pending or unheard-of status is no promise that the peer has it.
        (0xFF00, StoreResult.REFUSED),
        (0x0042, StoreResult.REFUSED),
        (0xA800, StoreResult.REFUSED),
    ],
)
def test_what_a_status_means(code: int, result: StoreResult) -> None:
    assert read_store_status(code).result is result


@given(st.integers(0, 0xFFFF))
def test_every_code_has_a_meaning_and_a_clause(code: int) -> None:
    answer = read_store_status(code)
    assert answer.code == code
    assert answer.status.clause.startswith("PS3.")
    assert answer.reason.startswith(f"{code:04X} ")


def test_only_accepted_and_warned_are_stored() -> None:
    stored = {result for result in StoreResult if result.stored}
    assert stored == {StoreResult.ACCEPTED, StoreResult.WARNED}
