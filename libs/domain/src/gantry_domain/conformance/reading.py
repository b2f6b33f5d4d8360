"""Reads the statements of others: classes found by UID and by name, each with its line.

What is read is what the document says, errors included: `lint` tells them. A line that looks as if
it said something of a class and cannot be read is listed, never guessed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gantry_domain.conformance.columns import Columns, columns_of
from gantry_domain.conformance.compared_rows import ComparedRow, compared_rows
from gantry_domain.conformance.json_form import FORMAT, from_json
from gantry_domain.conformance.model import (
    Entity,
    Found,
    Origin,
    Property,
    QueryKey,
    Role,
    Statement,
    Support,
    Unread,
)
from gantry_domain.conformance.names import (
    class_named,
    is_class,
    is_transfer_syntax,
    syntaxes_named,
)
from gantry_domain.conformance.registry import Service, service_of
from gantry_domain.conformance.rows import Row, rows_of
from gantry_domain.conformance.wrapped_names import unwrapped
from gantry_domain.dictionary import KEYWORDS, UIDS

_UID = re.compile(r"\b[12](?:\.(?:0|[1-9]\d*)){4,}")
_TAG = re.compile(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)")
_ROLES = re.compile(r"\bSC[UP]\b")
_YES = re.compile(r"\b(yes|supported|y)\b", re.IGNORECASE)
_NO = re.compile(r"\b(no|not supported|unsupported|n)\b", re.IGNORECASE)
_SYNTAXES = re.compile(r"transfer syntax", re.IGNORECASE)
_SENTENCE = re.compile(
    r"\b(SC[UP])\b.{0,60}\b(?:propose|accept)s?\b(.*transfer syntax.*)", re.IGNORECASE
)
# As Annex A and ours have them: "TS 1: transfer syntaxes", then in a cell of a table "TS 1".
_NAMED_LIST = re.compile(r"\W*(TS ?\d+)\b.*transfer syntax", re.IGNORECASE)
_LIST_NAME = re.compile(r"\bTS ?\d+\b")
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_FACTS = (
    (
        "Port ({0})",
        re.compile(r"port .*?\bfor (.+?) association requests.*?\bgenerally (\d+)", re.IGNORECASE),
    ),
    ("Port", re.compile(r"\bport (\d{2,5})\b", re.IGNORECASE)),
    ("PDU offered", re.compile(r"offer a PDU size of (\w+)", re.IGNORECASE)),
    ("PDU accepted", re.compile(r"accept (any) PDU size", re.IGNORECASE)),
)
_NO_CHARACTER_SETS = re.compile(r"extended character sets are not supported", re.IGNORECASE)
_LONGEST_NAME = 110
_KEYWORD_OF_TAG = {tag: keyword for keyword, tag in KEYWORDS.items()}


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement that was read, and what a comparison in the same document says."""

    statement: Statement
    rows: tuple[Row, ...] = ()
    compared: tuple[ComparedRow, ...] = ()


def read_statement(content: bytes, *, name: str) -> Reading:
    """A statement in any form that is known; `name` is what it is called if it says nothing.

    Raises `UnreadableStatement` for JSON that is none of ours.
    """
    if content.lstrip()[:1] == b"{" or FORMAT.encode() in content[:200]:
        return Reading(from_json(content))
    return read_rows(rows_of(content.decode("utf-8", errors="replace")), name=name)


def read_rows(lines: Iterable[Row], *, name: str) -> Reading:
    """A statement in rows, however they were come by."""
    rows = tuple(unwrapped(lines))
    compared = tuple(compared_rows(rows))
    reader = _Reader({line for each in compared for line in each.lines})
    for row in rows:
        reader.read(row)
    return Reading(reader.statement(name), rows, compared)


