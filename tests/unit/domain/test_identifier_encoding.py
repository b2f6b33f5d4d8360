"""Identifiers of responses: pydicom reads in each syntax what the documents of the search say."""

import base64
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filereader import read_dataset

from gantry_domain.attributes import ATTRIBUTES, Level
from gantry_domain.elements import ELEMENT, Walk
from gantry_domain.find_identifier import FindIdentifier, RequestedKey
from gantry_domain.identifier_encoding import IdentifierEncoder
from gantry_domain.sources import Window, fetch_from
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_domain.value_representations import vr_of

SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN: (True, True),
    EXPLICIT_VR_LITTLE_ENDIAN: (False, True),
    EXPLICIT_VR_BIG_ENDIAN: (False, False),
}
NAME, PATIENT_ID, ROWS = "00100010", "00100020", "00280010"


def asked(*tags: str, charset: str | None = None, items: dict[str, Any] | None = None):
    keys = [
        RequestedKey(int(tag, 16), vr_of(int(tag, 16)), items=(items or {}).get(tag))
        for tag in sorted(tags)
    ]
    return FindIdentifier(tuple(keys), charset)


def encode(
    identifier, document, syntax=EXPLICIT_VR_LITTLE_ENDIAN, *, charsets=(), level=Level.STUDY
):
    encoder = IdentifierEncoder(
        identifier,
        level=level,
        retrieve_ae="GANTRY",
        transfer_syntax=syntax,
        charsets=charsets,
    )
    return encoder.encode(document)


def read(encoded: bytes, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> Dataset:
    ds = read_dataset(BytesIO(encoded), *SYNTAXES[syntax])
    ds.decode()
    return ds


def check_structure(encoded: bytes, syntax: str) -> None:
    """Ascending, of even length, and nothing left over."""
    implicit, little = SYNTAXES[syntax]
    window = Window(fetch_from(encoded), first=encoded)
    walk = Walk(window, start=0, end=len(encoded), explicit=not implicit, little=little)
    events = list(walk)
    assert not walk.truncated
    assert walk.broken is None
    tags = [event[1] for event in events if event[0] == ELEMENT]
    assert all(length % 2 == 0 for kind, *_, length in events if kind == ELEMENT)
    if all(event[0] == ELEMENT for event in events):
        assert tags == sorted(set(tags))


text_value = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\\=^"),
    min_size=1,
    max_size=12,  # pydicom counts the padding
).filter(lambda t: t == t.strip() and t)
component_groups = st.dictionaries(
    st.sampled_from(["Alphabetic", "Ideographic", "Phonetic"]), text_value, min_size=1
)
VALUES: dict[str, st.SearchStrategy[list[Any]]] = {
    "PN": st.lists(component_groups, min_size=1, max_size=3),
    "IS": st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=3),
    "DS": st.lists(st.floats(-1e9, 1e9).map(lambda f: round(f, 3)), min_size=1, max_size=3),
    "US": st.lists(st.integers(0, 65535), min_size=1, max_size=3),
    "UI": st.lists(st.sampled_from(["1.2", "1.2.840.10008.1.1", "0.1"]), min_size=1, max_size=3),
    "DA": st.lists(st.sampled_from(["20200101", "19991231"]), min_size=1, max_size=1),
    "TM": st.lists(st.sampled_from(["1010", "101010.5", "235959"]), min_size=1, max_size=1),
    "CS": st.lists(st.sampled_from(["CT", "ORIGINAL", "A B"]), min_size=1, max_size=3),
    "AS": st.just(["042Y"]),
    "LT": st.lists(text_value, min_size=1, max_size=1),
    "ST": st.lists(text_value, min_size=1, max_size=1),
    "LO": st.lists(text_value, min_size=1, max_size=2),
    "SH": st.lists(text_value, min_size=1, max_size=2),
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    document = {}
    chosen = draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=12, unique=True))
    for attribute in chosen:
        if attribute.vr in VALUES:
            element: dict[str, Any] = {"vr": attribute.vr}
            if draw(st.booleans()):
                element["Value"] = draw(VALUES[attribute.vr])
            document[attribute.tag] = element
    return document


def expected(element: dict[str, Any]) -> list[Any]:
    """The values that pydicom should show."""
    values = element.get("Value", [])
    if element["vr"] == "PN":
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        return ["=".join(v.get(g, "") for g in groups).rstrip("=") for v in values]
    return values


