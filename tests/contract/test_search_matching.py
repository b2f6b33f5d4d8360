"""Searches against a second opinion: the same questions asked of plain Python."""

import re
import unicodedata
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.engine import Engine

from gantry_domain.attributes import BY_KEYWORD, Level, Matching
from gantry_domain.query import Key, Order, PageRequest, Query, at_or_above, parse_test
from gantry_domain.sight import Sight
from gantry_stores.index.database import make_engine
from gantry_stores.index.schema import study
from gantry_stores.index.search import count, search
from gantry_testkit.index_rows import fill, indexed

NAMES = [
    "CHAN^TAI MAN=陳^大文",
    "Chan^Tai Man",
    "Wang^XiaoDong=王^小东=",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Διονυσιος",
    "Люкceмбypг",
    "Müller^Jörg",
    "100%^A_B",
    "=王^小文",
    "O'BRIEN^Pat",
    "Smith-Jones^Anne Marie",
    "CHAN^TAIMAN",
    "",
]
PATIENT_IDS = ["A123456(3)", "A1234563", "a123", "100%", "10_0", "x\\y", "", "張三"]
DATES = ["20231231", "20240101", "20240115", "20240229", "19991231", ""]
TIMES = ["", "09", "0930", "093015", "093015.25", "235959.999999"]
DESCRIPTIONS = ["CT HEAD", "ct head", "MR KNEE_L", "50% dose", ""]
MODALITIES = ["CT", "MR", "US", "PR"]
NUMBERS = ["1", "2", "10", "-1", ""]

Row = Mapping[str, str]


def make_rows() -> list[dict[str, str]]:
    """Instances of 60 studies: every value beside several others."""
    rows = []
    for s in range(60):
        study_values = {
            "StudyInstanceUID": f"1.2.{s}",
            "PatientName": NAMES[s % len(NAMES)],
            "PatientID": PATIENT_IDS[s % 7].replace("\\", ""),
            "StudyDate": DATES[s % len(DATES)],
            "StudyTime": TIMES[s * 7 % len(TIMES)],
            "StudyDescription": DESCRIPTIONS[s * 3 % len(DESCRIPTIONS)],
            "AccessionNumber": f"ACC{s % 9}",
            "ReferringPhysicianName": NAMES[s * 5 % len(NAMES)],
        }
        for e in range(1 + s % 3):
            series_values = {
                "SeriesInstanceUID": f"1.2.{s}.{e}",
                "Modality": MODALITIES[(s + e) % len(MODALITIES)],
                "SeriesNumber": NUMBERS[(s + 2 * e) % len(NUMBERS)],
                "OperatorsName": NAMES[(s + e) % len(NAMES)],
            }
            for i in range(1 + (s + e) % 2):
                instance_values = {
                    "SOPInstanceUID": f"1.2.{s}.{e}.{i}",
                    "SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{2 + e}",
                    "InstanceNumber": NUMBERS[i % len(NUMBERS)],
                }
                rows.append(study_values | series_values | instance_values)
    return rows


ROWS = make_rows()


@pytest.fixture(scope="module")
def engine(module_postgres_url: str) -> Iterator[Engine]:
    engine = make_engine(module_postgres_url)
    fill(engine, [indexed(row) for row in ROWS])
    hidden = indexed({**ROWS[0], **dict.fromkeys(UIDS.values(), "9.9")})
    fill(engine, [hidden])
    with engine.begin() as connection:
        connection.execute(
            update(study).where(study.c.study_instance_uid == "9.9").values(visible=False)
        )
    fill(engine, [indexed(row) for row in ROWS[:5]], partition="other")
    yield engine
    engine.dispose()


UIDS = {
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.INSTANCE: "SOPInstanceUID",
}


# The second opinion: written from PS3.4 C.2.2.2, sharing nothing with the search.


def plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip().rstrip("^ ")