class _Reader:
    """Line after line: under which role, which classes wait for their syntaxes."""

    def __init__(self, compared: set[int]) -> None:
        self._compared = compared
        self._supports: list[Support] = []
        self._keys: list[QueryKey] = []
        self._facts: list[Property] = []
        self._unread: list[Unread] = []
        self._character_sets: tuple[str, ...] | None = None
        self._roles: tuple[Role | None, ...] = (None,)
        self._section = 0
        """The first class that the next list of transfer syntaxes is about."""
        self._listed: list[str] = []
        self._lists: dict[str, list[str]] = {}
        """Lists of transfer syntaxes that have a name, by which tables speak of them."""
        self._list: list[str] | None = None
        """The one that is being read."""
        self._referring: dict[int, list[str]] = {}
        """By the place of a class: the names of its lists."""
        self._columns: Columns | None = None
        self._matching: str | None = None

    def read(self, row: Row) -> None:
        """The next row."""
        if row.line in self._compared:
            return
        columns = columns_of(row.cells)
        if columns is not None:
            self._columns = columns
            return
        named = _NAMED_LIST.match(row.text)
        if named is not None:
            self._list = self._lists.setdefault(named[1], [])
            return
        if _ROLES.search(row.text) and not _UID.search(row.text):
            self._speak_of_roles(row)
        self._facts += _facts(row.text)
        if _NO_CHARACTER_SETS.search(row.text):
            self._character_sets = ()
        if "matching key" in row.text.lower():
            self._matching = "stated as a matching key"
        if self._key(row):
            return
        if self._columns is not None and len(row.cells) == self._columns.count:
            said = self._columns.cell(row, "uid")
            if not said or _UID.search(said):
                self._table_row(row, self._columns)
                return
            self._columns = None  # another table, of which we know no column
        self._line(row)

    def _speak_of_roles(self, row: Row) -> None:
        sentence = _SENTENCE.search(row.text)
        if sentence is not None:
            self._proposes(Role(sentence[1].upper()), sentence[2])
        # A heading, or the sentence before a table.
        if row.text.rstrip().endswith((":", ")")) or row.text.startswith("#"):
            roles = dict.fromkeys(Role(each) for each in _ROLES.findall(row.text))
            self._roles = tuple(roles)
            self._section, self._listed = len(self._supports), []

    def _proposes(self, role: Role, text: str) -> None:
        named = list(syntaxes_named(text))
        if "all uncompressed" in text.lower():
            named += [uid for uid in _UNCOMPRESSED if uid not in named]
        if named:
            self._supports = [
                replace(each, transfer_syntaxes=tuple(named))
                if each.role is role and each.transfer_syntaxes is None
                else each
                for each in self._supports
            ]

    def _key(self, row: Row) -> bool:
        found = _TAG.search(row.text)
        if found is None or _UID.search(row.text):
            return False
        tag = f"{found[1]}{found[2]}".upper()
        keyword = _KEYWORD_OF_TAG.get(int(tag, 16))
        if keyword is None:
            self._unread.append(Unread(line=row.line, text=row.text, why="no such attribute"))
            return True
        self._keys.append(
            QueryKey(
                service=self._asked_service(),
                level="",
                tag=tag,
                keyword=keyword,
                role=next((role for role in self._roles if role), Role.SCP),
                matching=self._matching,
                found=_found(row, 0.9),
            )
        )
        return True

    def _asked_service(self) -> str:
        """What keys are of: the worklist where it was spoken of last."""
        last = self._supports[-1].uid if self._supports else ""
        return Service.WORKLIST.value if service_of(last) is Service.WORKLIST else "C-FIND"

    def _table_row(self, row: Row, columns: Columns) -> None:
        uid = _UID.search(columns.cell(row, "uid") or row.text)
        name = columns.cell(row, "name")
        if uid is not None and is_transfer_syntax(uid[0]):
            self._list_syntax(uid[0])
            return
        named = None if uid is not None else class_named(name)
        if uid is None and named is None:
            self._unread.append(Unread(line=row.line, text=row.text, why="no class of this name"))
            return
        self._end_of_list()
        found = _found(row, 1.0 if uid else named.confidence if named else 0)
        for role, supported, syntaxes in columns.roles(row, self._roles):
            said = (*_uids_of_syntaxes(syntaxes), *syntaxes_named(syntaxes))
            self._referring[len(self._supports)] = _LIST_NAME.findall(syntaxes)
            self._supports.append(
                Support(
                    uid=uid[0] if uid else named.uid if named else "",
                    name=name,
                    role=role,
                    supported=supported,
                    transfer_syntaxes=tuple(dict.fromkeys(said)) if said else None,
                    found=found,
                )
            )

    def _line(self, row: Row) -> None:
        found = _UID.search(row.text)
        if found is None:
            return
        uid, after = found[0], row.text[found.end() :]
        if is_transfer_syntax(uid):
            self._list_syntax(uid)
            return
        name = _name_before(row, found.start())
        if name is None:  # spoken of in a sentence
            return
        if not is_class(uid):
            if uid in UIDS:  # of something else, as an application context
                return
            self._unread.append(Unread(line=row.line, text=row.text, why="an unknown UID"))
            return
        self._end_of_list()
        said = tuple(syntaxes_named(after))
        supported = not _NO.search(after)
        for role in self._roles:
            self._supports.append(
                Support(
                    uid=uid,
                    name=name,
                    role=role,
                    supported=supported,
                    transfer_syntaxes=said or None,
                    found=_found(row, 1.0 if _YES.search(after) or not after.strip() else 0.9),
                )
            )

    def _list_syntax(self, uid: str) -> None:
        """One more of a list, which has a name or is about the classes before it."""
        if self._list is not None:
            self._list.append(uid)
            return
        self._listed.append(uid)
        self._supports[self._section :] = [
            replace(each, transfer_syntaxes=tuple(self._listed))
            for each in self._supports[self._section :]
        ]

    def _end_of_list(self) -> None:
        self._list = None
        if self._listed:
            self._section, self._listed = len(self._supports), []

    def statement(self, name: str) -> Statement:
        """What was read, each class once in each role and spelling."""
        for place, names in self._referring.items():
            syntaxes = [uid for each in names for uid in self._lists.get(each, ())]
            if syntaxes:
                whole = tuple(dict.fromkeys(syntaxes))
                self._supports[place] = replace(self._supports[place], transfer_syntaxes=whole)
        unique = {(each.uid, each.role, each.name): each for each in reversed(self._supports)}
        supports = tuple(reversed(unique.values()))
        facts = tuple(dict.fromkeys(self._facts))
        return Statement(
            product=name,
            origin=Origin.READ,
            entities=(Entity(name=name, supports=supports, policies=facts),),
            keys=tuple(self._keys),
            character_sets=self._character_sets,
            unread=tuple(self._unread),
        )


def _found(row: Row, confidence: float) -> Found:
    return Found(line=row.line, text=row.text[:200], confidence=confidence)


def _name_before(row: Row, start: int) -> str | None:
    """The name that stands before a UID in its line; None where the line is a sentence."""
    before = row.text[:start].rstrip()
    if before.endswith("("):
        return None
    cells: Sequence[str] = [cell for cell in re.split(r"\t+|\s{2,}|\|", before) if cell.strip()]
    name = cells[-1].strip(" :-") if cells else ""
    if not name or len(name) > _LONGEST_NAME or re.search(r"[.;] ", name):
        return None
    return name


def _uids_of_syntaxes(text: str) -> Iterator[str]:
    return (found[0] for found in _UID.finditer(text) if is_transfer_syntax(found[0]))


def _facts(text: str) -> Iterator[Property]:
    for name, pattern in _FACTS:
        found = pattern.search(text)
        if found is not None:
            *subject, value = found.groups()
            yield Property(name=name.format(*subject), value=value)
