"""Values to the DICOM JSON model, rule by rule (PS3.18 Annex F)."""

import base64
import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.charset import charset_of
from gantry_domain.json_model import JsonModel, little_endian, valid_uid
from gantry_domain.value_representations import LONG_VRS, SHORT_VRS

VRS = sorted((SHORT_VRS | LONG_VRS) - {"SQ"})


def element(vr, raw, *, charset=b"ISO_IR 192", little=True):
    findings = []
    model = JsonModel(lambda rule, tag, detail: findings.append(rule))
    made = model.element(0x00100010, vr, raw, charset_of(charset), little=little)
    return made, findings


def value(vr, raw, **options):
    return element(vr, raw, **options)[0].get("Value")


@pytest.mark.parametrize("vr", VRS)
def test_empty(vr):
    assert element(vr, b"") == ({"vr": vr}, [])


@pytest.mark.parametrize("vr", ["LO", "PN", "CS", "DS", "IS", "UI", "LT", "DA"])
@pytest.mark.parametrize("raw", [b"  ", b"\0", b"\0\0"])
def test_padding_alone_is_no_value(vr, raw):
    assert element(vr, raw)[0] == {"vr": vr}


@pytest.mark.parametrize(
    ("vr", "raw", "expected"),
    [
        ("LO", b" head ", ["head"]),
        ("LO", b"a\\\\b ", ["a", None, "b"]),
        ("LO", b"\\", None),
        ("LT", b" a\\b ", [" a\\b"]),
        ("UT", b"a\\b\0", ["a\\b"]),
        ("UC", b"a\\b ", ["a", "b"]),
        ("UI", b"1.2.3\0", ["1.2.3"]),
        ("UI", b"1.2.3 ", ["1.2.3"]),
        ("DA", b"20240101", ["20240101"]),
        ("AE", b" CT01 ", ["CT01"]),
        ("IS", b" 12\\+3\\-4 ", [12, 3, -4]),
        ("IS", b"1.0 ", ["1.0"]),
        ("IS", b"1_0 ", ["1_0"]),
        ("IS", b"9" * 30, ["9" * 30]),
        ("DS", b"1.50\\-2E3 \\7", [1.5, -2000.0, 7]),
        ("DS", b"1,5 ", ["1,5"]),
        ("DS", b"1e999 ", ["1e999"]),
        ("DS", b"nan ", ["nan"]),
        ("DS", "１".encode(), ["１"]),
        ("US", b"\1\0\2\0", [1, 2]),
        ("SS", b"\xff\xff", [-1]),
        ("UL", b"\1\0\0\0", [1]),
        ("SL", b"\xff\xff\xff\xff", [-1]),
        ("FL", struct.pack("<f", 1.5), [1.5]),
        (
            "FD",
            struct.pack("<3d", float("nan"), float("inf"), -float("inf")),
            ["NaN", "inf", "-inf"],
        ),
        ("SV", struct.pack("<q", -(2**60)), [str(-(2**60))]),
        ("UV", struct.pack("<Q", 2**53), [2**53]),
        ("AT", b"\x18\0\x63\x10", ["00181063"]),
        ("PN", b"A^B=\xe7\x8e\x8b=", [{"Alphabetic": "A^B", "Ideographic": "王"}]),
        ("PN", b"==X", [{"Phonetic": "X"}]),
        ("PN", b"A\\=B", [{"Alphabetic": "A"}, {"Ideographic": "B"}]),
        ("PN", b"==", None),
        ("PN", b"A\\\\B ", [{"Alphabetic": "A"}, None, {"Alphabetic": "B"}]),
    ],
)
def test_values(vr, raw, expected):
    assert value(vr, raw) == expected


def test_big_endian():
    assert value("US", b"\1\2", little=False) == [0x0102]
    assert value("AT", b"\0\x18\x10\x63", little=False) == ["00181063"]
    made, _ = element("OW", b"\1\2\3\4", little=False)
    assert base64.b64decode(made["InlineBinary"]) == b"\2\1\4\3"
    made, _ = element("OB", b"\1\2\3\4", little=False)
    assert base64.b64decode(made["InlineBinary"]) == b"\1\2\3\4"


@pytest.mark.parametrize("vr", ["OB", "OW", "OF", "OD", "OL", "OV", "UN"])
def test_binary(vr):
    made, findings = element(vr, bytes(range(17)))
    assert made == {"vr": vr, "InlineBinary": base64.b64encode(bytes(range(17))).decode()}
    assert findings == []


@pytest.mark.parametrize(
    ("vr", "raw", "rule"),
    [
        ("LO", b"a\0b", "nul_in_text"),
        ("PN", b"a\0\0b^c", "nul_in_text"),
        ("UI", b"1.02", "uid_invalid"),
        ("UI", b"1..2", "uid_invalid"),
        ("UI", b"abc", "uid_invalid"),
        ("UI", b"1.2\\x", "uid_invalid"),
        ("US", b"\1\0\2", "length_invalid"),
        ("AT", b"\1\0\2", "length_invalid"),
        ("IS", b"x ", "number_invalid"),
        ("LO", b"\xff\x80", "undecodable_text"),
    ],
)
def test_findings(vr, raw, rule):
    made, findings = element(vr, raw)
    assert findings == [rule]
    assert b"\\u0000" not in orjson.dumps(made)


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25." + "9" * 59])
def test_valid_uid(uid):
    assert valid_uid(uid)


@pytest.mark.parametrize("uid", ["", "1", "1.", ".1", "1.02", "1.2a", "2.25." + "9" * 60, "1.２"])
def test_invalid_uid(uid):
    assert not valid_uid(uid)


@given(st.sampled_from(VRS), st.binary(max_size=60), st.booleans())
def test_any_bytes(vr, raw, little):
    made, _ = element(vr, raw, little=little)
    orjson.dumps(made)
    assert made["vr"] == vr
    assert len(made) <= 2
    values = made.get("Value")
    assert values is None or any(item is not None for item in values)


@given(st.sampled_from(["OW", "OF", "OD", "US", "AT", "OB"]), st.binary(max_size=64))
def test_order_of_bytes_is_its_own_inverse(vr, raw):
    assert little_endian(little_endian(raw, vr), vr) == raw
