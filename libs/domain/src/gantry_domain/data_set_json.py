"""A small data set without file meta information, as in a message, to the DICOM JSON model."""

from collections.abc import Iterator
from typing import Any

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
from gantry_domain.errors import PermanentError, UnreadableObject
from gantry_domain.json_model import Element, JsonModel
from gantry_domain.sources import Window, fetch_from
from gantry_domain.value_representations import SPECIFIC_CHARACTER_SET, US_OR_OW, US_OR_SS

_DECIDED = {US_OR_SS: "US", US_OR_OW: "OW"}


class UnreadableDataSet(PermanentError):
    """What is no data set in the transfer syntax that was agreed on."""


def read_data_set(
    encoded: bytes, *, transfer_syntax: str, default_charset: str | None = None
) -> dict[str, Element]:
    """The elements by tag, in ascending order, without group lengths.

    `default_charset`: for text that names no set or a wrong one. Raises `UnreadableDataSet`.
    """
    explicit, little = encoding_of(transfer_syntax)
    walk = Walk(
        Window(fetch_from(encoded), first=encoded),
        start=0,
        end=len(encoded),
        explicit=explicit,
        little=little,
    )
    try:
        found = _Reader(walk, default_charset).read()
    except UnreadableObject as error:
        raise UnreadableDataSet("the data set is nested too deeply or too long") from error
    if walk.truncated or walk.broken is not None:
        raise UnreadableDataSet("it is no data set in the agreed transfer syntax")
    return found


class _Reader:
    def __init__(self, walk: Walk, default_charset: str | None) -> None:
        self._walk = walk
        self._events = iter(walk)
        self._default = default_charset
        self._model = JsonModel(lambda _rule, _tag, _detail: None)

    def read(self) -> dict[str, Element]:
        return self._elements(charset_of(b"", self._default))

    def _elements(self, charset: Charset) -> dict[str, Element]:
        """Those of one data set, to its end."""
        found: dict[str, Element] = {}
        for kind, tag, vr, offset, length in self._events:
            if kind == ITEM_END:
                break
            key = f"{tag:08X}"
            if kind == FRAGMENTS_START:
                raise UnreadableDataSet("it holds encapsulated data")
            if kind == SEQUENCE_START:
                items: list[Any] = list(self._items(charset))
                found[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            elif kind == ELEMENT and tag & 0xFFFF:
                raw = self._walk.window.read(offset, length)
                if tag == SPECIFIC_CHARACTER_SET:
                    charset = charset_of(raw.rstrip(b"\0 "), self._default)
                    continue
                decided = _DECIDED.get(vr, vr)
                found[key] = self._model.element(
                    tag, decided, raw, charset, little=self._walk.little
                )
        return dict(sorted(found.items()))

    def _items(self, charset: Charset) -> Iterator[dict[str, Element]]:
        for kind, *_ in self._events:
            if kind == SEQUENCE_END:
                return
            if kind == ITEM_START:
                yield self._elements(charset)
