"""Messages of HL7 v2 as they are sent: separators, escapes, character sets, and what is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.charset import CHARSET_UNKNOWN
from gantry_domain.hl7.message import STRAY_LINE, UnreadableMessage, read_message

HEADER = "MSH|^~\\&|RIS|HOSPITAL|PACS|GANTRY|20261121||ADT^A08^ADT_A01|1|P|2.5.1"


def message(*segments: str, charset: str = "", codec: str = "ascii") -> bytes:
    header = f"{HEADER}||||||{charset}" if charset else HEADER
    return "\r".join((header, *segments)).encode(codec) + b"\r"


def test_fields_are_counted_from_the_separator() -> None:
    header = read_message(message()).header
    assert [header.raw(number) for number in (1, 2, 3, 10, 12, 13)] == [
        "|", "^~\\&", "RIS", "1", "2.5.1", "",
    ]  # fmt: skip
    assert (header.text(9), header.text(9, 2), header.text(9, 4)) == ("ADT", "A08", "")


def test_repetitions_components_and_subcomponents() -> None:
    read = read_message(message("PID|||A1^^^HKID&1.2.3&ISO~B2^^^MRN"))
    pid = read.first("PID")
    assert pid is not None
    first, second = pid.repetitions(3)
    assert (first.text(1), first.text(4, 1), first.text(4, 2)) == ("A1", "HKID", "1.2.3")
    assert (second.text(1), second.text(4)) == ("B2", "MRN")
    assert [r.text() for r in pid.repetitions(30)] == [""]


def test_the_header_says_the_separators() -> None:
    read = read_message(b"MSH$%?!*$RIS$$$$$$ADT%A08$1$P$2.3\rPID$$$A%x?B!T!C*d\r")
    pid = read.first("PID")
    assert pid is not None
    first, second = pid.repetitions(3)
    assert first.components == ["A", "x"]
    assert (second.text(1, 1), second.text(1, 2)) == ("B*C", "d")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f", "a|b^c&d~e\\f"),
        ("OPERA\\XC7\\\\XC3\\O", "OPERAÇÃO"),
        ("one\\.br\\two", "one\ntwo"),
        ("\\H\\loud\\N\\", "loud"),
        ("50\\60 kg", "50\\60 kg"),
        ("C:\\", "C:\\"),
        ("\\X4\\", ""),
    ],
)
def test_escapes(sent: str, meant: str) -> None:
    obx = read_message(message(f"OBX|1|ST|||{sent}", charset="8859/1")).first("OBX")
    assert obx is not None
    assert obx.text(5) == meant.strip()


# Its second byte is a separator in GB 18030, Big5 or Shift-JIS.
def tricky(codec: str, separator: bytes) -> str:
    return next(
        chr(point)
        for point in range(0x4E00, 0x9FA0)
        if (raw := chr(point).encode(codec, "ignore")) and raw[1:2] == separator and len(raw) == 2
    )


@pytest.mark.parametrize(
    ("named", "codec", "text"),
    [
        ("UNICODE UTF-8", "utf_8", "陳大文"),
        ("8859/1", "latin_1", "Müller"),
        ("8859/2", "iso8859_2", "Dvořák"),
        ("8859/5", "iso8859_5", "Иванов"),
        ("8859/7", "iso8859_7", "Διονυσιος"),
        ("8859/15", "iso8859_15", "Œuvre"),
        ("GB 18030-2000", "gb18030", f"王{tricky('gb18030', b'|')}{tricky('gb18030', b'^')}"),
        ("BIG-5", "big5hkscs", f"陳{tricky('big5', b'|')}{tricky('big5', b'~')}"),
        ("ISO IR87", "iso2022_jp", "山田"),
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("KS X 1001", "euc_kr", "김희중"),
        ("", "utf_8", "陳大文"),
        ("", "latin_1", "Müller"),
    ],
)
def test_character_sets(named: str, codec: str, text: str) -> None:
    read = read_message(message(f"PID|||1||{text}^x|after", charset=named, codec=codec))
    pid = read.first("PID")
    assert pid is not None
    assert (pid.text(5), pid.text(5, 2), pid.text(6)) == (text, "x", "after")


def test_a_default_for_messages_that_name_no_set() -> None:
    raw = message("PID|||1||王小明", codec="gb18030")
    pid = read_message(raw, default_charset="GB18030").first("PID")
    assert pid is not None
    assert pid.text(5) == "王小明"


def test_what_is_odd_is_told() -> None:
    assert read_message(message(charset="KLINGON")).findings == (CHARSET_UNKNOWN,)
    read = read_message(message("NTE|1||first line", "second line of it"))
    assert read.findings == (STRAY_LINE,)
    assert [segment.name for segment in read.segments] == ["MSH", "NTE"]
    assert read.segments[1].text(3) == "first line\nsecond line of it"


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\n\r\n"])
def test_lines_end_as_they_like(end: bytes) -> None:
    raw = b"\xef\xbb\xbf" + end + message("PID|||1", "PV1||E").replace(b"\r", end)
    assert [segment.name for segment in read_message(raw).segments] == ["MSH", "PID", "PV1"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\r",
        b"PID|||1",
        b"MSH",
        b"MSH ^~\\&|",
        b"MSH|^^^^|",
        b"MSHA^~\\&|",
        b"FHS|^~\\&|",
        message(charset="UNICODE UTF-16"),
        "MSH|^~\\&|".encode("utf-16"),
        b"MSH|^~\\&|\r" + b"NTE|\r" * 5_001,
    ],
)
def test_what_is_no_message(raw: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        read_message(raw)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    read = read_message(b"MSH|^~\\&|" + tail.replace(b"UTF-16", b"").replace(b"UTF-32", b""))
    for segment in read.segments:
        for number in range(1, len(segment.fields) + 2):
            for repetition in segment.repetitions(number):
                assert isinstance(repetition.text(1, 1), str)
                assert len(repetition.components) >= 1


_ESCAPED = {"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"}


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60))
def test_what_is_escaped_comes_back(text: str) -> None:
    sent = "".join(_ESCAPED.get(character, character) for character in text)
    raw = message(f"NTE|1||{sent}|x", charset="UNICODE UTF-8", codec="utf_8")
    nte = read_message(raw).first("NTE")
    assert nte is not None
    assert (nte.text(3), nte.text(4)) == (text.strip(), "x")
