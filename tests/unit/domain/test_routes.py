"""A study goes where every condition of a route holds, and to each destination once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.errors import ConfigurationError
from gantry_domain.routes import (
    CONDITIONS,
    Onward,
    Route,
    StudyFacts,
    check_destinations,
    onward,
)

STUDY = StudyFacts(
    partition="main",
    ModalitiesInStudy=("CT", "SR"),
    SOPClassesInStudy=("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"),
    StudyDescription="CT Thorax [low dose]",
    calling_aes=("CT01", "CT02"),
    called_aes=("GANTRY",),
)


def route(**when: tuple[str, ...]) -> Route:
    return Route(name="test", send_to=("READING",), when=when)


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"Modality": ("CT", "MR")},
        {"Modality": ("sr",)},
        {"calling_ae": ("CT02",)},
        {"calling_ae": ("CT0?",), "Modality": ("CT",)},
        {"StudyDescription": ("*thorax*",)},
        {"StudyDescription": ("ct thorax [low dose]",)},
        {"SOPClassUID": ("1.2.840.10008.5.1.4.1.1.88.*",)},
        {"partition": ("main",), "called_ae": ("GANTRY",)},
    ],
)
def test_a_route_that_matches(when: dict[str, tuple[str, ...]]) -> None:
    assert route(**when).matches(STUDY)


@pytest.mark.parametrize(
    "when",
    [
        {"Modality": ("MR",)},
        {"Modality": ("C",)},
        {"Modality": ("CT",), "calling_ae": ("CT03",)},
        {"StudyDescription": ("thorax",)},
        # A bracket is a character like any other.
        {"StudyDescription": ("CT Thorax [l]*",)},
        {"partition": ("other",)},
    ],
)
def test_a_route_that_does_not(when: dict[str, tuple[str, ...]]) -> None:
    assert not route(**when).matches(STUDY)


def test_a_condition_on_what_the_study_lacks_does_not_hold() -> None:
    bare = StudyFacts(partition="main")
    assert not route(StudyDescription=("*",)).matches(bare)
    assert route().matches(bare)


def test_each_destination_is_named_once_in_the_order_of_the_routes() -> None:
    routes = [
        Route(name="a", send_to=("ONE", "TWO")),
        Route(name="b", send_to=("TWO", "THREE"), when={"Modality": ("CT",)}),
        Route(name="c", send_to=("FOUR",), when={"Modality": ("MR",)}),
    ]
    assert [each.destination for each in onward(routes, STUDY)] == ["ONE", "TWO", "THREE"]


def test_an_unknown_condition_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="test asks for PatientName"):
        route(PatientName=("*",))


def test_a_condition_without_values_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Modality"):
        route(Modality=())


def test_a_route_without_destinations_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no destination"):
        Route(name="nowhere", send_to=())


def test_an_unknown_destination_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="test sends to READING"):
        check_destinations([route()], ["WEBPACS"])
    check_destinations([route()], ["READING"])


@given(st.sampled_from(sorted(CONDITIONS)), st.text(min_size=1, max_size=20), st.text(max_size=20))
def test_a_pattern_without_wildcards_matches_itself_alone(key: str, one: str, other: str) -> None:
    plain = one.replace("*", "+").replace("?", "+")
    facts = StudyFacts(
        partition=plain,
        ModalitiesInStudy=(plain,),
        SOPClassesInStudy=(plain,),
        StudyDescription=plain,
        calling_aes=(plain,),
        called_aes=(plain,),
        findings=(plain,),
    )
    assert route(**{key: (plain,)}).matches(facts)
    assert route(**{key: ("*",)}).matches(facts)
    assert route(**{key: (plain + other + "x",)}).matches(facts) is False


def test_of_several_routes_the_most_urgent_counts_and_the_most_priors() -> None:
    routes = [
        Route(name="a", send_to=("ONE", "TWO"), priority=3),
        Route(name="b", send_to=("ONE",), priority=1, priors=2),
        Route(name="c", send_to=("TWO",), priority=9, when={"Modality": ("NONE",)}),
    ]
    assert onward(routes, STUDY) == (Onward("ONE", 3, 2), Onward("TWO", 3, 0))