def shown(ds: Dataset, tag: str) -> list[Any]:
    element = ds[int(tag, 16)]
    if element.VM == 0:
        return []
    values = list(element.value) if element.VM > 1 else [element.value]
    if element.VR == "PN":
        return [str(value) for value in values]
    if element.VR == "DS":
        return [float(value) for value in values]
    return values


@settings(max_examples=300)
@given(
    document=documents(),
    syntax=st.sampled_from(sorted(SYNTAXES)),
    charsets=st.lists(
        st.sampled_from(["ISO_IR 100", "GB18030", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", None]),
        max_size=2,
    ),
    named=st.booleans(),
)
def test_pydicom_reads_what_was_found(document, syntax, charsets, named) -> None:
    extra = "00081030"  # StudyDescription: asked for, perhaps not there
    identifier = asked(*{*document, extra}, charset="ISO_IR 100" if named else None)
    encoded = encode(identifier, document, syntax, charsets=charsets)
    check_structure(encoded, syntax)
    ds = read(encoded, syntax)
    fixed = {0x00080052, 0x00080054}
    charset = {0x00080005} & set(ds.keys())
    assert set(ds.keys()) - fixed - charset == {int(t, 16) for t in {*document, extra}}
    assert (ds.QueryRetrieveLevel, ds.RetrieveAETitle) == ("STUDY", "GANTRY")
    for tag, element in document.items():
        assert shown(ds, tag) == expected(element), tag
        if syntax != IMPLICIT_VR_LITTLE_ENDIAN:
            assert element["vr"] == ds[int(tag, 16)].VR
    ascii_only = all(str(v).isascii() for e in document.values() for v in expected(e))
    assert bool(charset) is (named or not ascii_only)


@pytest.mark.parametrize(
    ("charsets", "name", "chosen"),
    [
        ([], "王^小东", "ISO_IR 192"),
        (["GB18030"], "王^小东", "GB18030"),
        (["GB18030", "ISO_IR 100"], "Jérôme", "GB18030"),
        (["ISO_IR 100", "GB18030"], "王^小东", "GB18030"),
        (["ISO_IR 100"], "王^小东", "ISO_IR 192"),
        (["ISO_IR 100"], "Jérôme", "ISO_IR 100"),
        ([None, "\\ISO 2022 IR 87"], "山田^太郎", ["", "ISO 2022 IR 87"]),
        (["\\ISO 2022 IR 149"], "洪^吉洞", ["", "ISO 2022 IR 149"]),
        (["ISO-IR 100", "nonsense"], "Jérôme", "ISO_IR 192"),
    ],
)
def test_the_character_set_is_the_first_that_can_say_it(charsets, name, chosen) -> None:
    document = {NAME: {"vr": "PN", "Value": [{"Alphabetic": name}]}}
    ds = read(encode(asked(NAME), document, charsets=charsets))
    assert ds.SpecificCharacterSet == chosen
    assert ds.PatientName == name


def test_ascii_needs_no_character_set_unless_it_is_asked_for() -> None:
    document = {NAME: {"vr": "PN", "Value": [{"Alphabetic": "CHAN"}]}}
    assert "SpecificCharacterSet" not in read(encode(asked(NAME), document, charsets=["GBK"]))
    ds = read(encode(asked(NAME, charset=""), document, charsets=["GBK"]))
    assert ds.SpecificCharacterSet == "GBK"


def test_keys_that_nothing_is_known_of_are_empty() -> None:
    encoded = encode(asked(NAME, PATIENT_ID, ROWS, "00400275", "00091001", "0008002A"), {})
    ds = read(encoded)
    assert len(ds) == 8
    assert all(e.is_empty for e in ds if e.tag not in (0x00080052, 0x00080054))


def test_availability_and_level_are_told_of_the_archive() -> None:
    identifier = asked("00080052", "00080054", "00080056")
    ds = read(encode(identifier, {}, level=Level.INSTANCE))
    assert ds.QueryRetrieveLevel == "IMAGE"
    assert ds.RetrieveAETitle == "GANTRY"
    assert ds.InstanceAvailability == "ONLINE"


SEQUENCE = {
    "00400275": {
        "vr": "SQ",
        "Value": [
            {
                "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
                "00400007": {"vr": "LO", "Value": ["頭部"]},
                "00400009": {"vr": "SH", "Value": ["SPS1"]},
                "00400008": {
                    "vr": "SQ",
                    "Value": [{"00080100": {"vr": "SH", "Value": ["T-1"]}}],
                },
            },
            {"00400009": {"vr": "SH", "Value": ["SPS2"]}},
        ],
    }
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("items", [(), ((),)])
def test_a_sequence_without_keys_is_returned_whole(syntax, items) -> None:
    identifier = asked("00400275", items={"00400275": items})
    encoded = encode(identifier, SEQUENCE, syntax)
    check_structure(encoded, syntax)
    first, second = read(encoded, syntax).RequestAttributesSequence
    assert first.ScheduledProcedureStepDescription == "頭部"
    assert first.ScheduledProtocolCodeSequence[0].CodeValue == "T-1"
    assert second.ScheduledProcedureStepID == "SPS2"
    assert "SpecificCharacterSet" not in first


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_sequence_with_keys_has_these(syntax) -> None:
    items = ((RequestedKey(0x00400009, "SH"), RequestedKey(0x00401001, "SH")),)
    identifier = asked("00400275", items={"00400275": items})
    encoded = encode(identifier, SEQUENCE, syntax)
    for item, step in zip(
        read(encoded, syntax).RequestAttributesSequence, ["SPS1", "SPS2"], strict=True
    ):
        assert item.ScheduledProcedureStepID == step
        assert item.RequestedProcedureID == ""
        assert len(item) == 2
    empty = read(encode(identifier, {"00400275": {"vr": "SQ"}}, syntax), syntax)
    assert len(empty.RequestAttributesSequence) == 0


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_values_that_are_no_text(syntax) -> None:
    words = base64.b64encode(b"\x01\x00\x02\x00").decode()
    document = {
        "00091001": {"vr": "UN", "InlineBinary": base64.b64encode(b"abc").decode()},
        "00186011": {"vr": "SQ"},
        "00200052": {"vr": "UI", "Value": ["1.2.3"]},
        "00280009": {"vr": "AT", "Value": ["00181063", "00181065"]},
        "00280106": {"vr": "SS", "Value": [-5]},
        "00281201": {"vr": "OW", "InlineBinary": words},
        "00189073": {"vr": "FD", "Value": [0.25, "NaN"]},
        "00089459": {"vr": "FL", "Value": [1.5]},
        "00143012": {"vr": "UV", "Value": ["18446744073709551615"]},
        "00420011": {"vr": "OB", "BulkDataURI": "bulk/00420011"},
    }
    encoded = encode(asked(*document), document, syntax)
    check_structure(encoded, syntax)
    ds = read(encoded, syntax)
    assert ds[0x00091001].value == b"abc\0"
    assert ds.FrameOfReferenceUID == "1.2.3"
    assert ds[0x00280009].value == [0x00181063, 0x00181065]
    # The dictionary leaves this VR open, and pydicom decides it by what is not here.
    if syntax != IMPLICIT_VR_LITTLE_ENDIAN:
        assert ds[0x00280106].value == -5
        assert ds[0x00281201].value == (b"\1\0\2\0" if SYNTAXES[syntax][1] else b"\0\1\0\2")
    assert ds[0x00189073].value[0] == 0.25
    assert ds[0x00189073].value[1] != ds[0x00189073].value[1]
    assert ds[0x00089459].value == 1.5
    assert ds[0x00420011].is_empty


def test_a_value_too_long_for_its_vr_is_sent_as_unknown() -> None:
    """PS3.5 6.2.2, Note 2."""
    long = "x" * 70_001
    document = {"00104000": {"vr": "LT", "Value": [long]}}
    ds = read(encode(asked("00104000"), document))
    assert len(ds) == 3
    assert ds[0x00104000].VR == "UN"
    assert ds.PatientComments.rstrip() == long.encode()


def test_long_decimals_fit() -> None:
    document = {"00101030": {"vr": "DS", "Value": [1 / 3, -1.2345678901234567e-100]}}
    ds = read(encode(asked("00101030"), document))
    assert [str(v) for v in ds.PatientWeight] == ["0.333333333", "-1.23456789e-100"]
