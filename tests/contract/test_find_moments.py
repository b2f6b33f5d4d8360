"""Dates and times together, and of another time zone, by extended negotiation (PS3.4 C.2.2.2.5.4).

A second opinion in plain Python says what has to be found.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import build_context
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_domain.find_identifier import QUERY_RETRIEVE_LEVEL, FindIdentifier, RequestedKey
from gantry_domain.find_question import Agreed, find_question
from gantry_domain.information_models import STUDY_ROOT, STUDY_ROOT_FIND
from gantry_domain.query import PageRequest
from gantry_domain.sight import Sight
from gantry_stores.index.search import search
from gantry_testkit.index_rows import fill, indexed
from gantry_testkit.query_scu import answers, associated, identifier

LOCAL = ZoneInfo("Europe/Berlin")
# On either side of a change of the clocks, of midnight, of a month; and what no calendar has.
DATES = ["20240330", "20240331", "20240401", "20240229", "20231231", "20240231", ""]
TIMES = ["000000", "013000", "0300", "12", "233015.5", "235959.999999", ""]
OFFSETS = ["", "+0000", "+0800", "-0330", "+1400", "-1200", "0800"]
ROWS = [
    (f"1.2.{number}", date, time, offset)
    for number, (date, time, offset) in enumerate(
        (date, time, offset) for date in DATES for time in TIMES for offset in OFFSETS
    )
]
CONFIGURATION = "timezone: Europe/Berlin\n"


@pytest.fixture(scope="module")
def engine(module_engine: Engine) -> Engine:
    fill(
        module_engine,
        [
            indexed(
                {
                    "StudyInstanceUID": uid,
                    "StudyDate": date,
                    "StudyTime": time,
                    "TimezoneOffsetFromUTC": offset,
                    "SeriesInstanceUID": f"{uid}.1",
                    "SOPInstanceUID": f"{uid}.1.1",
                }
            )
            for uid, date, time, offset in ROWS
        ],
    )
    return module_engine


# The second opinion.


def clock(date: str, time: str) -> datetime | None:
    """What the sender's clock showed, if it was one."""
    try:
        whole = time.replace(".", "").ljust(12, "0")
        if not (date and time):
            return None
        return datetime.strptime(date + whole, "%Y%m%d%H%M%S%f")  # noqa: DTZ007 - of any zone
    except ValueError:
        return None


def seen_from(date: str, time: str, own: str, asked: str) -> datetime | None:
    shown = clock(date, time)
    if shown is None:
        return None
    at = shown.replace(tzinfo=offset_of(own) if own[:1] in ("+", "-") else LOCAL)
    return at.astimezone(offset_of(asked)).replace(tzinfo=None)


def offset_of(text: str) -> timezone:
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def ends(text: str) -> tuple[str, str]:
    """The first and the last moment of a range of times or dates; `0` and `9` are open."""
    low, dash, high = text.partition("-")
    return low or "0", (high if dash else low) or "9"


def least(time: str) -> str:
    return time.replace(".", "").ljust(12, "0")


def most(time: str) -> str:
    digits = time.replace(".", "")
    return "9" if digits == "9" else digits + "235959999999"[len(digits) :]


def expected(dates: str, times: str, zone: str, *, combined: bool) -> set[str]:
    found = set()
    days, hours = ends(dates), ends(times)
    form = [text.partition("-")[0] != "" for text in (dates, times)]
    form_end = [text.partition("-")[2] != "" for text in (dates, times)]
    together = (
        combined
        and "-" in dates
        and "-" in times
        and form[0] == form[1]
        and form_end[0] == form_end[1]
    )
    for uid, sent_date, sent_time, own in ROWS:
        date, time = sent_date, least(sent_time) if sent_time else ""
        if zone:
            shown = seen_from(sent_date, sent_time, own, zone)
            if shown is not None:
                date, time = f"{shown:%Y%m%d}", f"{shown:%H%M%S%f}"
            elif sent_time:
                date = time = ""  # nobody knows when that was
        if not date and (dates or (times and zone)):
            continue
        if together:
            low, high = days[0] + least(hours[0]), days[1] + most(hours[1])
            if time:
                passes = (hours[0] == "0" or low <= date + time) and (
                    hours[1] == "9" or date + time <= high
                )
            else:
                first = least(hours[0]) == "0" * 12
                last = most(hours[1]) == "235959999999"
                passes = (days[0] < date or (first and days[0] == date)) and (
                    date < days[1] or (last and date == days[1])
                )
        else:
            passes = not dates or days[0] <= date <= days[1]
            if times:
                passes = passes and bool(time) and least(hours[0]) <= time <= most(hours[1])
        if passes:
            found.add(uid)
    return found


