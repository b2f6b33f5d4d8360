"""Documents of a search as identifiers of C-FIND responses, without a `Dataset` (PS3.4 C.4.1.1.3).

What does not change between the answers to one request is encoded once.
"""

from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, pack
from typing import Any

from gantry_domain.attributes import Level
from gantry_domain.charset_encoding import (
    ASCII_ENCODER,
    UTF_8_ENCODER,
    TextEncoder,
    encoder_of,
)
from gantry_domain.elements import encoding_of
from gantry_domain.find_identifier import (
    INSTANCE_AVAILABILITY,
    QUERY_RETRIEVE_LEVEL,
    RETRIEVE_AE_TITLE,
    TIMEZONE_OFFSET_FROM_UTC,
    FindIdentifier,
    Items,
    RequestedKey,
)
from gantry_domain.information_models import level_name
from gantry_domain.json_model import PN_GROUPS, SINGLE_VALUE_VRS, little_endian
from gantry_domain.value_representations import (
    BINARY_VRS,
    ITEM,
    LONG_VRS,
    SPECIFIC_CHARACTER_SET,
)

Document = Mapping[str, Any]
"""Attributes by tag (8 upper-case hex digits), in the DICOM JSON model (PS3.18 Annex F)."""

_Encode = Callable[[Document, TextEncoder], bytes]

_ONLINE = "ONLINE"  # PS3.3 C.4.23.1.1
_LONGEST_SHORT = 0xFFFE  # bytes of a value whose length has 16 bits, and is even
_NUMBER_FORMATS = {
    "US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d", "SV": "q", "UV": "Q",
}  # fmt: skip
_DS_LENGTH = 16  # PS3.5 Table 6.2-1


def encode_text_element(tag: int, vr: str, value: str, *, transfer_syntax: str) -> bytes:
    """One element with a value of ASCII: an identifier of its own."""
    return _Syntax(transfer_syntax).text(tag, vr, value)


def encode_data_set(
    document: Document, *, transfer_syntax: str, encoder: TextEncoder = ASCII_ENCODER
) -> bytes:
    """All of a document but (0008,0005). Raises `UnicodeEncodeError` where its text is another."""
    syntax = _Syntax(transfer_syntax)
    return b"".join(syntax.encoder(key)(document, encoder) for key in _all_of(document))