def wild(pattern: str, text: str) -> bool:
    parts = ("." if c == "?" else ".*" if c == "*" else re.escape(c) for c in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def name_passes(pattern: str, name: str) -> bool:
    groups = [plain(group) for group in name.split("=")]
    wanted = [plain(group) for group in pattern.split("=")]
    while len(wanted) > 1 and not wanted[-1]:
        wanted.pop()  # groups at the end that are empty may be left out (PS3.5 6.2.1)
    if len(wanted) == 1:
        return any(group and wild(wanted[0], group) for group in groups)
    groups += [""] * 3
    return all(
        not want.strip("*") or wild(want, groups[position]) for position, want in enumerate(wanted)
    )


def time_bounds(text: str) -> tuple[str, str]:
    digits = text.replace(".", "")
    return digits.ljust(12, "0"), digits + "235959999999"[len(digits) :]


def passes(keyword: str, text: str, values: set[str]) -> bool:
    """Whether an attribute that has these values passes the key."""
    if not text.strip(" *"):
        return True
    present = {value for value in values if value}
    match BY_KEYWORD[keyword].matching:
        case Matching.NAME:
            wanted = text.split("\\")
            if any(not plain(part.replace("=", "")).strip("*") for part in wanted):
                return True
            return any(name_passes(part, value) for part in wanted for value in present)
        case Matching.DATE | Matching.TIME:
            low, dash, high = text.partition("-")
            if not dash:
                high = low
            if BY_KEYWORD[keyword].matching is Matching.DATE:
                bounds = low or "0", high or "9"
            else:
                bounds = (
                    time_bounds(low)[0] if low else "0",
                    time_bounds(high)[1] if high else "9",
                )
                present = {time_bounds(value)[0] for value in present}
            return any(bounds[0] <= value <= bounds[1] for value in present)
        case Matching.NUMBER:
            return any(int(part) == int(value) for part in text.split("\\") for value in present)
        case Matching.UID:
            return bool(present & set(re.split(r"[\\,]", text)))
        case Matching.SET:
            return any(wild(part, v) for part in re.split(r"[\\,]", text) for v in present)
        case _:
            return any(
                not part.strip("*") or wild(part.strip(), value.strip())
                for part in text.split("\\")
                for value in present or {""}
            )


def expected(level: Level, keys: Mapping[str, str]) -> set[str]:
    found = set()
    for row in ROWS:
        of_study = [r for r in ROWS if r["StudyInstanceUID"] == row["StudyInstanceUID"]]

        def values(keyword: str, row: Row = row, of_study: list[Row] = of_study) -> set[str]:
            source = {"ModalitiesInStudy": "Modality", "SOPClassesInStudy": "SOPClassUID"}
            if keyword in source:
                return {r[source[keyword]] for r in of_study}
            return {row[keyword]}

        if all(passes(keyword, text, values(keyword)) for keyword, text in keys.items()):
            found.add(row[UIDS[level]])
    return found


def query_of(level: Level, keys: Mapping[str, str], *, loosely: bool = False, **page: int) -> Query:
    tests = (
        (BY_KEYWORD[k], parse_test(BY_KEYWORD[k], text, loosely=loosely))
        for k, text in keys.items()
    )
    return Query(
        level=level,
        keys=tuple(Key(attribute, test) for attribute, test in tests if test is not None),
        include=frozenset({BY_KEYWORD[UIDS[level]].tag}),
        page=PageRequest(**{"limit": 1000, **page}),
    )


def found_uids(engine: Engine, query: Query) -> list[str]:
    tag = BY_KEYWORD[UIDS[query.level]].tag
    rows = search(engine, query, sight=Sight("main")).rows
    return [row[tag]["Value"][0] for row in rows]


def with_wildcards(values: list[str]) -> st.SearchStrategy[str]:
    """Values, pieces of them, with wildcards put in, in another case or composition."""

    @st.composite
    def drawn(draw: st.DrawFn) -> str:
        value = draw(st.sampled_from([v for v in values if v]))
        start = draw(st.integers(0, len(value)))
        piece = value[start : draw(st.integers(start, len(value)))]
        form = draw(st.sampled_from(["{}", "*{}*", "{}*", "*{}", "?{}", "{}?", "*"]))
        text = form.format(draw(st.sampled_from([value, piece])))
        change = draw(st.sampled_from([str, str.upper, str.lower, as_sent_by_macs]))
        return change(text)

    return drawn()


def as_sent_by_macs(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def ranges(values: list[str]) -> st.SearchStrategy[str]:
    one = st.sampled_from([v for v in values if v])
    both = st.tuples(one, one).map("-".join)
    return st.one_of(one, both, one.map(lambda v: f"{v}-"), one.map(lambda v: f"-{v}"))


def lists(values: list[str], separators: str) -> st.SearchStrategy[str]:
    one = st.sampled_from([v for v in values if v] + ["none"])
    return st.tuples(st.lists(one, min_size=1, max_size=3), st.sampled_from(separators)).map(
        lambda drawn: drawn[1].join(drawn[0])
    )


QUESTIONS = {
    "PatientName": with_wildcards(NAMES),
    "ReferringPhysicianName": with_wildcards(NAMES),
    "PatientID": with_wildcards([v for v in PATIENT_IDS if "\\" not in v]),
    "StudyDescription": with_wildcards(DESCRIPTIONS),
    "AccessionNumber": lists([f"ACC{n}" for n in range(9)], "\\"),
    "StudyDate": ranges(DATES),
    "StudyTime": ranges(TIMES),
    "ModalitiesInStudy": st.one_of(lists(MODALITIES, "\\,"), st.sampled_from(["C*", "?R", "*"])),
    "SOPClassesInStudy": lists([f"1.2.840.10008.5.1.4.1.1.{n}" for n in range(2, 5)], "\\,"),
    "StudyInstanceUID": lists([f"1.2.{s}" for s in range(60)], "\\,"),
    "Modality": st.one_of(lists(MODALITIES, "\\"), st.just("?R")),
    "SeriesNumber": lists(["1", "01", "+2", "10", "-1", "7"], "\\").filter(
        lambda text: "none" not in text
    ),
    "OperatorsName": with_wildcards(NAMES),
    "SOPClassUID": lists([f"1.2.840.10008.5.1.4.1.1.{n}" for n in range(2, 5)], "\\,"),
    "InstanceNumber": st.sampled_from(["1", "2", "99", ""]),
}


@st.composite
def questions(draw: st.DrawFn) -> tuple[Level, dict[str, str]]:
    level = draw(st.sampled_from(list(UIDS)))
    usable = [k for k in QUESTIONS if at_or_above(BY_KEYWORD[k].level, level)]
    keywords = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3, unique=True))
    return level, {keyword: draw(QUESTIONS[keyword]) for keyword in keywords}


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(questions())
def test_a_search_finds_what_the_second_opinion_finds(engine, question):
    level, keys = question
    query = query_of(level, keys)
    found = found_uids(engine, query)
    assert set(found) == expected(level, keys)
    assert len(found) == len(set(found))
    assert count(engine, query, sight=Sight("main"), limit=1000) == len(found)