def asked(engine: Engine, dates: str, times: str, zone: str, *, combined: bool) -> set[str]:
    keys = (
        RequestedKey(QUERY_RETRIEVE_LEVEL, "CS", "STUDY"),
        RequestedKey(0x00080020, "DA", dates),
        RequestedKey(0x00080030, "TM", times),
        RequestedKey(0x0020000D, "UI"),
    )
    agreed = Agreed(moments=combined, zone=True, local=LOCAL)
    question = find_question(
        FindIdentifier(keys, None, zone), model=STUDY_ROOT, page=PageRequest(1000), agreed=agreed
    )
    page = search(engine, question.query, sight=Sight("main"))
    return {row["0020000D"]["Value"][0] for row in page.rows}


days = st.sampled_from([date for date in DATES if date and date != "20240231"])
hours = st.sampled_from(["00", "0130", "03", "1200", "2330", "235959.999999"])


def values(one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    both = st.tuples(one, one).map(lambda pair: "-".join(sorted(pair)))
    return st.one_of(st.just(""), one, both, one.map("{}-".format), one.map("-{}".format))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    dates=values(days),
    times=values(hours),
    zone=st.sampled_from(["", "+0000", "+0200", "-0930", "+1400"]),
    combined=st.booleans(),
)
def test_what_is_found_is_what_the_second_opinion_finds(
    engine: Engine, dates: str, times: str, zone: str, *, combined: bool
) -> None:
    found = asked(engine, dates, times, zone, combined=combined)
    assert found == expected(dates, times, zone, combined=combined)


@pytest.fixture(scope="module")
def server(engine: Engine, serve_find) -> Iterator[DimseServer]:
    with serve_find(engine, CONFIGURATION) as server:
        yield server


def agreeing(server: DimseServer, options: bytes):
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = STUDY_ROOT_FIND
    item.service_class_application_information = options
    return associated(server.address, contexts=[build_context(STUDY_ROOT_FIND)], ext_neg=[item])


def test_over_an_association(server: DimseServer) -> None:
    with agreeing(server, b"\0\1\0\1") as assoc:
        assert assoc.acceptor.sop_class_extended == {STUDY_ROOT_FIND: b"\0\1\0\1"}
        for uid, date, time, offset in ROWS:
            shown = seen_from(date, time, offset, "+0530")
            if offset not in ("", "-0330") or shown is None:
                continue
            ds = identifier("STUDY", StudyInstanceUID=uid, StudyDate="", StudyTime="")
            ds.TimezoneOffsetFromUTC = "+0530"
            _, (match,) = answers(assoc, ds)
            assert match.TimezoneOffsetFromUTC == "+0530"
            assert match.StudyDate == f"{shown:%Y%m%d}"
            assert f"{shown:%H%M%S.%f}".startswith(match.StudyTime)
            assert len(match.StudyTime) >= max(4, len(time))
        bad = identifier("STUDY", StudyInstanceUID="", StudyDate="20240101")
        bad.TimezoneOffsetFromUTC = "Hong Kong"
        (status,), _ = answers(assoc, bad)
        assert (status.Status, status.OffendingElement) == (0xA900, 0x00080201)


def test_a_zone_that_was_not_agreed_on_means_nothing(server: DimseServer) -> None:
    uid = next(row[0] for row in ROWS if row[1:3] == ("20240330", "000000"))
    ds = identifier("STUDY", StudyInstanceUID=uid, StudyDate="20240330", StudyTime="")
    ds.TimezoneOffsetFromUTC = "-1200"
    with associated(server.address) as assoc:
        _, (match,) = answers(assoc, ds)
    assert (match.StudyDate, match.StudyTime) == ("20240330", "000000")
    assert "TimezoneOffsetFromUTC" not in match


def test_names_are_matched_loosely_where_that_was_agreed(
    engine: Engine, server: DimseServer
) -> None:
    fill(
        engine,
        [
            indexed(
                {
                    "StudyInstanceUID": "1.3.1",
                    "SeriesInstanceUID": "1.3.2",
                    "SOPInstanceUID": "1.3.3",
                    "PatientName": "CHAN^TAI MAN=陳^大文",
                }
            )
        ],
    )
    ds = identifier("STUDY", StudyInstanceUID="1.3.1", PatientName="Tai-Man Chan")
    for options, number in ((b"\0\0\1", 1), (b"\0\0\0", 0), (b"\1\1", 0)):
        with agreeing(server, options) as assoc:
            assert assoc.acceptor.sop_class_extended == {STUDY_ROOT_FIND: options}
            assert len(answers(assoc, ds)[1]) == number
