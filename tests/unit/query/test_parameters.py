"""The parameters of QIDO-RS: what OHIF sends, names in every spelling, pages, nonsense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.attributes import BY_KEYWORD, Level
from gantry_domain.query import BadQuery, Key, Names, NameTest, OneOf, Order, Pattern, Range
from gantry_query.parameters import LARGEST_PAGE, SearchRequest, parse_search

STUDY_REQUIRED = """
    00080005 00080020 00080030 00080050 00080056 00080061 00080090 00080201 00081190 00100010
    00100020 00100030 00100040 0020000D 00200010 00201206 00201208
""".split()
SERIES_REQUIRED = """
    00080060 0008103E 00081190 0020000D 0020000E 00200011 00201209 00400244 00400245 00400275
""".split()
INSTANCE_REQUIRED = """
    0020000D 0020000E 00080056 00081190 00080201 00080016 00080018 00200013 00280010 00280011
    00280100 00280008
""".split()


def parsed(level: Level, *items: tuple[str, str], **within: str) -> SearchRequest:
    return parse_search(level, items, within=within)


def test_what_ohif_asks() -> None:
    request = parsed(
        Level.STUDY,
        ("limit", "101"),
        ("offset", "0"),
        ("fuzzymatching", "false"),
        ("includefield", "00081030,00080060"),
        ("PatientName", "*chan*"),
        ("00100020", "*7*"),
        ("StudyDate", "20240101-20240131"),
        ("ModalitiesInStudy", "CT\\MR"),
    )
    query = request.query
    tests = {key.attribute.keyword: key.test for key in query.keys}
    assert tests["PatientName"] == Names((NameTest((Pattern("*chan*"),), True),))
    assert tests["StudyDate"] == Range("20240101", "20240131")
    assert tests["ModalitiesInStudy"] == OneOf(("CT", "MR"))
    assert query.page.limit == 101
    assert "00081030" in query.include
    assert request.warnings == ()


@pytest.mark.parametrize("name", ["PatientID", "patientid", "PATIENTID", "00100020"])
def test_names_in_any_spelling(name: str) -> None:
    assert parsed(Level.STUDY, (name, "A")).query.keys == (
        Key(BY_KEYWORD["PatientID"], OneOf(("A",))),
    )


def test_required_attributes() -> None:
    assert set(STUDY_REQUIRED) <= parsed(Level.STUDY).query.include
    of_study = parsed(Level.SERIES, StudyInstanceUID="1.2").query
    assert set(SERIES_REQUIRED) <= of_study.include
    assert "00100010" not in of_study.include
    assert {*SERIES_REQUIRED, *STUDY_REQUIRED} <= parsed(Level.SERIES).query.include
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    of_series = parsed(Level.INSTANCE, **uids).query
    assert set(INSTANCE_REQUIRED) <= of_series.include
    assert not {"00100010", "00080060"} & of_series.include
    within_study = parsed(Level.INSTANCE, StudyInstanceUID="1.2").query
    assert {*INSTANCE_REQUIRED, *SERIES_REQUIRED} <= within_study.include
    assert "00100010" not in within_study.include
    everything = parsed(Level.INSTANCE).query.include
    assert {*INSTANCE_REQUIRED, *SERIES_REQUIRED, *STUDY_REQUIRED} <= everything


def test_the_path_pins_uids() -> None:
    query = parsed(Level.SERIES, ("Modality", "CT"), StudyInstanceUID="1.2").query
    assert query.pins("StudyInstanceUID")
    assert len(query.keys) == 2


def test_fields() -> None:
    query = parsed(
        Level.STUDY,
        ("includefield", "StudyDescription,00321060"),
        ("includefield", "requestattributessequence.requestedprocedureid"),
        ("includefield", "NoSuchThing"),
        ("StudyID", ""),
    ).query
    assert {"00081030", "00321060", "00400275", "00200010"} <= query.include
    assert query.keys == ()
    assert not query.everything
    assert parsed(Level.STUDY, ("includefield", "ALL")).query.everything


def test_what_is_not_searched_for_is_said() -> None:
    request = parsed(
        Level.STUDY,
        ("Modality", "CT"),
        ("PatientComments", "x"),
        ("RequestAttributesSequence.RequestedProcedureID", "1"),
        ("unknown", "1"),
        ("PatientWeight", ""),
    )
    assert request.query.keys == ()
    (warning,) = request.warnings
    assert warning.endswith(
        "Modality, PatientComments, RequestAttributesSequence.RequestedProcedureID"
    )
    loosely = ("fuzzymatching", "true")
    assert parsed(Level.STUDY, loosely, ("PatientName", "x")).warnings == ()
    (warning,) = parsed(Level.STUDY, loosely, ("ReferringPhysicianName", "x")).warnings
    assert warning == "Only literal matching has been performed of: ReferringPhysicianName"


def test_order() -> None:
    order = parsed(Level.STUDY, ("orderby", "-StudyDate,00100010")).query.order
    assert order == (
        Order(BY_KEYWORD["StudyDate"], descending=True),
        Order(BY_KEYWORD["PatientName"]),
    )


def test_pages() -> None:
    assert parsed(Level.STUDY).query.page.limit == LARGEST_PAGE
    assert parsed(Level.STUDY, ("limit", "1000000")).query.page.limit == LARGEST_PAGE
    assert parsed(Level.STUDY, ("limit", "0")).query.page.limit == 0
    assert parsed(Level.STUDY, ("offset", "7"), ("limit", "")).query.page.offset == 7
    assert parsed(Level.STUDY, ("after", "x")).query.page.after == "x"


@pytest.mark.parametrize(
    ("items", "parameter"),
    [
        ([("limit", "-1")], "limit"),
        ([("limit", "1e3")], "limit"),
        ([("limit", "1"), ("limit", "2")], "limit"),
        ([("offset", "100001")], "offset"),
        ([("offset", "1"), ("after", "x")], "offset"),
        ([("fuzzymatching", "maybe")], "fuzzymatching"),
        ([("orderby", "Modality")], "orderby"),
        ([("orderby", "nothing")], "orderby"),
        ([("StudyDate", "yesterday")], "StudyDate"),
        ([("00080020", "yesterday")], "00080020"),
        ([("PatientID", "1"), ("00100020", "2")], "00100020"),
        ([("includefield", ",".join(["PatientID"] * 1001))], "includefield"),
    ],
)
def test_nonsense_is_refused_by_name(items: list[tuple[str, str]], parameter: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parsed(Level.STUDY, *items)
    assert caught.value.parameter == parameter


def test_a_path_that_is_no_uid() -> None:
    with pytest.raises(BadQuery, match="StudyInstanceUID"):
        parsed(Level.SERIES, StudyInstanceUID="1.*")


names = st.one_of(
    st.sampled_from(["limit", "offset", "includefield", "orderby", "PatientName", "00080020"]),
    st.text(max_size=20),
)


@given(st.lists(st.tuples(names, st.text(max_size=30)), max_size=6), st.sampled_from(Level))
def test_any_parameters_are_a_query_or_a_bad_one(items, level) -> None:
    if level is Level.PATIENT:
        return
    refused = None
    try:
        request = parse_search(level, items, within={})
    except BadQuery as error:
        refused = error.parameter
    else:
        # What goes into headers of the answer must be fit for it.
        assert all(warning.isascii() and '"' not in warning for warning in request.warnings)
    assert refused is None or refused in {name for name, _ in items} or refused == "after"
