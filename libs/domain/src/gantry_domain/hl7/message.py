"""HL7 v2 messages as they are sent (ER7): bytes to segments, fields, components (HL7 v2 2.5).

    MSH|^~\\&|APP|...     MSH-1 is the separator of fields, MSH-2 are those within fields
    PID|||A123456(3)^^^HKID~900^^^MRN||CHAN^TAI MAN~陳^大文
        field 3, repetitions, components; a component may have subcomponents (&)

Text is decoded a segment at a time and then split, for in GBK, Big5 and Shift-JIS the second byte
of a character may be one of the separators. Nothing that a message says makes this raise but for a
header that cannot be read.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from gantry_domain.errors import PermanentError
from gantry_domain.hl7.characters import WIDE, character_set

NULL = '""'
"""A field with this value is to be emptied; one without a value says nothing (HL7 v2 2.5.3)."""

# Findings.
STRAY_LINE = "stray_line"

_CHARSET_FIELD = 18
_MOST_SEGMENTS = 5_000
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_BREAK = re.compile(rb"\r\n|\r|\n")
_DEFAULT_ENCODING = "^~\\&"
_BOM = b"\xef\xbb\xbf"


class UnreadableMessage(PermanentError):
    """What is no message of HL7 v2. The text says why, without anything of its content."""


@dataclass(frozen=True, slots=True)
class Separators:
    """The five characters that a message is divided by."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment. Fields are counted from 1 as in HL7's tables, for MSH too."""

    name: str
    fields: tuple[str, ...] = field(repr=False)
    separators: Separators = field(repr=False)
    decode: Callable[[bytes], str] = field(repr=False)

    def raw(self, number: int) -> str:
        """A field as it was sent; empty where it is not there."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> list["Repetition"]:
        """The repetitions of a field; at least one, which may be empty."""
        text = self.raw(number)
        parts = [text] if self.name == "MSH" and number <= 2 else self._split(text)
        return [Repetition(part, self) for part in parts]

    def text(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """A component of a field's first repetition, unescaped and stripped."""
        return self.repetitions(number)[0].text(component, subcomponent)

    def _split(self, text: str) -> list[str]:
        return text.split(self.separators.repetition)


@dataclass(frozen=True, slots=True)
class Repetition:
    """One repetition of a field."""

    raw: str = field(repr=False)
    segment: Segment = field(repr=False)

    @property
    def null(self) -> bool:
        """Whether it is to be emptied."""
        return self.raw.strip() == NULL

    @property
    def components(self) -> list[str]:
        """All of them, unescaped."""
        parts = self.raw.split(self.segment.separators.component)
        return [self._unescaped(part) for part in parts]

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """One component, or its subcomponent, unescaped and stripped; empty if it is not there."""
        parts = self.subcomponents(component)
        return parts[subcomponent - 1] if subcomponent <= len(parts) else ""

    def subcomponents(self, component: int) -> list[str]:
        """Those of one component, unescaped and stripped; at least one."""
        separators = self.segment.separators
        parts = self.raw.split(separators.component)
        if component > len(parts):
            return [""]
        found = parts[component - 1].split(separators.subcomponent)
        return [self._unescaped(part).strip() for part in found]

    def _unescaped(self, text: str) -> str:
        return unescape(text, self.segment.separators, self.segment.decode)


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `findings` are slugs of what is odd about it as a whole."""

    segments: tuple[Segment, ...]
    findings: tuple[str, ...] = ()

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def kind(self) -> str:
        """MSH-9.1, such as ORM."""
        return self.header.text(9).upper()

    @property
    def event(self) -> str:
        """MSH-9.2, such as O01, or else that of EVN-1."""
        named = self.header.text(9, 2).upper()
        event = self.first("EVN")
        return named or (event.text(1).upper() if event is not None else "")

    def first(self, name: str) -> Segment | None:
        """The first segment of this name."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator[Segment]:
        """The segments of this name."""
        return (segment for segment in self.segments if segment.name == name)


