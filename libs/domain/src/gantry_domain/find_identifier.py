"""The identifier of a C-FIND, C-MOVE or C-GET request, read into its keys (PS3.4 C.4.1.1.3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gantry_domain.attributes import Level
from gantry_domain.charset import Charset, charset_of
from gantry_domain.elements import (
    ELEMENT,
    FRAGMENTS_START,
    ITEM_END,
    ITEM_START,
    SEQUENCE_END,
    SEQUENCE_START,
    Walk,
    encoding_of,
)
from gantry_domain.errors import UnreadableObject
from gantry_domain.information_models import InformationModel
from gantry_domain.json_model import NUMERIC_VRS, JsonModel
from gantry_domain.query import BadQuery
from gantry_domain.sources import Window, fetch_from
from gantry_domain.value_representations import (
    BINARY_VRS,
    SPECIFIC_CHARACTER_SET,
    US_OR_OW,
    US_OR_SS,
)

QUERY_RETRIEVE_LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
TIMEZONE_OFFSET_FROM_UTC = 0x00080201

MOST_KEYS = 1000

IDENTIFIER = "identifier"
"""What the whole of it is called in `BadQuery`."""

_DECIDED = {US_OR_SS: "US", US_OR_OW: "OW"}

Items = tuple[tuple["RequestedKey", ...], ...]


@dataclass(frozen=True, slots=True)
class RequestedKey:
    """One key: what is to be returned, and matched if it has a value.

    `text` is the value decoded, backslashes included. `items` are the keys of a sequence's items;
    None: it is no sequence. `opaque`: it has a value that is no text.
    """

    tag: int
    vr: str
    text: str = ""
    items: Items | None = None
    opaque: bool = False

    @property
    def universal(self) -> bool:
        """Whether it matches everything: no value, or `*` (PS3.4 C.2.2.2.3)."""
        inside = (key for item in self.items or () for key in item)
        return not self.opaque and not self.text.strip(" *") and all(k.universal for k in inside)


@dataclass(frozen=True, slots=True)
class FindIdentifier:
    """The keys in ascending order of their tags; without group lengths and (0008,0201).

    `charset`: the value of (0008,0005), None if it is not there. `timezone`: that of (0008,0201),
    empty if it has none.
    """

    keys: tuple[RequestedKey, ...]
    charset: str | None
    timezone: str = ""

    def key(self, tag: int) -> RequestedKey | None:
        """The key with this tag."""
        return next((key for key in self.keys if key.tag == tag), None)

    def level(self, model: InformationModel) -> Level:
        """What (0008,0052) names. Raises `BadQuery` where that is no level of the model."""
        key = self.key(QUERY_RETRIEVE_LEVEL)
        if key is None or not key.text:
            raise BadQuery("QueryRetrieveLevel", "is missing")
        level = model.level_named(key.text)
        if level is None:
            raise BadQuery("QueryRetrieveLevel", "is none of this information model")
        return level


def read_find_identifier(
    encoded: bytes, *, transfer_syntax: str, default_charset: str | None = None
) -> FindIdentifier:
    """The keys of an identifier.

    `default_charset`: the terms that the partner's settings give for text that names no set or a
    wrong one. Raises `BadQuery` for what cannot be read.
    """
    explicit, little = encoding_of(transfer_syntax)
    walk = Walk(
        Window(fetch_from(encoded), first=encoded),
        start=0,
        end=len(encoded),
        explicit=explicit,
        little=little,
    )
    reader = _Reader(walk, default_charset)
    try:
        keys = reader.read()
    except UnreadableObject as error:
        raise BadQuery(IDENTIFIER, "is nested too deeply or too long") from error
    if walk.truncated or walk.broken is not None:
        raise BadQuery(IDENTIFIER, "is not a data set in the agreed transfer syntax")
    return FindIdentifier(keys, reader.charset_terms, reader.timezone)


class _Reader:
    def __init__(self, walk: Walk, default_charset: str | None) -> None:
        self._walk = walk
        self._events = iter(walk)
        self._default = default_charset
        self._model = JsonModel(lambda _rule, _tag, _detail: None)
        self._left = MOST_KEYS
        self.charset_terms: str | None = None
        self.timezone = ""

    def read(self) -> tuple[RequestedKey, ...]:
        return self._keys(charset_of(b"", self._default), outermost=True)

    def _keys(self, charset: Charset, *, outermost: bool) -> tuple[RequestedKey, ...]:
        """The keys of one data set, to its end."""
        found: dict[int, RequestedKey] = {}
        for kind, tag, vr, offset, length in self._events:
            if kind == ITEM_END:
                break
            if kind == FRAGMENTS_START:
                raise BadQuery(IDENTIFIER, "holds encapsulated data")
            key: RequestedKey | None = None
            if kind == SEQUENCE_START:
                key = RequestedKey(tag, "SQ", items=tuple(self._items(charset)))
            elif kind == ELEMENT and tag & 0xFFFF:
                raw = self._walk.window.read(offset, length)
                if tag == TIMEZONE_OFFSET_FROM_UTC:
                    if outermost:
                        self.timezone = raw.decode("ascii", "replace").strip("\0 ")
                elif tag == SPECIFIC_CHARACTER_SET:
                    charset = charset_of(raw.rstrip(b"\0 "), self._default)
                    if outermost:
                        self.charset_terms = raw.decode("ascii", "replace").strip("\0 ")
                else:
                    key = self._key(tag, _DECIDED.get(vr, vr), raw, charset)
            if key is None:
                continue
            self._left -= 1
            if self._left < 0:
                raise BadQuery(IDENTIFIER, f"has more than {MOST_KEYS} keys")
            if tag in found:
                raise BadQuery(IDENTIFIER, "has the same key twice")
            found[tag] = key
        return tuple(found[tag] for tag in sorted(found))

    def _items(self, charset: Charset) -> Iterator[tuple[RequestedKey, ...]]:
        for kind, *_ in self._events:
            if kind == SEQUENCE_END:
                return
            if kind == ITEM_START:
                yield self._keys(charset, outermost=False)

    def _key(self, tag: int, vr: str, raw: bytes, charset: Charset) -> RequestedKey:
        if vr in BINARY_VRS:
            return RequestedKey(tag, vr, opaque=bool(raw.strip(b"\0 ")))
        if vr in NUMERIC_VRS:
            element = self._model.element(tag, vr, raw, charset, little=self._walk.little)
            values: list[Any] = element.get("Value", [])
            return RequestedKey(tag, vr, "\\".join(map(str, values)))
        text, _finding = charset.decode(raw, name=vr == "PN")
        if vr == "UI":
            text = text.replace("\0", "")
        return RequestedKey(tag, vr, text.rstrip("\0 "))
