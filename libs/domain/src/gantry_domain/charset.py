"""Text of data elements to Unicode, by the Specific Character Set and in spite of it (PS3.5 6.1).

Fields name no set, a misspelt one or a wrong one. Bytes are never refused: what cannot be decoded
is decoded with replacement characters, and each departure from the standard is named.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

# Departures, as rules of findings.
CHARSET_MISSING = "charset_missing"  # not ASCII, and no set is named
CHARSET_UNKNOWN = "charset_unknown"  # the term is none of PS3.3 C.12.1.1.2
CHARSET_MISSPELT = "charset_misspelt"
CHARSET_WRONG = "charset_wrong"  # the bytes are of another set, which was recognised
CHARSET_SUSPECT = "charset_suspect"  # decodes, but hardly to what was meant
UNDECODABLE_TEXT = "undecodable_text"

# PS3.3 Tables C.12-2 to C.12-5: ISO registration number -> Python's codec.
_REGISTERED = {
    "6": "ascii", "13": "shift_jis", "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3",
    "110": "iso8859_4", "126": "iso8859_7", "127": "iso8859_6", "138": "iso8859_8",
    "144": "iso8859_5", "148": "iso8859_9", "166": "iso8859_11", "192": "utf_8",
    "203": "iso8859_15", "149": "euc_kr", "58": "gb2312",
    # Only reached by escape sequences; a value without one is ASCII.
    "87": "ascii", "159": "ascii",
}  # fmt: skip
_NAMED = {
    "GB18030": "gb18030", "GBK": "gbk", "GB2312": "gbk", "UTF8": "utf_8", "UTF-8": "utf_8",
    "BIG5": "big5hkscs", "BIG5-HKSCS": "big5hkscs", "BIG5HKSCS": "big5hkscs", "B5": "big5hkscs",
    "SHIFT_JIS": "shift_jis", "SHIFT-JIS": "shift_jis", "EUC-KR": "euc_kr", "KS_C_5601": "euc_kr",
    "LATIN1": "latin_1", "LATIN-1": "latin_1", "ISO8859-1": "latin_1", "ISO_8859-1": "latin_1",
    "ASCII": "ascii",
}  # fmt: skip
_DEFINED_NAMES = frozenset(("GB18030", "GBK"))
# Sets that extend another one and are written in its place.
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932"}
_STANDALONE = frozenset(("utf_8", "gb18030", "gbk", "big5hkscs"))

_DEFINED = re.compile(r"ISO_IR \d+|ISO 2022 (?:IR \d+|GBK|58)")
_LOOSE = re.compile(r"ISO[ _-]*(?:2022[ _-]*)?(?:IR[ _-]*)?(\d+)")
_LOOSE_NAME = re.compile(r"ISO[ _-]*2022[ _-]*(?:IR[ _-]*)?(.+)")

# PS3.3 Tables C.12-3, C.12-4: what an escape sequence puts into G0 or G1.
_ESCAPE = re.compile(rb"\x1b(\$\)[AC]|\$\([A-D]|\$[@AB]|[()][A-Z]|-[A-Zb])")
_G0_SINGLE = frozenset((b"(B", b"(J"))
_G0_DOUBLE: dict[bytes, tuple[str, bytes]] = {  # codec and prefix of each pair with the high bit
    b"$@": ("euc_jp", b""), b"$B": ("euc_jp", b""), b"$(B": ("euc_jp", b""),
    b"$(D": ("euc_jp", b"\x8f"),
    b"$A": ("gb2312", b""), b"$(A": ("gb2312", b""), b"$(C": ("euc_kr", b""),
}  # fmt: skip
_G1 = {
    b")I": "shift_jis", b"$)A": "gb2312", b"$)C": "euc_kr",
    b"-A": "latin_1", b"-B": "iso8859_2", b"-C": "iso8859_3", b"-D": "iso8859_4",
    b"-F": "iso8859_7", b"-G": "iso8859_6", b"-H": "iso8859_8", b"-L": "iso8859_5",
    b"-M": "iso8859_9", b"-T": "iso8859_11", b"-b": "iso8859_15",
}  # fmt: skip
# Where G0 and G1 return to their initial state (PS3.5 6.1.2.5.3).
_RESETS = re.compile(rb"([\\\t\n\f\r])")
_RESETS_NAME = re.compile(rb"([\\\t\n\f\r^=])")


@dataclass(frozen=True, slots=True)
class Charset:
    """The character set of one data set or item; made by `charset_of`.

    `codec`: that of text without escape sequences; `finding`: what is odd about the terms.
    """

    codec: str
    extensions: tuple[str, ...]
    named: bool
    fallback: "Charset | None"
    finding: str | None

    def decode(self, raw: bytes, *, name: bool = False) -> tuple[str, str | None]:
        """Unicode text of the whole value field, backslashes included, and a finding's rule.

        Splitting comes afterwards: in Shift-JIS, GBK and GB18030 the second byte of a character
        may be a backslash or a caret. `name`: the VR is PN. Never raises.
        """
        if 0x1B in raw:
            text, faithful = _decode_escapes(raw, self._initial_g1(), name=name)
            if faithful:
                return text, None
            guess = _utf_8(raw)
            return (text, UNDECODABLE_TEXT) if guess is None else (guess, CHARSET_WRONG)
        if raw.isascii():
            return raw.decode("ascii"), None
        if not self.named:
            return self._decode_unnamed(raw)
        if self.codec in ("latin_1", "ascii"):
            return self._decode_latin(raw)
        for codec in (self.codec, _WIDER.get(self.codec)):
            text_or_none = _strict(raw, codec)
            if text_or_none is not None:
                return text_or_none, None
        return self._decode_wrong(raw)

    def _initial_g1(self) -> str | None:
        return None if self.codec == "ascii" or self.codec in _STANDALONE else self.codec

    def _rivals(self) -> tuple[str, ...]:
        """The codecs beside UTF-8 that bytes of a wrong label may be in."""
        fallback = self.fallback
        return self.extensions + ((fallback.codec, *fallback.extensions) if fallback else ())

    def _decode_unnamed(self, raw: bytes) -> tuple[str, str]:
        guess = _utf_8(raw, self._rivals())
        if guess is None and self.fallback:
            text, finding = self.fallback.decode(raw)
            if finding is None:
                return text, CHARSET_MISSING
        if guess is not None:
            return guess, CHARSET_MISSING
        return raw.decode("latin_1"), CHARSET_MISSING if _latin(raw) else CHARSET_SUSPECT

    def _decode_latin(self, raw: bytes) -> tuple[str, str | None]:
        """Latin-1 decodes anything: look at whether it is what was meant."""
        guess = _utf_8(raw, self._rivals())
        if guess is not None:
            return guess, CHARSET_WRONG
        latin = _latin(raw)
        if not latin:
            if self.fallback:
                text, finding = self.fallback.decode(raw)
                if finding is None:
                    return text, CHARSET_WRONG
            for codec in self.extensions:  # declared, but its escape sequence is left out
                extended = _strict(raw, codec)
                if extended is not None:
                    return extended, CHARSET_WRONG
        text = raw.decode("latin_1")
        if self.codec == "ascii":
            return text, CHARSET_WRONG if latin else CHARSET_SUSPECT
        return text, None if latin else CHARSET_SUSPECT

    def _decode_wrong(self, raw: bytes) -> tuple[str, str]:
        guess = _utf_8(raw)
        if guess is None and _latin(raw):
            guess = raw.decode("latin_1")
        if guess is None and self.fallback:
            text, finding = self.fallback.decode(raw)
            guess = text if finding is None else None
        if guess is not None:
            return guess, CHARSET_WRONG
        codec = _WIDER.get(self.codec, self.codec)
        return raw.decode(codec, errors="replace"), UNDECODABLE_TEXT


@lru_cache(maxsize=1024)
def charset_of(value: bytes, default: str | None = None) -> Charset:
    """The character set that the value field of (0008,0005) names.

    `default`: the terms (backslashes between them) that the partner's settings give for data
    that name none or a wrong one.
    """
    fallback = charset_of(default.encode(errors="replace")) if default else None
    terms = [term.strip(b"\0 ") for term in value.split(b"\\")]
    if not any(terms):
        return Charset("ascii", (), False, fallback, None)
    codecs = []
    findings = set()
    for position, term in enumerate(terms):
        codec, finding = _codec_of(term.decode("ascii", errors="replace").upper())
        if position == 0 and not term:
            codec = "ascii"
        if codec is not None:
            codecs.append(codec)
        if finding is not None:
            findings.add(finding)
    if CHARSET_UNKNOWN in findings:
        rule: str | None = CHARSET_UNKNOWN
    else:
        rule = CHARSET_MISSPELT if findings else None
    if not codecs:
        return Charset("ascii", (), False, fallback, rule)
    alone = [codec for codec in codecs if codec in _STANDALONE]
    if alone:
        return Charset(alone[0], (), True, fallback, rule)
    extensions = tuple(codec for codec in codecs[1:] if codec != "ascii")
    return Charset(codecs[0], extensions, True, fallback, rule)


def _codec_of(term: str) -> tuple[str | None, str | None]:
    """Python's codec for a defined term, and what is odd about the term."""
    if not term:
        return None, None
    if term in _NAMED:
        return _NAMED[term], None if term in _DEFINED_NAMES else CHARSET_MISSPELT
    match = _LOOSE.fullmatch(term)
    if match and match[1] in _REGISTERED:
        return _REGISTERED[match[1]], None if _DEFINED.fullmatch(term) else CHARSET_MISSPELT
    match = _LOOSE_NAME.fullmatch(term)
    if match and match[1] in _NAMED:
        return _NAMED[match[1]], None if _DEFINED.fullmatch(term) else CHARSET_MISSPELT
    return None, CHARSET_UNKNOWN


