"""Names are found whatever their case, script, composition and component group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.names import component_groups, fold, grams


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("CHAN^Tai Man", "chan^tai man"),
        ("CHAN^TAI MAN^^^", "chan^tai man"),
        (" Yamada^Tarou=山田^太郎=やまだ^たろう ", "yamada^tarou=山田^太郎=やまだ^たろう"),
        ("Wang^XiaoDong=王^小东=", "wang^xiaodong=王^小东"),
        ("=王^小东", "=王^小东"),
        ("A^B\\C^D^", "a^b\\c^d"),
        ("Mu\u0308ller", "m\u00fcller"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("", ""),
        ("^^^", ""),
    ],
)
def test_fold(name: str, folded: str) -> None:
    assert fold(name) == folded


def test_grams_stay_within_a_component_group() -> None:
    assert grams("AB=王小") == {"a", "b", "ab", "王", "小", "王小"}
    assert grams("") == set()


def test_component_groups_of_all_values() -> None:
    assert component_groups("A^B==C\\D") == ["a^b", "c", "d"]


@given(st.text(max_size=64))
def test_folding_twice_changes_nothing(name: str) -> None:
    assert fold(fold(name)) == fold(name)


@given(st.text(max_size=64))
def test_grams_do_not_depend_on_folding(name: str) -> None:
    assert grams(name) == grams(fold(name))
