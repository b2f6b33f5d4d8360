"""A question to the index as a value: keys, what to return, order and page (PS3.4 C.2.2).

QIDO-RS and C-FIND parse their requests into a `Query`; the search reads nothing else. `parse_test`
turns the text of a matching key into a test by the kind of matching that the attribute table gives:

    TEXT    one or more values (`\\` between), wildcards     OneOf, Like
    NAME    the same, over component groups, folded         Names
    UID     a list (`\\` or `,` between)                      OneOf
    SET     any of several values (`\\` or `,`), wildcards    OneOf, Like
    DATE    one value or a range, open at either end        Range
    TIME    the same; what is left out covers all of it     Range
    NUMBER  one or more integers (`\\` between)               Numbers
    any     `""`, no value at all (PS3.4 C.2.2.2.7)         Empty

No value, or nothing but `*`, is universal matching (PS3.4 C.2.2.2.3): no test at all.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gantry_domain.attributes import Attribute, Level, Matching
from gantry_domain.errors import PermanentError
from gantry_domain.loose_names import loose_questions
from gantry_domain.moments import FIRST_TIME, LAST_TIME, Moments, TimesOfDay
from gantry_domain.names import GROUP_SEPARATOR, fold

LONGEST_UID = 64  # PS3.5 9.1
LONGEST_VALUE = 1024
MOST_VALUES = 2000

_DATE = re.compile(r"([0-9]{4})(\.?)([0-9]{2})\2([0-9]{2})")  # with points: ACR-NEMA, PS3.5 6.2
_TIME = re.compile(
    r"([0-9]{2})(?:(:?)([0-9]{2})(?:\2([0-9]{2})(?:\.([0-9]{1,6}))?)?)?"  # likewise with colons
)

_TEXT_VRS = frozenset("AE AS CS LO LT SH ST UC UR UT".split())
INNER_VRS = _TEXT_VRS | {"UI", "DA"}
"""What is compared within the items of sequences."""

FOUND_LOOSELY = frozenset({"PatientName"})
"""The names that the index holds by how words begin; of others the letters count."""

_ORDER = tuple(Level)

_Bound = Callable[[str, str], str]


class BadQuery(PermanentError):
    """A question that makes no sense.

    `parameter` is what the caller called it. The text never repeats a value: it may be a patient's.
    """

    def __init__(self, parameter: str, complaint: str) -> None:
        super().__init__(f"{parameter}: {complaint}")
        self.parameter = parameter
        self.complaint = complaint


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text with wildcards: `*` for any characters, none included, `?` for exactly one."""

    text: str

    @property
    def literal(self) -> bool:
        """Whether there is no wildcard in it."""
        return not ("*" in self.text or "?" in self.text)

    @property
    def universal(self) -> bool:
        """Whether everything matches, an absent value included."""
        return not self.text.strip("*")

    def fragments(self) -> Iterator[str]:
        """The pieces between wildcards, each of which a matching text contains."""
        return (piece for piece in re.split(r"[*?]+", self.text) if piece)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these; for a SET: one of these is among its values."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """The value matches one of these patterns (PS3.4 C.2.2.2.4)."""

    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The value is one of these integers, however it is written."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The value lies between these, both included; None is open (PS3.4 C.2.2.2.5).

    Dates are YYYYMMDD and times HHMMSS.FFFFFF, as in the columns of the index.
    """

    low: str | None
    high: str | None