def _strict(raw: bytes, codec: str | None) -> str | None:
    if codec is None:
        return None
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return None


def _utf_8(raw: bytes, rivals: Iterable[str] = ()) -> str | None:
    """The text if `raw` is UTF-8; text of another set hardly ever is by chance.

    But where a set of pairs of high bytes is a rival, chance is not so rare: GB 2312 for "plain
    scan" is two characters of UTF-8 too. Then only what looks like words in Latin letters counts.
    """
    text = _strict(raw, "utf_8")
    if text is None or _PAIRED.isdisjoint(rivals):
        return text
    if max(text) >= "\u0800" or _NO_PAIR.search(raw) or _latin_words(text):
        return text
    return None


_PAIRED = frozenset(("gb2312", "gbk", "gb18030", "euc_kr"))
# In GB 2312 and KS X 1001 both bytes are above.
_NO_PAIR = re.compile(rb"[\x80-\xa0]")
_LETTERS = re.compile(r"[^\W\d_]+")


def _latin_words(text: str) -> bool:
    for word in _LETTERS.findall(text):
        high = [letter for letter in word if letter > "\x7f"]
        if high and (min(high) < "\xc0" or max(high) > "\u017f" or 2 * len(high) > len(word)):
            return False
    return True


_WORDS = re.compile(rb"[^A-Za-z\x80-\xff]+")
_HIGH = re.compile(rb"[\x80-\xff]")
# 0x80-0xBF are control characters and symbols, 0xD7 and 0xF7 signs of arithmetic.
_NO_LETTER = re.compile(rb"[\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7]")


