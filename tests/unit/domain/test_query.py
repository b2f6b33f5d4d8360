"""Matching keys become tests as PS3.4 C.2.2.2 says; nonsense is refused by the parameter's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.attributes import ATTRIBUTES, BY_KEYWORD, Level
from gantry_domain.query import (
    BadQuery,
    Key,
    Like,
    Names,
    NameTest,
    Numbers,
    OneOf,
    PageRequest,
    Pattern,
    Query,
    Range,
    Test,
    parse_test,
)

PAGE = PageRequest(limit=10)


def parsed(keyword: str, text: str) -> Test | None:
    return parse_test(BY_KEYWORD[keyword], text)


def names(*groups: str | None, anywhere: bool = False) -> Names:
    patterns = tuple(None if group is None else Pattern(group) for group in groups)
    return Names((NameTest(patterns, anywhere),))


@pytest.mark.parametrize(
    ("keyword", "text", "test"),
    [
        ("PatientID", "A1", OneOf(("A1",))),
        ("PatientID", " A1 ", OneOf(("A1",))),
        ("PatientID", "A\\B\\A", OneOf(("A", "B"))),
        ("PatientID", "A,B", OneOf(("A,B",))),
        ("PatientID", "A*", Like((Pattern("A*"),))),
        ("PatientID", "A?\\B", Like((Pattern("A?"), Pattern("B")))),
        ("PatientID", "100%_", OneOf(("100%_",))),
        ("PatientID", "", None),
        ("PatientID", "*", None),
        ("PatientID", "***", None),
        ("PatientID", "A\\*", None),
        ("StudyInstanceUID", "1.2\\1.3,1.4", OneOf(("1.2", "1.3", "1.4"))),
        ("StudyInstanceUID", "1.2,", OneOf(("1.2",))),
        ("ModalitiesInStudy", "CT\\MR,US", OneOf(("CT", "MR", "US"))),
        ("ModalitiesInStudy", "C*", Like((Pattern("C*"),))),
        ("SeriesNumber", " +007 ", Numbers((7,))),
        ("SeriesNumber", "1\\-2", Numbers((1, -2))),
        ("StudyDate", "20240131", Range("20240131", "20240131")),
        ("StudyDate", "2024.01.31", Range("20240131", "20240131")),
        ("StudyDate", "20240101-20240131", Range("20240101", "20240131")),
        ("StudyDate", "20240101-", Range("20240101", None)),
        ("StudyDate", "-20240131", Range(None, "20240131")),
        ("StudyTime", "10", Range("100000.000000", "105959.999999")),
        ("StudyTime", "1030", Range("103000.000000", "103059.999999")),
        ("StudyTime", "10:30:15", Range("103015.000000", "103015.999999")),
        ("StudyTime", "103015.25", Range("103015.250000", "103015.259999")),
        ("StudyTime", "-12", Range(None, "125959.999999")),
        ("StudyTime", "0800-0930", Range("080000.000000", "093059.999999")),
        ("PatientName", "CHAN^Tai Man^^", names("chan^tai man", anywhere=True)),
        ("PatientName", "*大文*", names("*大文*", anywhere=True)),
        ("PatientName", "=陳*", names(None, "陳*")),
        ("PatientName", "Chan*==x", names("chan*", None, "x")),
        ("PatientName", "^", None),
        ("PatientName", "*=*", None),
    ],
)
def test_values(keyword: str, text: str, test: Test | None) -> None:
    assert parsed(keyword, text) == test


@pytest.mark.parametrize(
    ("keyword", "text", "complaint"),
    [
        ("StudyDate", "2024-01-31", "date"),
        ("StudyDate", "2024", "date"),
        ("StudyDate", "2024.0131", "date"),
        ("StudyDate", "٢٠٢٤٠١٣١", "date"),
        ("StudyDate", "-", "range without an end"),
        ("StudyTime", "1", "time"),
        ("StudyTime", "10:3015", "time"),
        ("SeriesNumber", "one", "integer"),
        ("SeriesNumber", "1234567890123", "integer"),
        ("StudyInstanceUID", "1.2.*", "wildcards"),
        ("StudyInstanceUID", "1" * 65, "UID"),
        ("StudyInstanceUID", "1.2 3", "UID"),
        ("StudyInstanceUID", ",", "no value"),
        ("PatientID", "A\x00", "NUL"),
        ("PatientID", "A" * 1025, "longer"),
        ("PatientID", "\\".join(map(str, range(2001))), "values"),
        ("PatientComments", "x", "cannot be searched"),
    ],
)
def test_nonsense_is_refused_by_name(keyword: str, text: str, complaint: str) -> None:
    with pytest.raises(BadQuery, match=complaint) as caught:
        parsed(keyword, text)
    assert caught.value.parameter == keyword
    assert len(text) < 4 or text not in str(caught.value)


@given(st.sampled_from([a for a in ATTRIBUTES if a.matching]), st.text(max_size=80))
def test_any_text_is_a_test_or_a_bad_query(attribute, text) -> None:
    complaint_about, test = None, None
    try:
        test = parse_test(attribute, text)
    except BadQuery as error:
        complaint_about = error.parameter
    universal = not text.strip(" *") or any(character in text for character in "*^=")
    assert test is not None or universal or complaint_about == attribute.keyword


def test_a_bad_query_uses_the_callers_name() -> None:
    with pytest.raises(BadQuery, match="00080020: "):
        parse_test(BY_KEYWORD["StudyDate"], "x", parameter="00080020")


def test_keys_belong_to_the_level_or_above() -> None:
    key = Key(BY_KEYWORD["Modality"], OneOf(("CT",)))
    Query(Level.SERIES, (key,), frozenset(), PAGE)
    with pytest.raises(BadQuery, match="Modality"):
        Query(Level.STUDY, (key,), frozenset(), PAGE)


def test_pins() -> None:
    def query(*uids: str) -> Query:
        return Query(
            Level.SERIES, (Key(BY_KEYWORD["StudyInstanceUID"], OneOf(uids)),), frozenset(), PAGE
        )

    assert query("1.2").pins("StudyInstanceUID")
    assert not query("1.2", "1.3").pins("StudyInstanceUID")
    assert not query("1.2").pins("SeriesInstanceUID")


def test_fragments_of_a_pattern() -> None:
    assert list(Pattern("*ab?c**d").fragments()) == ["ab", "c", "d"]
