"""Identifiers of requests: read as pydicom writes them, in each syntax and character set."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag

from gantry_domain.attributes import Level
from gantry_domain.find_identifier import MOST_KEYS, read_find_identifier
from gantry_domain.find_question import FindQuestion, find_question
from gantry_domain.information_models import STUDY_ROOT
from gantry_domain.query import BadQuery, OneOf, PageRequest, Range
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

SYNTAXES = {
    IMPLICIT_VR_LITTLE_ENDIAN: (True, True),
    EXPLICIT_VR_LITTLE_ENDIAN: (False, True),
    EXPLICIT_VR_BIG_ENDIAN: (False, False),
}


def encode(ds: Dataset, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = SYNTAXES[transfer_syntax]
    write_dataset(buffer, ds)
    return buffer.getvalue()


def element(group: int, number: int, value: bytes) -> bytes:
    """An element in Implicit VR Little Endian, as it would never come from pydicom."""
    numbers = group.to_bytes(2, "little") + number.to_bytes(2, "little")
    return numbers + len(value).to_bytes(4, "little") + value


def identifier(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def question(ds: Dataset, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> FindQuestion:
    read = read_find_identifier(encode(ds, transfer_syntax), transfer_syntax=transfer_syntax)
    return find_question(read, model=STUDY_ROOT, page=PageRequest(limit=10))


def texts(ds: Dataset, transfer_syntax: str) -> dict[int, str]:
    read = read_find_identifier(encode(ds, transfer_syntax), transfer_syntax=transfer_syntax)
    return {key.tag: key.text for key in read.keys}


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_keys_of_every_kind(syntax: str) -> None:
    ds = identifier(
        QueryRetrieveLevel="IMAGE",
        PatientName="CHAN*^TAI?",
        StudyInstanceUID=["1.2.3", "1.2.4"],
        SeriesInstanceUID="1.2.3.4",
        StudyDate="20200101-20201231",
        InstanceNumber="7",
        Rows=512,
        SOPInstanceUID="",
    )
    assert texts(ds, syntax) == {
        0x00080018: "",
        0x00080020: "20200101-20201231",
        0x00080052: "IMAGE",
        0x00100010: "CHAN*^TAI?",
        0x0020000D: "1.2.3\\1.2.4",
        0x0020000E: "1.2.3.4",
        0x00200013: "7",
        0x00280010: "512",
    }


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sequences_and_what_is_not_a_key(syntax: str) -> None:
    item = identifier(ScheduledProcedureStepID="", RequestedProcedureID="RP*")
    ds = identifier(
        QueryRetrieveLevel="SERIES",
        SpecificCharacterSet="ISO_IR 100",
        RequestAttributesSequence=Sequence([item]),
        TimezoneOffsetFromUTC="+0800",
    )
    ds.add_new(0x00080000, "UL", 100)
    ds.add_new(0x00091001, "UN", b"anything")
    read = read_find_identifier(encode(ds, syntax), transfer_syntax=syntax)
    assert read.charset == "ISO_IR 100"
    assert [key.tag for key in read.keys] == [0x00080052, 0x00091001, 0x00400275]
    private, sequence = read.keys[1:]
    assert private.opaque
    assert not private.universal
    assert sequence.items is not None
    assert [(key.tag, key.text) for key in sequence.items[0]] == [
        (0x00400009, ""),
        (0x00401001, "RP*"),
    ]
    assert not sequence.universal


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("terms", "name"),
    [
        ("GB18030", "王^小东"),
        ("ISO_IR 192", "王^小東*"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO_IR 100", "Buc^Jérôme"),
    ],
)
def test_names_in_the_set_of_the_request(syntax: str, terms: object, name: str) -> None:
    ds = identifier(SpecificCharacterSet=terms, PatientName=name)
    assert texts(ds, syntax) == {0x00100010: name}


def test_a_request_without_a_set_is_read_with_that_of_the_partner() -> None:
    raw = "王^小东".encode("gb18030")
    encoded = element(0x0010, 0x0010, raw + b" ")
    read = read_find_identifier(
        encoded, transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN, default_charset="GB18030"
    )
    assert read.keys[0].text == "王^小东"


def test_unpadded_and_nul_padded_uids() -> None:
    uid = b"1.2.3\0\\1.2.4\0"
    encoded = element(0x0020, 0x000D, uid)
    read = read_find_identifier(encoded, transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)
    assert read.keys[0].text == "1.2.3\\1.2.4"


@given(st.binary(max_size=300), st.sampled_from(sorted(SYNTAXES)))
def test_whatever_comes_is_read_or_refused_by_name(encoded: bytes, syntax: str) -> None:
    with suppress(BadQuery):
        read = read_find_identifier(encoded, transfer_syntax=syntax)
        find_question(read, model=STUDY_ROOT, page=PageRequest(limit=10))


def test_too_many_keys() -> None:
    ds = Dataset()
    for n in range(MOST_KEYS + 1):
        ds.add_new(0x60010000 + 0x1000 + n, "LO", "")
    with pytest.raises(BadQuery, match="more than 1000 keys"):
        read_find_identifier(encode(ds), transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)


def test_an_identifier_that_is_cut() -> None:
    encoded = encode(identifier(PatientName="CHAN^TAI MAN", QueryRetrieveLevel="STUDY"))
    with pytest.raises(BadQuery, match="transfer syntax"):
        read_find_identifier(encoded[:-3], transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)


def test_a_question_for_studies() -> None:
    asked = question(
        identifier(
            QueryRetrieveLevel="STUDY",
            StudyDate="20200101-",
            PatientID="P1",
            PatientName="*",
            ModalitiesInStudy="",
            RetrieveAETitle="",
            InstanceAvailability="",
        )
    )
    assert asked.complete
    assert asked.query.level is Level.STUDY
    tests = {key.attribute.keyword: key.test for key in asked.query.keys}
    assert tests == {"StudyDate": Range("20200101", None), "PatientID": OneOf(("P1",))}
    assert asked.query.include == {"00080020", "00080061", "00100010", "00100020"}


@pytest.mark.parametrize(
    ("values", "keyword"),
    [
        ({}, "QueryRetrieveLevel"),
        ({"QueryRetrieveLevel": ""}, "QueryRetrieveLevel"),
        ({"QueryRetrieveLevel": "PATIENT"}, "QueryRetrieveLevel"),
        ({"QueryRetrieveLevel": "NONSENSE"}, "QueryRetrieveLevel"),
        ({"QueryRetrieveLevel": "SERIES"}, "StudyInstanceUID"),
        ({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": ""}, "StudyInstanceUID"),
        ({"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2"}, "SeriesInstanceUID"),
        ({"QueryRetrieveLevel": "IMAGE", "SeriesInstanceUID": "1.2"}, "StudyInstanceUID"),
    ],
)
def test_what_is_refused_is_refused_by_name(values: dict[str, str], keyword: str) -> None:
    with pytest.raises(BadQuery) as caught:
        question(identifier(**values))
    assert caught.value.parameter == keyword
    assert len(str(caught.value)) <= 64, "it has to fit into the Error Comment"


def ask(*elements: bytes) -> FindQuestion:
    read = read_find_identifier(b"".join(elements), transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)
    return find_question(read, model=STUDY_ROOT, page=PageRequest(limit=10))


@pytest.mark.parametrize(
    ("broken", "keyword"),
    [
        (element(0x0008, 0x0020, b"monday"), "StudyDate"),
        (element(0x0008, 0x0030, b"25h "), "StudyTime"),
        (element(0x0020, 0x000D, b"1.2.*"), "StudyInstanceUID"),
        (element(0x0020, 0x000D, b"1" * 66), "StudyInstanceUID"),
        (element(0x0010, 0x0020, b"a\0b "), "PatientID"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(broken: bytes, keyword: str) -> None:
    with pytest.raises(BadQuery) as caught:
        ask(element(0x0008, 0x0052, b"STUDY "), broken)
    assert caught.value.parameter == keyword


@pytest.mark.parametrize("name", [b"study ", b"STUDY", b"Study\0", b" STUDY "])
def test_the_level_is_understood_as_devices_write_it(name: bytes) -> None:
    assert ask(element(0x0008, 0x0052, name)).query.level is Level.STUDY


@pytest.mark.parametrize(
    ("values", "complete"),
    [
        ({"PatientComments": "", "SliceThickness": ""}, True),
        ({"PatientComments": "x"}, False),  # returned, but not matched
        ({"SliceThickness": "1"}, False),  # not in the index
        ({"Modality": ""}, False),  # of a lower level
        ({"NumberOfStudyRelatedInstances": "3"}, False),
    ],
)
def test_keys_that_are_not_supported_are_told(values: dict[str, str], complete: bool) -> None:
    asked = question(identifier(QueryRetrieveLevel="STUDY", **values))
    assert asked.complete is complete
    assert not asked.query.keys
    tags = {f"{Tag(keyword):08X}" for keyword in values}
    assert asked.query.include == tags


def test_keys_of_higher_levels_are_matched_and_returned() -> None:
    asked = question(
        identifier(
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID="1.2",
            SeriesInstanceUID="1.2.3",
            PatientID="P1",
            StudyDate="",
        )
    )
    assert asked.complete
    assert {key.attribute.keyword for key in asked.query.keys} == {
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientID",
    }