@dataclass(frozen=True, slots=True)
class NameTest:
    """One value of a NAME key.

    `groups` holds a folded pattern per component group (None: any), in the order of PS3.5 6.2.1.
    With `anywhere` there is one, and any component group may match it. A name passes as well that
    has all of one set of `loose` among its beginnings (`gantry_domain.loose_names`).
    """

    groups: tuple[Pattern | None, ...]
    anywhere: bool
    loose: tuple[frozenset[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Names:
    """A name matches one of these."""

    tests: tuple[NameTest, ...]


@dataclass(frozen=True, slots=True)
class Empty:
    """There is no value (PS3.4 C.2.2.2.7)."""


Test = OneOf | Like | Numbers | Range | Moments | TimesOfDay | Names | Empty


@dataclass(frozen=True, slots=True)
class Key:
    """A matching key: an attribute of the table and its test.

    `inner` is the tag of an attribute within the items of `attribute`, a sequence: one of them
    must pass (PS3.4 C.2.2.2.6).
    """

    attribute: Attribute
    test: Test
    inner: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One attribute of an order."""

    attribute: Attribute
    descending: bool = False


@dataclass(frozen=True, slots=True)
class PageRequest:
    """At most `limit` matches, after the first `offset` of them or from the cursor `after` on.

    A cursor is what an earlier page of the same query gave as `next`; with it `offset` is 0.
    """

    limit: int
    offset: int = 0
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A question: matches at `level` that pass all `keys`.

    `include` holds the tags (8 upper-case hex digits) to return; with `everything` all that the
    attribute table has at the level and above are returned as well. An empty `order` is the
    level's own: studies newest first; series and instances of one study by their numbers.
    """

    level: Level
    keys: tuple[Key, ...]
    include: frozenset[str]
    page: PageRequest
    everything: bool = False
    order: tuple[Order, ...] = ()

    def __post_init__(self) -> None:
        for attribute in (*(k.attribute for k in self.keys), *(o.attribute for o in self.order)):
            if not at_or_above(attribute.level, self.level):
                raise BadQuery(attribute.keyword, f"does not belong to a search for {self.level}")

    def pins(self, keyword: str) -> bool:
        """Whether one value is asked for of the attribute with this keyword."""
        return any(
            key.attribute.keyword == keyword
            and key.inner is None
            and isinstance(key.test, OneOf)
            and len(key.test.values) == 1
            for key in self.keys
        )


def at_or_above(level: Level, below: Level) -> bool:
    """Whether attributes of `level` are known of a match at `below`."""
    return _ORDER.index(level) <= _ORDER.index(below)


def parse_test(
    attribute: Attribute, text: str, *, parameter: str | None = None, loosely: bool = False
) -> Test | None:
    """The test that the value of a matching key asks for; None is universal matching.

    `parameter` is the caller's name for it in `BadQuery`, the keyword if absent. `loosely`: names
    are found by how words begin, too, where the index can tell (`FOUND_LOOSELY`).
    """
    name = parameter or attribute.keyword
    if attribute.matching is None:
        raise BadQuery(name, "cannot be searched for")
    if "\x00" in text:
        raise BadQuery(name, "holds a NUL character")
    if not text.strip(" *"):
        return None
    if text.strip() == '""':
        return Empty()
    match attribute.matching:
        case Matching.UID:
            return OneOf(parse_uids(text, parameter=name))
        case Matching.SET:
            return _texts(_values(text, name, r"[\\,]"))
        case Matching.TEXT:
            return _texts(_values(text, name, r"\\"))
        case Matching.NAME:
            loosely = loosely and attribute.keyword in FOUND_LOOSELY
            return _names(_values(text, name, r"\\"), loosely=loosely)
        case Matching.NUMBER:
            return Numbers(tuple(_number(value, name) for value in _values(text, name, r"\\")))
        case Matching.DATE:
            return _range(text, name, _date, _date)
        case Matching.TIME:
            return _range(text, name, _earliest, _latest)


def parse_inner_test(vr: str, text: str, *, parameter: str) -> Test | None:
    """The test of an attribute within a sequence's items, of which only the VR is known.

    Raises `BadQuery`, also for a VR whose values are not compared there.
    """
    if "\x00" in text:
        raise BadQuery(parameter, "holds a NUL character")
    if not text.strip(" *"):
        return None
    if vr == "UI":
        return OneOf(parse_uids(text, parameter=parameter))
    if vr == "DA":
        return _range(text, parameter, _date, _date)
    if vr in _TEXT_VRS:
        return _texts(_values(text, parameter, r"\\"))
    raise BadQuery(parameter, "cannot be searched for within a sequence")


def parse_uids(text: str, *, parameter: str) -> tuple[str, ...]:
    """A list of UIDs (PS3.4 C.2.2.2.2). Raises `BadQuery`.

    More is let through than PS3.5 9.1 allows, as in the index: printable ASCII up to 64 characters.
    """
    values = _values(text, parameter, r"[\\,]")
    for value in values:
        if len(value) > LONGEST_UID or not re.fullmatch(r"[!-~]+", value):
            raise BadQuery(parameter, "is not a UID")
        if not Pattern(value).literal:
            raise BadQuery(parameter, "a UID takes no wildcards")
    return values


def _values(text: str, name: str, separator: str) -> tuple[str, ...]:
    stripped = (value.strip() for value in re.split(separator, text))
    values = tuple(dict.fromkeys(value for value in stripped if value))
    if not values:
        raise BadQuery(name, "has no value between its separators")
    if len(values) > MOST_VALUES:
        raise BadQuery(name, f"has more than {MOST_VALUES} values")
    if max(map(len, values)) > LONGEST_VALUE:
        raise BadQuery(name, f"is longer than {LONGEST_VALUE} characters")
    return values


def _texts(values: tuple[str, ...]) -> Test | None:
    patterns = tuple(map(Pattern, values))
    if any(pattern.universal for pattern in patterns):
        return None
    return OneOf(values) if all(pattern.literal for pattern in patterns) else Like(patterns)


def _names(values: tuple[str, ...], *, loosely: bool) -> Test | None:
    tests = tuple(_name(fold(value), loose_questions(value) if loosely else ()) for value in values)
    return Names(tests) if all(any(test.groups) for test in tests) else None


def _name(folded: str, loose: tuple[frozenset[str], ...]) -> NameTest:
    anywhere = GROUP_SEPARATOR not in folded
    patterns = map(Pattern, folded.split(GROUP_SEPARATOR))
    return NameTest(tuple(None if p.universal else p for p in patterns), anywhere, loose)


def _number(value: str, name: str) -> int:
    # IS holds at most 12 characters (PS3.5 6.2); anything longer matches nothing and breaks casts.
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", value, re.ASCII):
        raise BadQuery(name, "is not an integer")
    return int(value)


def _range(text: str, name: str, low: _Bound, high: _Bound) -> Range:
    first, dash, last = text.strip().partition("-")
    if not dash:
        return Range(low(first, name), high(first, name))
    first, last = first.strip(), last.strip()
    if not first and not last:
        raise BadQuery(name, "is a range without an end")
    return Range(low(first, name) if first else None, high(last, name) if last else None)


def _date(text: str, name: str) -> str:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise BadQuery(name, "is not a date: write YYYYMMDD or a range of such")
    return f"{match[1]}{match[3]}{match[4]}"


def _earliest(text: str, name: str) -> str:
    return _moment(text, name, FIRST_TIME)


def _latest(text: str, name: str) -> str:
    return _moment(text, name, LAST_TIME)


def _moment(text: str, name: str, rest: str) -> str:
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise BadQuery(name, "is not a time: write HHMMSS.FFFFFF, HHMMSS, HHMM, HH or a range")
    hour, _, minute, second, fraction = match.groups()
    given = "".join((hour, minute or "", second or "", f".{fraction}" if fraction else ""))
    return given + rest[len(given) :]
