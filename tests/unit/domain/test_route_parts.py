"""What of a study leaves: all of it when it is complete, series and instances before."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gantry_domain.day_times import parse_week_span
from gantry_domain.route_parts import (
    Leaving,
    Part,
    SeriesQuiet,
    leaving_early,
    leaving_whole,
)
from gantry_domain.routes import Onward, Route, StudyFacts, Trigger

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)  # a Monday
STUDY = StudyFacts(partition="main", StudyDescription="PET", findings=("too_many",))
CT = Part(
    SeriesInstanceUID="1.1",
    SOPClassUID="1.2.3",
    Modality="CT",
    SeriesDescription="thin",
    calling_ae="PETCT",
    called_ae="GANTRY",
    received_at=NOW - timedelta(seconds=70),
    indexed_at=NOW - timedelta(seconds=60),
)
PET = replace(
    CT,
    SeriesInstanceUID="1.2",
    Modality="PT",
    SeriesDescription=None,
    received_at=NOW - timedelta(seconds=2),
    indexed_at=NOW - timedelta(seconds=1),
)
REPORT = replace(CT, SOPClassUID="1.2.4")
QUIET = SeriesQuiet(now=NOW, quiet=timedelta(seconds=60), all_indexed_until=NOW)

INSTANCES = Route(
    name="a", send_to=("NOW",), when={"SOPClassUID": ("1.2.4",)}, trigger=Trigger.INSTANCE
)
SERIES = Route(name="b", send_to=("SOON",), trigger=Trigger.SERIES)
WHOLE = Route(name="c", send_to=("LATE",), when={"Modality": ("PT",)})


def early(*routes: Route, quiet: SeriesQuiet = QUIET) -> tuple[dict[str, object], object]:
    leaving, due = leaving_early(routes, STUDY, [PET, CT, REPORT], quiet=quiet)
    return {each.onward.destination: each.parts for each in leaving}, due


def test_before_a_study_is_complete_what_is_quiet_or_there_leaves() -> None:
    leaving, due = early(INSTANCES, SERIES, WHOLE)
    assert leaving == {"NOW": (REPORT,), "SOON": (CT, REPORT)}
    assert due == PET.indexed_at + QUIET.quiet


def test_a_series_is_not_quiet_while_older_objects_wait_for_their_row() -> None:
    for known in (None, NOW - timedelta(seconds=30)):
        leaving, due = early(SERIES, quiet=replace(QUIET, all_indexed_until=known))
        assert leaving == {}
        assert due is not None


def test_without_routes_for_series_none_is_looked_at_again() -> None:
    assert early(INSTANCES)[1] is None


def test_a_complete_study_goes_by_all_of_its_routes_each_for_its_part() -> None:
    leaving = leaving_whole([INSTANCES, SERIES, WHOLE], STUDY, [CT, REPORT, PET])
    assert {each.onward.destination: each.parts for each in leaving} == {
        "LATE": None,
        "SOON": (CT, REPORT, PET),
        "NOW": (REPORT,),
    }


def test_a_part_is_asked_about_by_what_it_is_and_by_what_its_study_is() -> None:
    def asked(**when: tuple[str, ...]) -> set[str]:
        route = Route(name="r", send_to=("X",), when=when, trigger=Trigger.SERIES)
        leaving = leaving_whole([route], STUDY, [CT, PET])
        return {p.SeriesInstanceUID for each in leaving for p in each.parts or ()}

    assert asked(Modality=("PT",)) == {"1.2"}
    assert asked(SeriesDescription=("th*",)) == {"1.1"}
    assert asked(StudyDescription=("pet",), finding=("too_many",)) == {"1.1", "1.2"}
    assert asked(calling_ae=("CT01",)) == set()


def test_two_ways_to_a_destination_are_one() -> None:
    routes = [
        replace(INSTANCES, send_to=("X",), priority=2),
        replace(SERIES, send_to=("X",), priors=3),
    ]
    leaving, _ = leaving_early(routes, STUDY, [CT, REPORT], quiet=QUIET)
    assert leaving == (Leaving(Onward("X", 2, 3), (REPORT, CT)),)
    whole = leaving_whole([*routes, replace(WHOLE, send_to=("X",))], STUDY, [CT, PET, REPORT])
    assert whole == (Leaving(Onward("X", 2, 3)),)


def test_at_other_times_a_route_takes_nothing_but_what_has_begun_to_go() -> None:
    route = Route(name="r", send_to=("X", "Y"), during=(parse_week_span("Mon-Fri 08:00-18:00"),))
    evening = NOW + timedelta(hours=8)

    def to(moment: datetime, *begun: str) -> list[str]:
        leaving = leaving_whole([route], STUDY, [CT], moment=moment, begun=begun)
        return [each.onward.destination for each in leaving]

    assert to(NOW) == ["X", "Y"]
    assert to(evening) == []
    assert to(evening, "Y") == ["Y"]
