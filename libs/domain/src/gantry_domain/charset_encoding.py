"""Unicode text to the bytes of a Specific Character Set (PS3.5 6.1): the way out."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

UTF_8 = "ISO_IR 192"

_STANDALONE = {UTF_8: "utf_8", "GB18030": "gb18030", "GBK": "gbk"}
_TERM = re.compile(r"ISO(?:_| 2022 )IR (\d+)")


@dataclass(frozen=True, slots=True)
class _Set:
    """A character set that an escape sequence puts into G0 or G1 (PS3.3 Tables C.12-2 to -4)."""

    codec: str
    escape: bytes
    in_g0: bool = False
    width: int = 1
    prefix: bytes = b""

    def encode(self, character: str) -> bytes | None:
        """The bytes of a character; None if it is not in the set."""
        try:
            raw = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        if not raw.startswith(self.prefix):
            return None
        raw = raw[len(self.prefix) :]
        if len(raw) != self.width or min(raw) < 0xA0:
            return None
        return bytes(byte & 0x7F for byte in raw) if self.in_g0 else raw


_SETS = {
    "13": _Set("shift_jis", b"\x1b)I"),
    "100": _Set("latin_1", b"\x1b-A"),
    "101": _Set("iso8859_2", b"\x1b-B"),
    "109": _Set("iso8859_3", b"\x1b-C"),
    "110": _Set("iso8859_4", b"\x1b-D"),
    "126": _Set("iso8859_7", b"\x1b-F"),
    "127": _Set("iso8859_6", b"\x1b-G"),
    "138": _Set("iso8859_8", b"\x1b-H"),
    "144": _Set("iso8859_5", b"\x1b-L"),
    "148": _Set("iso8859_9", b"\x1b-M"),
    "166": _Set("iso8859_11", b"\x1b-T"),
    "203": _Set("iso8859_15", b"\x1b-b"),
    "87": _Set("euc_jp", b"\x1b$B", in_g0=True, width=2),
    "159": _Set("euc_jp", b"\x1b$(D", in_g0=True, width=2, prefix=b"\x8f"),
    "149": _Set("euc_kr", b"\x1b$)C", width=2),
    "58": _Set("gb2312", b"\x1b$)A", width=2),
}
_ASCII = b"\x1b(B"
_JIS_ROMAJI = b"\x1b(J"  # of ISO_IR 13; but for two characters it is ASCII

# Where G0 and G1 return to their initial state (PS3.5 6.1.2.5.3).
_RESETS = re.compile(r"([\\\t\n\f\r])")
_RESETS_NAME = re.compile(r"([\\\t\n\f\r^=])")


class TextEncoder(Protocol):
    """Encodes the text of value fields in one character set."""

    @property
    def terms(self) -> str:
        """The value of (0008,0005), backslashes included; empty for ASCII alone."""

    def encode(self, text: str, *, name: bool = False) -> bytes:
        """The bytes, without padding; `name`: the VR is PN. Raises `UnicodeEncodeError`."""


@dataclass(frozen=True, slots=True)
class _OneCodec:
    terms: str
    codec: str
    errors: str = "strict"

    def encode(self, text: str, *, name: bool = False) -> bytes:
        return text.encode(self.codec, self.errors)


@dataclass(frozen=True, slots=True)
class _CodeExtensions:
    """One set, or several with escape sequences between them (PS3.5 6.1.2.5)."""

    terms: str
    sets: tuple[_Set, ...]
    initial: _Set | None

    def encode(self, text: str, *, name: bool = False) -> bytes:
        if text.isascii():
            return text.encode("ascii")
        pieces = (_RESETS_NAME if name else _RESETS).split(text)
        return b"".join(map(self._encode_piece, pieces))

    def _encode_piece(self, piece: str) -> bytes:
        if piece.isascii():
            return piece.encode("ascii")
        plain = _JIS_ROMAJI if self.initial is _SETS["13"] else _ASCII
        g0: _Set | None = None
        g1 = self.initial
        out: list[bytes] = []
        for index, character in enumerate(piece):
            if character.isascii():
                if g0 is not None:
                    out.append(plain)
                    g0 = None
                out.append(character.encode("ascii"))
                continue
            chosen, raw = self._set_of(character)
            if raw is None:
                raise UnicodeEncodeError(self.terms, piece, index, index + 1, "not in these sets")
            if chosen.in_g0 and chosen is not g0:
                out.append(chosen.escape)
                g0 = chosen
            elif not chosen.in_g0 and chosen is not g1:
                out.append(chosen.escape)
                g1 = chosen
            out.append(raw)
        if g0 is not None:
            out.append(plain)
        return b"".join(out)

    def _set_of(self, character: str) -> tuple[_Set, bytes | None]:
        for candidate in self.sets:
            raw = candidate.encode(character)
            if raw is not None:
                return candidate, raw
        return _SETS["100"], None


ASCII_ENCODER: TextEncoder = _OneCodec("", "ascii")
UTF_8_ENCODER: TextEncoder = _OneCodec(UTF_8, "utf_8", "replace")
"""Encodes everything; a lone surrogate, which no text has, becomes a question mark."""


@lru_cache(maxsize=256)
def encoder_of(terms: str) -> TextEncoder | None:
    """The encoder for a value of (0008,0005).

    None where a term is none of PS3.3 C.12.1.1.2 or names nothing beyond ASCII.
    """
    named = [term.strip(" \0") for term in terms.split("\\")]
    if len(named) == 1 and named[0] in _STANDALONE:
        codec = _STANDALONE[named[0]]
        return UTF_8_ENCODER if codec == "utf_8" else _OneCodec(named[0], codec)
    sets: list[_Set] = []
    initial: _Set | None = None
    for position, term in enumerate(named):
        match = _TERM.fullmatch(term)
        number = match[1] if match else ""
        if (term and match is None) or (number not in _SETS and number not in ("", "6")):
            return None
        if number in _SETS:
            sets.append(_SETS[number])
            if position == 0 and _SETS[number].width == 1:
                initial = _SETS[number]
    return _CodeExtensions("\\".join(named), tuple(sets), initial) if sets else None