def read_message(raw: bytes, *, default_charset: str | None = None) -> Message:
    """Read a message without its frame. Raises `UnreadableMessage`.

    `default_charset`: terms as in (0008,0005), for messages that name none.
    """
    raw = raw.removeprefix(_BOM).strip(b"\r\n\t\0 ")
    lines = [line for line in _BREAK.split(raw) if line.strip(b"\0 \t")]
    if not lines or not lines[0].startswith(b"MSH"):
        raise UnreadableMessage("it does not begin with MSH")
    if len(lines) > _MOST_SEGMENTS:
        raise UnreadableMessage(f"it has more than {_MOST_SEGMENTS} segments")
    separators = _separators(lines[0].decode("latin-1"))
    named = _named_sets(lines[0].decode("latin-1"), separators)
    if any(each.strip().upper() in WIDE for each in named):
        raise UnreadableMessage("its character set cannot be sent over MLLP")
    charset, oddity = character_set(named, default_charset)
    findings = [oddity] if oddity else []

    def decode(encoded: bytes) -> str:
        return charset.decode(encoded)[0]

    texts: list[str] = []
    for line in lines:
        text, finding = charset.decode(line)
        if finding is not None:
            findings.append(finding)
        if texts and not _begins_segment(text, separators.field):
            findings.append(STRAY_LINE)
            texts[-1] += f"\n{text}"
        else:
            texts.append(text)
    segments = tuple(_segment(text, separators, decode) for text in texts)
    return Message(segments, tuple(dict.fromkeys(findings)))


def raw_header(raw: bytes) -> list[bytes]:
    """The fields of MSH as they came, counted from 1, for whoever only answers; empty: no MSH."""
    line = _BREAK.split(raw.removeprefix(_BOM).strip(b"\r\n\t\0 "), maxsplit=1)[0]
    if not line.startswith(b"MSH") or len(line) < 5:
        return []
    separator = line[3:4]
    return [line[:3], separator, *line[4:].split(separator)]


def _separators(header: str) -> Separators:
    separator = header[3:4]
    if not separator or separator.isalnum() or separator.isspace():
        raise UnreadableMessage("MSH-1 is no separator")
    sent = header[4:].split(separator, maxsplit=1)[0]
    # Whoever sends fewer means the usual ones; a fifth marks what was truncated (v2.7).
    characters = sent[:4] + _DEFAULT_ENCODING[len(sent[:4]) :]
    all_of_them = separator + characters
    if len(set(all_of_them)) != len(all_of_them) or any(each.isalnum() for each in characters):
        raise UnreadableMessage("MSH-2 are no separators")
    return Separators(separator, *characters)


def _named_sets(header: str, separators: Separators) -> list[str]:
    fields = header.split(separators.field)
    # The name is field 0 and MSH-1 the first separator.
    if len(fields) < _CHARSET_FIELD:
        return []
    return fields[_CHARSET_FIELD - 1].split(separators.repetition)


def _begins_segment(text: str, separator: str) -> bool:
    return _NAME.match(text) is not None and text[3:4] in ("", separator)


def _segment(text: str, separators: Separators, decode: Callable[[bytes], str]) -> Segment:
    name = text[:3]
    fields = text.split(separators.field)
    if name == "MSH":
        fields = [name, separators.field, *fields[1:]]
    return Segment(name, tuple(fields), separators, decode)


@cache
def _escapes(escape: str) -> re.Pattern[str]:
    mark = re.escape(escape)
    return re.compile(
        f"((?:{mark}X(?:[0-9A-Fa-f]{{2}})+{mark})+)|{mark}([A-Za-z.][^{mark}]{{0,80}}){mark}"
    )


def unescape(text: str, separators: Separators, decode: Callable[[bytes], str]) -> str:
    """Text without escape sequences (HL7 v2 2.7). Highlighting and other formats are left out.

    A lone escape character stays: many write one where they should not.
    """
    if separators.escape not in text:
        return text
    meant = {
        "F": separators.field,
        "S": separators.component,
        "T": separators.subcomponent,
        "R": separators.repetition,
        "E": separators.escape,
        ".br": "\n",
        ".sp": "\n",
    }

    def put(match: re.Match[str]) -> str:
        if match[1]:
            digits = match[1].replace(f"{separators.escape}X", "").replace(separators.escape, "")
            return decode(bytes.fromhex(digits))
        return meant.get(match[2], "")

    return _escapes(separators.escape).sub(put, text)