def _latin(raw: bytes) -> bool:
    """Whether the bytes look like words of a language written in ISO 8859-1.

    Its accented letters stand among plain ones; characters of two bytes do not.
    """
    for word in _WORDS.split(raw):
        high = len(_HIGH.findall(word))
        if high and (_NO_LETTER.search(word) or 2 * high > len(word)):
            return False
    return True


def _decode_escapes(raw: bytes, initial_g1: str | None, *, name: bool) -> tuple[str, bool]:
    """Text with code extensions (PS3.5 6.1.2.5) and whether all of it could be decoded."""
    resets = _RESETS_NAME if name else _RESETS
    g0: tuple[str, bytes] | None = None
    g1 = initial_g1
    parts: list[str] = []
    faithful = True
    position = 0
    while position <= len(raw):
        match = _ESCAPE.search(raw, position)
        segment = raw[position : match.start() if match else len(raw)]
        if g0 is not None:
            text, decoded = _decode_pairs(segment, *g0)
            parts.append(text)
            faithful &= decoded
        else:
            for piece in resets.split(segment):
                if initial_g1 is not None and resets.fullmatch(piece):
                    g1 = initial_g1  # otherwise some writers count on the set to stay
                text, decoded = _decode_with(piece, g1)
                parts.append(text)
                faithful &= decoded
        if match is None:
            break
        position = match.end()
        sequence = match[1]
        if sequence in _G0_DOUBLE:
            g0 = _G0_DOUBLE[sequence]
        elif sequence in _G1:
            g1 = _G1[sequence]
        elif sequence in _G0_SINGLE:
            g0 = None
        else:
            faithful = False
    return "".join(parts), faithful


def _decode_with(piece: bytes, codec: str | None) -> tuple[str, bool]:
    if piece.isascii():
        return piece.decode("ascii"), b"\x1b" not in piece
    codec = codec or "latin_1"
    for candidate in (codec, _WIDER.get(codec)):
        text = _strict(piece, candidate)
        if text is not None:
            return text, True
    return piece.decode(codec, errors="replace"), False


def _decode_pairs(segment: bytes, codec: str, prefix: bytes) -> tuple[str, bool]:
    """Characters of two 7-bit bytes each (JIS X 0208, JIS X 0212); control characters pass."""
    high: list[bytes] = []
    index = 0
    faithful = True
    while index < len(segment):
        pair = segment[index : index + 2]
        if pair[0] <= 0x20:
            high.append(pair[:1])
            index += 1
            continue
        if len(pair) == 2 and all(0x21 <= byte <= 0x7E for byte in pair):
            high.append(prefix + bytes(byte | 0x80 for byte in pair))
        else:
            high.append(pair if pair.isascii() else b"?")
            faithful = False
        index += 2
    encoded = b"".join(high)
    text = _strict(encoded, codec)
    if text is not None:
        return text, faithful
    return encoded.decode(codec, errors="replace"), False