@pytest.mark.parametrize(
    ("fragment", "number_of_names"),
    [
        ("*陳*", 1),
        ("*小*", 2),
        ("王^小*", 2),
        ("*小东*", 1),
        ("山田*", 1),
        ("*たろ*", 1),
        ("*太*", 1),
        ("*길동", 1),
        ("洪^吉洞", 1),
        ("*διον*", 1),
        ("ΔΙΟΝΥΣΙΟΣ", 1),
        ("люк*", 1),
        ("mÜLLER*", 1),
        ("*o\u0308rg", 1),
        ("chan^tai man", 2),
        ("*%*", 1),
        ("*_*", 1),
        ("???^小文", 0),
        ("?^小文", 1),
    ],
)
def test_names_are_found_by_fragments_in_their_own_script(engine, fragment, number_of_names):
    found = found_uids(engine, query_of(Level.STUDY, {"PatientName": fragment}))
    names = {row["PatientName"] for row in ROWS if row["StudyInstanceUID"] in found}
    assert len(names) == number_of_names


def letters(text: str) -> str:
    """What is compared of a name: without accents and apostrophes, punctuation as blanks."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not "\u0300" <= c < "\u0370")
    whole = unicodedata.normalize("NFC", bare).casefold().replace("'", "")
    return re.sub(r"[\W_]", " ", whole)


def begins(words: list[str], group: list[str]) -> bool:
    """Whether the words, each or joined with those after it, begin words of one of the groups."""
    if not words:
        return True
    runs = ["".join(g[n:]) for g in (part.split() for part in group) for n in range(len(g))]
    return any(
        any(run.startswith("".join(words[:size])[:8]) for run in runs)
        and begins(words[size:], group)
        for size in range(1, len(words) + 1)
    )


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.sampled_from(NAMES).map(letters).map(str.split).filter(bool), max_size=3),
    st.randoms(use_true_random=False),
    st.sampled_from(["{}", "{}*", "*{}*", "?{}"]),
)
def test_names_are_found_loosely_as_the_second_opinion_does(engine, names, chance, form):
    words = [word for name in names for word in chance.sample(name, chance.randint(1, len(name)))]
    words = [chance.choice([word, word[: chance.randint(1, 9)], word.upper()]) for word in words]
    chance.shuffle(words)
    text = form.format(chance.choice([" ", "^", ", ", "*"]).join(words[:4]))
    found = set(found_uids(engine, query_of(Level.STUDY, {"PatientName": text}, loosely=True)))
    by_letters = set(found_uids(engine, query_of(Level.STUDY, {"PatientName": text})))
    asked = letters(re.sub(r"\?[^\s*^]*", " ", text)).split()
    wanted = {
        row["StudyInstanceUID"]
        for row in ROWS
        if asked and begins(asked, [letters(group) for group in row["PatientName"].split("=")])
    }
    assert found == wanted | by_letters


def test_hidden_studies_and_other_partitions_are_found_at_no_level(engine):
    for level, keyword in UIDS.items():
        assert "9.9" not in found_uids(engine, query_of(level, {}))
        assert found_uids(engine, query_of(level, {keyword: "9.9"})) == []
        elsewhere = search(engine, query_of(level, {}), sight=Sight("other")).rows
        assert len(elsewhere) == len({row[keyword] for row in ROWS[:5]})
        assert search(engine, query_of(level, {}), sight=Sight("nowhere")).rows == []


def test_the_default_orders(engine):
    by_uid = {row["StudyInstanceUID"]: row for row in ROWS}
    studies = [by_uid[uid] for uid in found_uids(engine, query_of(Level.STUDY, {}))]
    days = [(row["StudyDate"], time_bounds(row["StudyTime"])[0]) for row in studies]
    assert [day for day, _ in days] == sorted((day for day, _ in days), reverse=True)
    assert days[-1][0] == ""
    numbers = {row["SeriesInstanceUID"]: row["SeriesNumber"] for row in ROWS}
    series = found_uids(engine, query_of(Level.SERIES, {"StudyInstanceUID": "1.2.2"}))
    keys = [int(numbers[uid]) if numbers[uid] else 10**9 for uid in series]
    assert len(keys) == 3
    assert keys == sorted(keys)


def test_an_order_that_is_asked_for(engine):
    keywords = ("StudyDescription", "PatientID")
    for directions in ((False, False), (True, True), (True, False), (False, True)):
        order = tuple(
            Order(BY_KEYWORD[keyword], descending=descending)
            for keyword, descending in zip(keywords, directions, strict=True)
        )
        everything = query_of(Level.STUDY, {})
        tag = BY_KEYWORD["StudyInstanceUID"].tag
        found: list[str] = []
        after = None
        while True:
            page = PageRequest(limit=7, after=after)
            query = Query(Level.STUDY, everything.keys, everything.include, page, order=order)
            answer = search(engine, query, sight=Sight("main"))
            found += [row[tag]["Value"][0] for row in answer.rows]
            after = answer.next
            if not answer.more:
                break
        by_uid = {row["StudyInstanceUID"]: row for row in ROWS}
        assert sorted(found) == sorted(by_uid)
        values = [tuple(by_uid[uid][keyword] for keyword in keywords) for uid in found]
        again = list(values)
        for position in (1, 0):
            again.sort(key=lambda v, p=position: v[p], reverse=directions[position])
        assert values == again