class IdentifierEncoder:
    """Encodes the answers to one request.

    Each answer has the keys that were asked for, empty where there is nothing, and, where the
    information model has them, (0008,0052) and (0008,0054): where the match can be retrieved.
    A sequence that is asked for and has no value is empty; with `filled_sequences` it has an item
    whose attributes are. (0008,0005) is there where it was asked for or an
    answer holds other than ASCII. The character set is the first of `charsets`, which are values of
    (0008,0005), that can say all of the answer, or else UTF-8. `timezone`: the (0008,0201) of all
    answers, None: they have none.
    """

    def __init__(
        self,
        identifier: FindIdentifier,
        *,
        transfer_syntax: str,
        level: Level | None = None,
        retrieve_ae: str | None = None,
        charsets: Iterable[str | None] = (),
        timezone: str | None = None,
        filled_sequences: bool = False,
    ) -> None:
        syntax = _Syntax(transfer_syntax, filled_sequences=filled_sequences)
        fixed: dict[int, bytes] = {}
        if level is not None:
            named = syntax.text(QUERY_RETRIEVE_LEVEL, "CS", level_name(level))
            fixed[QUERY_RETRIEVE_LEVEL] = named
        if retrieve_ae is not None:
            fixed[RETRIEVE_AE_TITLE] = syntax.text(RETRIEVE_AE_TITLE, "AE", retrieve_ae)
        if identifier.key(INSTANCE_AVAILABILITY) is not None:
            fixed[INSTANCE_AVAILABILITY] = syntax.text(INSTANCE_AVAILABILITY, "CS", _ONLINE)
        if timezone is not None:
            fixed[TIMEZONE_OFFSET_FROM_UTC] = syntax.text(TIMEZONE_OFFSET_FROM_UTC, "SH", timezone)
        encoders: list[tuple[int, _Encode]] = [
            (tag, _constant(encoded)) for tag, encoded in fixed.items()
        ]
        encoders += [
            (key.tag, syntax.encoder(key)) for key in identifier.keys if key.tag not in fixed
        ]
        encoders.sort(key=lambda pair: pair[0])
        self._first = [encode for tag, encode in encoders if tag < SPECIFIC_CHARACTER_SET]
        self._rest = [encode for tag, encode in encoders if tag > SPECIFIC_CHARACTER_SET]
        sets = [found for terms in charsets if terms and (found := encoder_of(terms)) is not None]
        preferred: list[TextEncoder] = [*sets, UTF_8_ENCODER]
        # ASCII means the same in each of the sets.
        of_ascii = b""
        if identifier.charset is not None:
            of_ascii = syntax.text(SPECIFIC_CHARACTER_SET, "CS", preferred[0].terms)
        self._attempts = [
            (ASCII_ENCODER, of_ascii),
            *(
                (found, syntax.text(SPECIFIC_CHARACTER_SET, "CS", found.terms))
                for found in preferred
            ),
        ]

    def encode(self, document: Document) -> bytes:
        """The identifier for one match."""
        for encoder, charset in self._attempts[:-1]:
            try:
                return self._encode(document, encoder, charset)
            except UnicodeEncodeError:
                continue
        return self._encode(document, *self._attempts[-1])

    def _encode(self, document: Document, encoder: TextEncoder, charset: bytes) -> bytes:
        rest = b"".join([encode(document, encoder) for encode in self._rest])
        if not self._first:
            return charset + rest
        return b"".join([encode(document, encoder) for encode in self._first]) + charset + rest


def _constant(encoded: bytes) -> _Encode:
    return lambda _document, _encoder: encoded


