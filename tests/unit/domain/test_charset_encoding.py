"""Text encoded in a character set is read back the same, by us and by pydicom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes

from gantry_domain.charset import charset_of
from gantry_domain.charset_encoding import ASCII_ENCODER, UTF_8_ENCODER, encoder_of

NAMES = {
    "ISO_IR 100": "Buc^Jérôme",
    "ISO_IR 101": "Wałęsa^Łukasz",
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 126": "Διονυσιος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 166": "สมชาย",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ",
    "ISO_IR 192": "Wang^XiaoDong=王^小東=",
    "GB18030": "Wang^XiaoDong=王^小东=",
    "GBK": "Wang^XiaoDong=王^小东=",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159": "Yamada=丂丄^太郎",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "\\ISO 2022 IR 58": "Zhang^XiaoDong=张^小东=",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Jérôme^Люкceмбypг",
}


def codecs(terms: str) -> list[str]:
    """pydicom's codecs for a value of (0008,0005)."""
    encodings = convert_encodings(terms.split("\\"))
    return [encodings] if isinstance(encodings, str) else list(encodings)


@pytest.mark.parametrize("terms", NAMES)
def test_names_are_read_back(terms: str) -> None:
    name = NAMES[terms]
    encoder = encoder_of(terms)
    assert encoder is not None
    assert encoder.terms == terms
    raw = encoder.encode(name, name=True)
    decoded, finding = charset_of(terms.encode()).decode(raw, name=True)
    assert (decoded, finding) == (name, None)
    if "IR 58" not in terms:  # pydicom leaves its escape sequences in the text
        assert decode_bytes(raw, codecs(terms), {0x5C, 0x5E, 0x3D}) == name


def test_the_japanese_name_of_the_standard() -> None:
    """PS3.5 H.3.2, to the byte."""
    encoder = encoder_of("\\ISO 2022 IR 87")
    assert encoder is not None
    raw = encoder.encode("Yamada^Tarou=山田^太郎=やまだ^たろう", name=True)
    assert raw == (
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    )


def test_the_korean_name_of_the_standard() -> None:
    """PS3.5 I.2, to the byte."""
    encoder = encoder_of("\\ISO 2022 IR 149")
    assert encoder is not None
    raw = encoder.encode("Hong^Gildong=洪^吉洞=홍^길동", name=True)
    assert raw == (
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7="
        b"\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
    )


def test_the_chinese_name_of_the_standard() -> None:
    """PS3.5 K.2, to the byte."""
    encoder = encoder_of("\\ISO 2022 IR 58")
    assert encoder is not None
    raw = encoder.encode("Zhang^XiaoDong=张^小东=", name=True)
    assert raw == b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="


LETTERS = "".join(NAMES.values())


@given(
    terms=st.sampled_from([terms for terms in sorted(NAMES) if "IR 58" not in terms]),
    text=st.text(st.one_of(st.sampled_from(LETTERS), st.characters(codec="utf-8")), max_size=30),
)
def test_what_a_set_cannot_say_is_refused_and_the_rest_is_read_back(terms: str, text: str) -> None:
    text = "".join(c for c in text if c.isprintable() and c != "\\")
    encoder = encoder_of(terms)
    assert encoder is not None
    try:
        raw = encoder.encode(text, name=True)
    except UnicodeEncodeError:
        assert not text.isascii()
    else:
        assert decode_bytes(raw, codecs(terms), {0x5C, 0x5E, 0x3D}) == text


@pytest.mark.parametrize("terms", ["", "ISO_IR 6", "ISO-IR 192", "GB2312", "LATIN1", "ISO_IR 999"])
def test_terms_that_name_no_set(terms: str) -> None:
    assert encoder_of(terms) is None


def test_the_two_that_need_no_terms() -> None:
    with pytest.raises(UnicodeEncodeError):
        ASCII_ENCODER.encode("é")
    assert UTF_8_ENCODER.encode("é\ud800") == "é?".encode()
