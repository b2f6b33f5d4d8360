"""Text in every character set of the standard, in those that lie about it, and in none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.charset import (
    CHARSET_MISSING,
    CHARSET_MISSPELT,
    CHARSET_SUSPECT,
    CHARSET_UNKNOWN,
    CHARSET_WRONG,
    UNDECODABLE_TEXT,
    charset_of,
)

ESC = b"\x1b"

# PS3.5 Annexes H, I, J, K: the standard's own examples.
STANDARD = [
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"
        b"=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        "\\ISO 2022 IR 58",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    (
        "ISO_IR 192",
        "Wang^XiaoDong=王^小东=".encode(),
        "Wang^XiaoDong=王^小东=",
    ),
    ("GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东="),
    ("\\ISO 2022 IR 159", b"\x1b$(D\x22\x6f\x1b(B", b"\x8f\xa2\xef".decode("euc_jp")),
    # Latin and Greek in one value, and back to the first set at the delimiter.
    (
        "ISO 2022 IR 100\\ISO 2022 IR 126",
        b"J\xe9r\xf4me \x1b-F\xc4\xe9\xef^J\xe9r\xf4me",
        "Jérôme Διο^Jérôme",
    ),
]


@pytest.mark.parametrize(("terms", "raw", "text"), STANDARD)
def test_examples_of_the_standard(terms, raw, text):
    assert charset_of(terms.encode()).decode(raw, name=True) == (text, None)


@pytest.mark.parametrize(
    ("term", "codec", "text"),
    [
        ("ISO_IR 100", "latin_1", "Äneas^Rüdiger"),
        ("ISO_IR 101", "iso8859_2", "Łukasz^Żółć"),
        ("ISO_IR 109", "iso8859_3", "Ĝoja^Ŝtono"),
        ("ISO_IR 110", "iso8859_4", "Āboliņš"),
        ("ISO_IR 126", "iso8859_7", "Διονυσιος"),
        ("ISO_IR 127", "iso8859_6", "قباني^لنزار"),
        ("ISO_IR 138", "iso8859_8", "שרון^דבורה"),
        ("ISO_IR 144", "iso8859_5", "Люкceмбypг"),
        ("ISO_IR 148", "iso8859_9", "Çavuşoğlu"),
        ("ISO_IR 166", "iso8859_11", "สมชาย"),
        ("ISO_IR 203", "iso8859_15", "Œuvre Ÿ"),
        ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 192", "utf_8", "王^小明"),
        ("GB18030", "gb18030", "㐂^龘"),
        ("GBK", "gbk", "朱^镕基"),
        ("ISO 2022 GBK", "gbk", "王^小明"),
        ("ISO 2022 58", "gb2312", "王^小明"),
    ],
)
def test_single_sets(term, codec, text):
    charset = charset_of(term.encode())
    assert charset.finding is None
    assert charset.decode(text.encode(codec), name=True) == (text, None)


@pytest.mark.parametrize(
    ("codec", "term", "character"),
    [("gbk", "GBK", "誠"), ("gb18030", "GB18030", "俓"), ("shift_jis", "ISO_IR 13", "表")],
)
def test_delimiters_within_characters(codec, term, character):
    """The second byte is a backslash or a caret, and no delimiter."""
    raw = f"A{character}\\B{character}^{character}".encode(codec)
    text, finding = charset_of(term.encode()).decode(raw, name=True)
    assert finding is None
    assert text.split("\\") == [f"A{character}", f"B{character}^{character}"]


def test_there_are_such_characters():
    assert "誠".encode("gbk")[1:] == b"\\" or "俓".encode("gb18030")[1:] in b"\\^"
    assert "表".encode("shift_jis")[1:] == b"\\"


@pytest.mark.parametrize(
    ("term", "finding"),
    [
        ("ISO-IR 192", CHARSET_MISSPELT),
        ("ISO IR 192", CHARSET_MISSPELT),
        ("ISO_IR_192", CHARSET_MISSPELT),
        ("ISO_IR192", CHARSET_MISSPELT),
        ("iso_ir 192", None),
        ("UTF-8", CHARSET_MISSPELT),
        ("ISO 2022 IR 192", None),
        ("ISO_IR 999", CHARSET_UNKNOWN),
        ("KLINGON", CHARSET_UNKNOWN),
    ],
)
def test_misspelt_terms(term, finding):
    charset = charset_of(term.encode())
    assert charset.finding == finding
    assert charset.decode("王^小明".encode())[0] == "王^小明"


@pytest.mark.parametrize(
    ("terms", "default", "raw", "text", "finding"),
    [
        # GBK and UTF-8 labelled Latin-1, or not at all.
        ("ISO_IR 100", "GB18030", "王^小明".encode("gbk"), "王^小明", CHARSET_WRONG),
        ("ISO_IR 100", None, "王^小明".encode(), "王^小明", CHARSET_WRONG),
        ("ISO_IR 6", None, "王^小明".encode(), "王^小明", CHARSET_WRONG),
        ("", "GB18030", "王^小明".encode("gbk"), "王^小明", CHARSET_MISSING),
        ("", None, "王^小明".encode(), "王^小明", CHARSET_MISSING),
        ("", "Big5-HKSCS", "陳^大文".encode("big5hkscs"), "陳^大文", CHARSET_MISSING),
        # Not to be guessed: kept as Latin-1, and said.
        ("ISO_IR 100", None, "王^小明".encode("gbk"), "Íõ^Ð¡Ã÷", CHARSET_SUSPECT),
        ("", None, "Jérôme".encode("latin_1"), "Jérôme", CHARSET_MISSING),
        # What is right stays right, whatever the partner's settings say.
        ("ISO_IR 100", "GB18030", "Jérôme Müßig".encode("latin_1"), "Jérôme Müßig", None),
        ("ISO_IR 192", "GB18030", "王^小明".encode(), "王^小明", None),
        # GB 2312 that is UTF-8 by chance; and names in UTF-8 that are GB 18030 by chance.
        ("ISO_IR 100", "GB18030", "平扫".encode("gbk"), "平扫", CHARSET_WRONG),
        ("", "GB18030", "平扫".encode("gbk"), "平扫", CHARSET_MISSING),
        ("\\ISO 2022 IR 58", None, "平扫".encode("gbk"), "平扫", CHARSET_WRONG),
        ("", "GB18030", "Jérôme".encode(), "Jérôme", CHARSET_MISSING),
        ("", "GB18030", "Иванов".encode(), "Иванов", CHARSET_MISSING),
        # Labelled as Unicode, and is not.
        ("ISO_IR 192", None, "Äneas".encode("latin_1"), "Äneas", CHARSET_WRONG),
        ("ISO_IR 192", "GB18030", "王^小明".encode("gbk"), "王^小明", CHARSET_WRONG),
        # Declared sets whose escape sequences are left out.
        ("\\ISO 2022 IR 149", None, "홍^길동".encode("euc_kr"), "홍^길동", CHARSET_WRONG),
        # Escape sequences that are not declared.
        ("ISO_IR 100", None, b"\x1b$B;3ED\x1b(B", "山田", None),
        # The wider set of the same family.
        ("ISO 2022 58", None, "朱镕基".encode("gbk"), "朱镕基", None),
    ],
)
def test_wrong_or_missing_labels(terms, default, raw, text, finding):
    assert charset_of(terms.encode(), default).decode(raw, name=True) == (text, finding)


def test_undecodable():
    text, finding = charset_of(b"ISO_IR 192").decode(b"abc\xff\xfe\x80def\x80")
    assert finding == UNDECODABLE_TEXT
    assert text.startswith("abc")
    assert "�" in text


terms = st.lists(
    st.sampled_from(
        ["", "ISO_IR 6", "ISO_IR 100", "ISO_IR 13", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 166",
         "ISO 2022 IR 87", "ISO 2022 IR 159", "ISO 2022 IR 149", "ISO 2022 IR 58", "what"]
    ),
    max_size=3,
)  # fmt: skip


@given(
    st.one_of(
        st.binary(max_size=40),
        st.lists(
            st.sampled_from([b"\x1b$B", b"\x1b(B", b"\x1b$)A", b"\x1b-A", ESC, b"\\", b"^", b"A"])
            | st.binary(min_size=1, max_size=3),
            max_size=12,
        ).map(b"".join),
    ),
    terms,
    st.sampled_from([None, "GB18030", "\\ISO 2022 IR 87"]),
    st.booleans(),
)
def test_any_bytes(raw, names, default, name):
    text, _ = charset_of("\\".join(names).encode(), default).decode(raw, name=name)
    text.encode("utf_8")  # no lone surrogates: it can be stored


@given(st.text(st.characters(codec="gb18030", min_codepoint=32), max_size=30))
def test_gb18030_read_again(text):
    assert charset_of(b"GB18030").decode(text.encode("gb18030"), name=True) == (text, None)


@given(st.text(st.characters(codec="utf-8", min_codepoint=32), max_size=30))
def test_utf_8_read_again(text):
    assert charset_of(b"ISO_IR 192").decode(text.encode(), name=True) == (text, None)


@given(
    st.lists(
        st.text("亜山田太郎漢字", min_size=1, max_size=4) | st.text("abc \\^=", max_size=5),
        max_size=6,
    )
)
def test_japanese_read_again(parts):
    raw = b"".join(part.encode("iso2022_jp") for part in parts)
    text = "".join(parts)
    assert charset_of(b"\\ISO 2022 IR 87").decode(raw, name=True) == (text, None)