class _Syntax:
    """Elements in one transfer syntax (PS3.5 7.1).

    explicit | group 2 | element 2 | VR 2 | length 2 |  or  | VR 2 | 0 2 | length 4 | value
    implicit | group 2 | element 2 | length 4 | value
    """

    def __init__(self, transfer_syntax: str, *, filled_sequences: bool = False) -> None:
        self._filled_sequences = filled_sequences
        self._explicit, self._little = encoding_of(transfer_syntax)
        self._order = "<" if self._little else ">"
        self._tag = Struct(self._order + "HH")
        self._short = Struct(self._order + "H")
        self._long = Struct(self._order + "L")

    def text(self, tag: int, vr: str, value: str) -> bytes:
        """An element with a value of ASCII."""
        return self._element(tag, vr)(_padded(value.encode("ascii"), vr))

    def encoder(self, key: RequestedKey) -> _Encode:
        """What encodes the attribute of a document that a key asks for."""
        name = f"{key.tag:08X}"
        assumed = key.vr
        element = self._element(key.tag, assumed)
        value_of = self._value(assumed, key.items)
        empty = element(b"")
        if self._filled_sequences and key.vr == "SQ" and any(key.items or ()):
            empty = element(value_of({"Value": [{}]}, ASCII_ENCODER))

        def encode(document: Document, encoder: TextEncoder) -> bytes:
            found = document.get(name)
            if found is None:
                return empty
            if found["vr"] != assumed:
                vr = found["vr"]
                return self._element(key.tag, vr)(self._value(vr, key.items)(found, encoder))
            value = value_of(found, encoder)
            return element(value) if value else empty

        return encode

    def _element(self, tag: int, vr: str) -> Callable[[bytes], bytes]:
        """Puts the header of the element in front of its value."""
        head = self._tag.pack(tag >> 16, tag & 0xFFFF)
        pack_long = self._long.pack
        if not self._explicit:
            return lambda value: head + pack_long(len(value)) + value
        if vr in LONG_VRS:
            long_head = head + vr.encode() + b"\0\0"
            return lambda value: long_head + pack_long(len(value)) + value
        short_head = head + vr.encode()
        unknown_head = head + b"UN\0\0"
        pack_short = self._short.pack

        def explicit(value: bytes) -> bytes:
            if len(value) > _LONGEST_SHORT:  # PS3.5 6.2.2, Note 2
                return unknown_head + pack_long(len(value)) + value
            return short_head + pack_short(len(value)) + value

        return explicit

    def _value(self, vr: str, items: Items | None) -> Callable[[Document, TextEncoder], bytes]:
        """Encodes the value of an element of the JSON model, padded to even length."""
        if vr == "SQ":
            return self._sequence(items or ())
        if vr in BINARY_VRS:
            return lambda element, _encoder: self._binary(vr, element)
        if vr == "AT":
            return lambda element, _encoder: b"".join(
                self._tag.pack(int(tag[:4], 16), int(tag[4:], 16))
                for tag in element.get("Value", ())
            )
        if vr in _NUMBER_FORMATS:
            return lambda element, _encoder: self._numbers(vr, element.get("Value", ()))
        return _texts(vr)

    def _numbers(self, vr: str, values: Sequence[Any]) -> bytes:
        # Text where JSON has no such number (PS3.18 F.2.3).
        convert = float if vr in ("FL", "FD") else int
        return pack(f"{self._order}{len(values)}{_NUMBER_FORMATS[vr]}", *map(convert, values))

    def _binary(self, vr: str, element: Document) -> bytes:
        raw = a2b_base64(element.get("InlineBinary", ""))
        # Changing the order twice changes nothing.
        raw = raw if self._little else little_endian(raw, vr)
        return raw + b"\0" if len(raw) % 2 else raw

    def _sequence(self, requested: Items) -> Callable[[Document, TextEncoder], bytes]:
        item_head = self._tag.pack(ITEM >> 16, ITEM & 0xFFFF)
        keys = [key for item in requested[:1] for key in item]
        encoders = [self.encoder(key) for key in keys]

        def encode(element: Document, encoder: TextEncoder) -> bytes:
            parts: list[bytes] = []
            for item in element.get("Value", ()):
                # No keys in the item: all that there is (PS3.4 C.2.2.2.6).
                chosen = encoders or [self.encoder(key) for key in _all_of(item or {})]
                content = b"".join([make(item or {}, encoder) for make in chosen])
                parts += (item_head, self._long.pack(len(content)), content)
            return b"".join(parts)

        return encode


def _all_of(item: Document) -> list[RequestedKey]:
    """The keys that ask for every attribute of an item; its character set is ours to say."""
    return [
        RequestedKey(int(tag, 16), element["vr"], items=() if element["vr"] == "SQ" else None)
        for tag, element in sorted(item.items())
        if int(tag, 16) != SPECIFIC_CHARACTER_SET
    ]


def _texts(vr: str) -> Callable[[Document, TextEncoder], bytes]:
    convert: Callable[[Any], str] = _name if vr == "PN" else _decimal if vr == "DS" else str
    name = vr == "PN"
    single = vr in SINGLE_VALUE_VRS

    def encode(element: Document, encoder: TextEncoder) -> bytes:
        values = element.get("Value")
        if not values:
            return b""
        if len(values) == 1 or single:
            text = convert(values[0])
        else:
            text = "\\".join("" if value is None else convert(value) for value in values)
        return _padded(encoder.encode(text, name=name), vr)

    return encode


def _padded(value: bytes, vr: str) -> bytes:
    if len(value) % 2:
        return value + (b"\0" if vr == "UI" else b" ")  # PS3.5 6.2
    return value


def _name(value: Mapping[str, str] | str) -> str:
    if isinstance(value, str):
        return value
    return "=".join(value.get(group, "") for group in PN_GROUPS).rstrip("=")


def _decimal(value: float | str) -> str:
    text = str(value)
    if len(text) > _DS_LENGTH and not isinstance(value, str):
        return f"{value:.9g}"
    return text
