"""What the index holds of a header at each level."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.attributes import BY_KEYWORD, Level
from gantry_domain.levels import (
    LARGEST_VALUE,
    TEXT_LIMIT,
    comparable_date,
    comparable_time,
    level_values,
    name_grams,
    patient_identity,
    searchable,
)


def element(vr, *values):
    return {"vr": vr, "Value": list(values)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20260102", "20260102"),
        ("2026.01.02", "20260102"),
        ("2026-01-02", None),
        ("2026.0102", None),
        ("202601", None),
        ("today", None),
        ("", None),
    ],
)
def test_dates_compare_as_text(text, expected):
    assert comparable_date(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("101112.123456", "101112.123456"),
        ("101112.5", "101112.500000"),
        ("101112.1234567", "101112.123456"),
        ("101112", "101112.000000"),
        ("1011", "101100.000000"),
        ("10", "100000.000000"),
        ("10:11:12", "101112.000000"),
        ("10:1112", None),
        ("noon", None),
    ],
)
def test_times_compare_as_text(text, expected):
    assert comparable_time(text) == expected


@pytest.mark.parametrize(
    ("keyword", "given_element", "expected"),
    [
        ("PatientID", element("LO", "A\0B "), "AB"),
        ("PatientID", element("LO", "x" * 1000), "x" * TEXT_LIMIT),
        ("PatientID", element("LO", ""), None),
        ("PatientID", {"vr": "LO"}, None),
        ("PatientID", None, None),
        ("SeriesNumber", element("IS", 7), "7"),
        ("StudyDate", element("DA", "2026.01.02"), "20260102"),
        (
            "PatientName",
            element("PN", {"Alphabetic": "Wang^X^^", "Ideographic": "王^小东"}),
            "wang^x=王^小东",
        ),
        ("PatientName", element("PN", {"Ideographic": "王^小东"}), "=王^小东"),
        ("OperatorsName", element("PN", {"Alphabetic": "A"}, None), "a\\"),
        ("Modality", element("CS", "CT"), "CT"),
    ],
)
def test_searchable_text(keyword, given_element, expected):
    assert searchable(BY_KEYWORD[keyword], given_element) == expected


@given(st.text(max_size=600))
def test_searchable_text_is_always_fit_for_an_index(text):
    found = searchable(BY_KEYWORD["PatientName"], element("PN", {"Alphabetic": text}))
    assert found is None or (len(found) <= TEXT_LIMIT and "\0" not in found)


def test_a_study_has_its_patients_attributes_too():
    values = level_values(
        {
            "00100020": element("LO", "P1"),
            "0020000D": element("UI", "1.2"),
            "00080020": element("DA", "20260102"),
            "00200011": element("IS", 3),
        },
        Level.PATIENT,
        Level.STUDY,
    )
    assert values.columns["patient_id"] == "P1"
    assert values.columns["study_date"] == "20260102"
    assert set(values.attributes) == {"00100020", "0020000D", "00080020"}
    assert "study_instance_uid" not in values.columns  # a column of the row itself


def test_what_is_huge_stays_in_the_header():
    items = [{"00400007": element("LO", "y" * 1000)}] * (LARGEST_VALUE // 1000)
    values = level_values(
        {"00400275": {"vr": "SQ", "Value": items}, "00080060": element("CS", "CT")}, Level.SERIES
    )
    assert set(values.attributes) == {"00080060"}


def test_patients_are_told_apart_by_their_issuer_and_without_identifier_by_study():
    def identity(study="1.2", patient_id=None, issuer_of_patient_id=None):
        values = {"00100020": patient_id, "00100021": issuer_of_patient_id}
        return patient_identity(
            {tag: element("LO", value) for tag, value in values.items() if value}, study
        )

    assert identity(patient_id="A") == identity("1.3", patient_id="A")
    assert identity(patient_id="A") != identity(patient_id="A", issuer_of_patient_id="X")
    assert identity(patient_id='A","X') != identity(patient_id="A", issuer_of_patient_id="X")
    assert identity() != identity("1.3")
    assert identity(patient_id=None) == identity()


def test_grams_of_a_row():
    assert name_grams({"patient_name": "ab=王"}) == ["a", "ab", "b", "王"]
    assert name_grams({"patient_name": None}) == []
