"""Pages of a search: none skips or repeats a match, whatever is added between them."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from gantry_domain.attributes import BY_KEYWORD, Level
from gantry_domain.query import BadQuery, Key, OneOf, Order, PageRequest, Query, parse_test
from gantry_domain.sight import Sight
from gantry_stores.index.database import make_engine
from gantry_stores.index.search import (
    Subject,
    count,
    headers_of,
    instances_of,
    newest,
    search,
    study_state,
    transfer_syntaxes_of,
)
from gantry_stores.index.search import studies as retrieval
from gantry_testkit.index_rows import fill, indexed

UIDS = {
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.INSTANCE: "SOPInstanceUID",
}
_numbers = itertools.count(1)


def new_study(dates: random.Random, *, series: int = 1, instances: int = 1) -> list:
    number = next(_numbers)
    return [
        indexed(
            {
                "StudyInstanceUID": f"1.{number}",
                # Few days and times, many without any: ties are where pages go wrong.
                "StudyDate": dates.choice(["", "20240101", "20240102", "20240103"]),
                "StudyTime": dates.choice(["", "10", "11"]),
                "SeriesInstanceUID": f"1.{number}.{s}",
                "SeriesNumber": dates.choice(["", "1", "2"]),
                "SOPInstanceUID": f"1.{number}.{s}.{i}",
                "InstanceNumber": dates.choice(["", "1", "2"]),
                "Modality": "CT",
            }
        )
        for s in range(series)
        for i in range(instances)
    ]


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(module_postgres_url)
    yield engine
    engine.dispose()


def uids_of(engine: Engine, query: Query) -> tuple[list[str], str | None]:
    answer = search(engine, query, sight=Sight("main"))
    tag = BY_KEYWORD[UIDS[query.level]].tag
    return [row[tag]["Value"][0] for row in answer.rows], answer.next


def query_of(level: Level, page: PageRequest, *keys: Key, order: tuple[Order, ...] = ()) -> Query:
    include = frozenset({BY_KEYWORD[UIDS[level]].tag})
    return Query(level=level, keys=keys, include=include, page=page, order=order)


orders = st.sampled_from(
    [
        (),
        (Order(BY_KEYWORD["StudyDate"]),),
        (Order(BY_KEYWORD["StudyDate"], descending=True), Order(BY_KEYWORD["StudyTime"])),
    ]
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    level=st.sampled_from(list(UIDS)),
    limit=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    within=st.booleans(),
    order=orders,
)
def test_what_was_there_comes_once_while_more_is_added(
    engine, *, level, limit, seed, within, order
):
    chance = random.Random(seed)
    studies = [new_study(chance, series=3, instances=3) for _ in range(3 if within else 12)]
    fill(engine, itertools.chain.from_iterable(studies))
    chosen = [instance.uid("StudyInstanceUID") for study in studies for instance in study]
    if within and level is not Level.STUDY:
        chosen = chosen[:1]
    key = Key(BY_KEYWORD["StudyInstanceUID"], OneOf(tuple(dict.fromkeys(chosen))))
    keys = () if level is Level.STUDY else (key,)
    everything, _ = uids_of(engine, query_of(level, PageRequest(limit=5000), *keys))
    paged, after = [], None
    while True:
        page = PageRequest(limit=limit * 7, after=after)
        uids, after = uids_of(engine, query_of(level, page, *keys, order=order))
        paged += uids
        if after is None:
            break
        fill(engine, new_study(chance))
    assert len(paged) == len(set(paged))
    assert set(everything) <= set(paged)


def test_offsets_over_what_does_not_change(engine):
    fill(engine, itertools.chain.from_iterable(new_study(random.Random(n)) for n in range(30)))
    for level in UIDS:
        everything, _ = uids_of(engine, query_of(level, PageRequest(limit=5000)))
        pieces = []
        for offset in range(0, len(everything) + 20, 20):
            query = query_of(level, PageRequest(limit=20, offset=offset))
            uids, _ = uids_of(engine, query)
            pieces += uids
            left = count(engine, query, sight=Sight("main"), limit=50)
            assert left == min(50, max(0, len(everything) - offset))
        assert pieces == everything


@pytest.mark.parametrize("looked_at", [1, 12, 1000])
def test_names_that_many_have_come_newest_first(engine, monkeypatch, looked_at):
    """However many of the newest are looked at first: some pages are whole there, others not."""
    monkeypatch.setattr(newest, "LOOKED_AT", looked_at)
    chance, family = random.Random(looked_at), f"q{looked_at % 97:02}"
    wanted, made = [], []
    for number in range(60):
        uid = f"2.{looked_at}.{number}"
        # Those with the name lie close together at some places, and far apart at others.
        named = chance.random() < (0.9 if number % 30 < 15 else 0.1)
        wanted += [uid] if named else []
        values = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "Modality": "CT"}
        values |= {"SOPInstanceUID": f"{uid}.1.1", "StudyDate": f"{2099 - number}0101"}
        made.append(indexed(values | {"PatientName": f"{family if named else 'other'}^x"}))
    fill(engine, made)
    name = BY_KEYWORD["PatientName"]
    key = Key(name, parse_test(name, f"*{family}*", parameter="PatientName"))
    found, after = [], None
    while True:
        query = query_of(Level.STUDY, PageRequest(limit=4, after=after), key)
        assert newest.may_be_frequent(query)
        uids, after = uids_of(engine, query)
        found += uids
        if after is None:
            break
    assert found == wanted


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%%%",
        "é",
        "",
        "bnVsbA",
        "W10",
        "WyJhIl0",
        "WyItU3R1ZHlEYXRlLC1TdHVkeVRpbWUsLVN0dWR5SW5zdGFuY2VVSUQiLDEsMiwzXQ",
        "WyItU3R1ZHlEYXRlLC1TdHVkeVRpbWUsLVN0dWR5SW5zdGFuY2VVSUQiLCJcdTAwMDAiLCIiLCIiXQ",
    ],
)
def test_a_made_up_cursor_is_refused(engine, cursor):
    query = query_of(Level.STUDY, PageRequest(limit=1, after=cursor))
    with pytest.raises(BadQuery, match="after: "):
        search(engine, query, sight=Sight("main"))


def test_a_cursor_belongs_to_its_order(engine):
    fill(engine, [*new_study(random.Random(1)), *new_study(random.Random(2))])
    _, after = uids_of(engine, query_of(Level.STUDY, PageRequest(limit=1)))
    order = (Order(BY_KEYWORD["PatientID"]),)
    with pytest.raises(BadQuery, match="after: "):
        uids_of(engine, query_of(Level.STUDY, PageRequest(limit=1, after=after), order=order))


def test_what_cannot_be_ordered_by_is_refused(engine):
    for keyword in ("ModalitiesInStudy", "PatientComments"):
        order = (Order(BY_KEYWORD[keyword]),)
        with pytest.raises(BadQuery, match=keyword):
            uids_of(engine, query_of(Level.STUDY, PageRequest(limit=1), order=order))


def test_instances_and_headers_of_a_study_come_once_in_order(engine, monkeypatch):
    # Small batches, so that a few instances need many.
    monkeypatch.setattr(retrieval, "_INSTANCES", 4)
    monkeypatch.setattr(retrieval, "_HEADERS", 3)
    study = new_study(random.Random(5), series=3, instances=7)
    fill(engine, study)
    uid = study[0].uid("StudyInstanceUID")
    subject = Subject(uid)
    found = list(instances_of(engine, subject, sight=Sight("main")))
    assert sorted(f.SOPInstanceUID for f in found) == sorted(i.uid("SOPInstanceUID") for i in study)
    series = [f.SeriesInstanceUID for f in found]
    assert len(list(itertools.groupby(series))) == 3
    headers = list(headers_of(engine, subject, sight=Sight("main")))
    assert [f for f, _ in headers] == found
    assert all(f.SOPInstanceUID.encode() in header for f, header in headers)
    of_series = Subject(uid, f"{uid}.1")
    assert len(list(instances_of(engine, of_series, sight=Sight("main")))) == 7
    one = Subject(uid, f"{uid}.1", f"{uid}.1.3")
    assert len(list(headers_of(engine, one, sight=Sight("main")))) == 1
    for absent in (Subject("9"), Subject(uid, "9"), Subject(uid, f"{uid}.1", f"{uid}.2.3")):
        assert list(instances_of(engine, absent, sight=Sight("main"))) == []
        assert study_state(engine, absent, sight=Sight("main")) is None
        assert transfer_syntaxes_of(engine, absent, sight=Sight("main")) == set()
    for subject in (of_series, one):
        assert study_state(engine, subject, sight=Sight("main")) is not None
        assert study_state(engine, subject, sight=Sight("other")) is None
