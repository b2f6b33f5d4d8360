"""Names of files outside: lasting, safe, and different for different instances."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.file_names import instance_file_name


def test_uids_name_the_file() -> None:
    assert instance_file_name("1.2", "1.2.3", "1.2.3.4") == "1.2/1.2.3/1.2.3.4.dcm"


@given(st.lists(st.text(max_size=80), min_size=3, max_size=3), st.text(max_size=80))
def test_whatever_a_data_set_says_the_name_is_safe_and_its_own(uids: list[str], other: str) -> None:
    name = instance_file_name(*uids)
    parts = name.split("/")
    assert len(parts) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,67}", part) for part in parts), name
    assert instance_file_name(*uids) == name
    assert (instance_file_name(uids[0], uids[1], other) == name) == (other == uids[2])
