"""Corrections of headers and of data sets: the same, in every encoding and character set."""

import io
import zlib
from uuid import UUID

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gantry_domain.corrected_data_set import corrected_pieces
from gantry_domain.corrections import BadCorrection, Correction, checked, corrected, in_order
from gantry_domain.elements import walk_dataset
from gantry_domain.keys import new_object_id
from gantry_domain.series_moves import SeriesMove, changes_of, path_of, values_of_study
from gantry_domain.sources import Inflated, fetch_from
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_testkit.encoding import explicit, item, read, stored
from gantry_testkit.stored import encoded, image

NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
PIXELS = bytes(range(256)) * 2


def correction(**attributes: str) -> Correction:
    return Correction(new_object_id(), checked(attributes))


def after(data: bytes, *corrections: Correction, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    """The file after corrections, put together from its pieces."""
    start = read(data).dataset_offset
    fetch = fetch_from(data)
    pieces = corrected_pieces(
        lambda: walk_dataset(fetch, size=len(data), dataset_offset=start, transfer_syntax=syntax),
        corrections,
        start=0 if syntax in DEFLATED else start,
    )
    source = data
    if syntax in DEFLATED:
        source = Inflated(fetch, dataset_offset=start)(0, 1 << 20)
    whole = b"".join(
        piece if isinstance(piece, bytes) else source[piece[0] : piece[1]] for piece in pieces
    )
    if syntax in DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        whole = packer.compress(whole) + packer.flush()
    return data[:start] + whole


def file(ds: Dataset, syntax: str = EXPLICIT_VR_LITTLE_ENDIAN) -> bytes:
    content = encoded(ds, EXPLICIT_VR_LITTLE_ENDIAN if syntax in DEFLATED else syntax)
    if syntax in DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        content = packer.compress(content) + packer.flush()
    return stored(content, syntax)


def ct(**values: object) -> Dataset:
    ds = image(SpecificCharacterSet="ISO_IR 100", PatientName="CHAN^TAI MAN", **values)
    request = Dataset()
    request.RequestedProcedureDescription = "Thorax"
    ds.RequestAttributesSequence = [request]
    ds.PixelData = PIXELS
    return ds


SYNTAXES = (*NATIVE, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
TEXTS = ("CHAN^TAI MAN", "CHAN^TAI MAN=陳^大文", "Müller^Jörg", "")


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("charset", [None, "ISO_IR 100", "ISO_IR 192", "GB18030"])
def test_the_header_of_what_goes_out_is_the_corrected_header(
    syntax: str, text: str, charset: str | None
) -> None:
    ds = ct(StudyDescription="Thorax" if charset is None else "Schädel")
    ds.RequestAttributesSequence[0].RequestedProcedureDescription = ds.StudyDescription
    if charset is None:
        del ds.SpecificCharacterSet
    else:
        ds.SpecificCharacterSet = charset
    data = file(ds, syntax)
    first = correction(PatientName=text, PatientBirthDate="19700102", AccessionNumber="")
    second = correction(PatientName="LEE^SIU MING", StudyID="7")
    for steps in ((first,), (first, second)):
        sent = after(data, *steps, syntax=syntax)
        assert read(sent).attributes == corrected(read(data).attributes, steps)
        got = pydicom.dcmread(io.BytesIO(sent))
        assert got.PixelData == PIXELS
        assert got.PatientBirthDate == "19700102"
        assert len(got.OriginalAttributesSequence) == len(steps)
        before = got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
        if text != "CHAN^TAI MAN":
            assert before.PatientName == "CHAN^TAI MAN"
        assert before.AccessionNumber == "A1"
        assert list(got.keys()) == sorted(got.keys())


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192"])
@pytest.mark.parametrize("undefined", [False, True])
def test_a_moved_object_is_of_its_new_study_alone(
    syntax: str, charset: str, undefined: bool
) -> None:
    ds = ct(StudyDescription="Schädel", PatientComments="left out", OtherPatientIDs=["X1", "X2"])
    ds.SpecificCharacterSet = charset
    ds.RequestAttributesSequence[0].RequestedProcedureDescription = "Schädel"
    ds["RequestAttributesSequence"].is_undefined_length = undefined
    data = file(ds, syntax)
    whose = image(StudyInstanceUID="1.2.9", PatientName="LEE=李", PatientID="P9")
    there = read(file(whose)).attributes
    move = Correction(new_object_id(), values_of_study(there, "1.2.9"))
    later = correction(PatientID="P10")
    sent = after(data, move, later, syntax=syntax)
    assert read(sent).attributes == corrected(read(data).attributes, (move, later))
    got = pydicom.dcmread(io.BytesIO(sent))
    assert (got.StudyInstanceUID, got.PatientID) == ("1.2.9", "P10")
    assert (got.PatientComments, got.StudyDescription) == ("", "")
    assert "RequestAttributesSequence" not in got
    assert got.PixelData == PIXELS
    before = got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert before.StudyInstanceUID == ds.StudyInstanceUID
    assert before.OtherPatientIDs == ["X1", "X2"]
    request = before.RequestAttributesSequence[0]
    assert request.RequestedProcedureDescription == "Schädel"


def test_where_an_object_is_follows_from_the_moves_that_stand() -> None:
    def move(number: int, moved_from: str, moved_to: str, *series: str) -> SeriesMove:
        return SeriesMove(
            id=UUID(int=number),
            moved_from=moved_from,
            moved_to=moved_to,
            series=frozenset(series),
            attributes={},
        )

    out, on, back = move(1, "A", "B", "1", "2"), move(2, "B", "C", "1"), move(3, "C", "A", "1")
    again = move(4, "A", "D", "1")
    every = [again, back, on, out]
    assert path_of("A", "1", every) == (out, on, back, again)
    assert path_of("A", "2", every) == (out,)
    assert path_of("A", "3", every) == ()
    # What was in B from the first goes on with it, what was in C too.
    assert path_of("B", "1", every) == (on, back, again)
    assert path_of("B", "1", [out, back]) == ()
    since = Correction(UUID(int=9), {})
    assert changes_of([out.correction], [Correction(UUID(int=0), {}), since]) == [
        out.correction,
        since,
    ]


names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\\^="), max_size=9)
charsets = st.sampled_from(
    ["", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13", "\\ISO 2022 IR 87", "ISO_IR 144"]
)


@given(names, names, charsets, st.sampled_from(NATIVE), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_the_characters(
    one: str, other: str, charset: str, syntax: str, group_lengths: bool
) -> None:
    ds = ct()
    ds.SpecificCharacterSet = charset.split("\\")
    data = file(ds, syntax)
    if group_lengths and syntax == EXPLICIT_VR_LITTLE_ENDIAN:
        start = read(data).dataset_offset
        length = explicit(0x00080000, "UL", (999).to_bytes(4, "little"))
        data = data[:start] + length + data[start:]
    steps = (correction(PatientName=one, StudyDescription=other), correction(PatientName=other))
    sent = after(data, *steps, syntax=syntax)
    assert read(sent).attributes == corrected(read(data).attributes, steps)
    assert sent.endswith(PIXELS)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("text", ["WONG", "黃"])
def test_originals_of_others_stay_and_ours_come_after_them(undefined: bool, text: str) -> None:
    theirs = item(explicit(0x04000563, "LO", "Müller".encode("latin-1")))
    end = bytes.fromhex("feffdde000000000") if undefined else b""
    length = 0xFFFFFFFF if undefined else len(theirs)
    dataset = (
        explicit(0x00080005, "CS", b"ISO_IR 100")
        + explicit(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0")
        + explicit(0x00080018, "UI", b"1.2.3\0")
        + explicit(0x00100010, "PN", b"LEE ")
        + explicit(0x00100010, "PN", b"TWICE ")
        + explicit(0x0020000D, "UI", b"1.2.4\0")
        + explicit(0x0020000E, "UI", b"1.2.5\0")
        + explicit(0x04000561, "SQ", theirs + end, length)
        + explicit(0x7FE00010, "OW", PIXELS)
    )
    data = stored(dataset)
    step = correction(PatientName=text)
    sent = after(data, step)
    attributes = read(sent).attributes
    assert attributes == corrected(read(data).attributes, [step])
    items = attributes["04000561"]["Value"]
    assert [each["04000563"]["Value"] for each in items] == [["Müller"], ["Gantry"]]
    assert b"TWICE" not in sent


def test_what_is_as_it_should_be_stays_as_it_is_byte_for_byte() -> None:
    data = file(ct())
    assert after(data, correction(PatientName="CHAN^TAI MAN", AccessionNumber="A1")) == data
    assert after(data) == data


def test_large_values_are_passed_by_and_never_copied() -> None:
    ds = ct()
    ds.add_new(0x00090010, "LO", "MAKER")
    ds.add_new(0x00091001, "OB", bytes(300_000))
    data = file(ds)
    start = read(data).dataset_offset
    pieces = corrected_pieces(
        lambda: walk_dataset(
            fetch_from(data),
            size=len(data),
            dataset_offset=start,
            transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN,
        ),
        [correction(PatientID="P2", StudyID="4")],
        start=start,
    )
    assert sum(len(piece) for piece in pieces if isinstance(piece, bytes)) < 1000


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, "at least one"),
        ({"Modality": "MR"}, "nothing else"),
        ({"PatientBirthDate": "19701301"}, "PatientBirthDate is no date"),
        ({"PatientBirthDate": "1970.01.02"}, "is no date"),
        ({"StudyTime": "99:00"}, "is no time"),
        ({"PatientSex": "male"}, "M, F, O"),
        ({"PatientID": "a\\b"}, "character"),
        ({"PatientName": "a\nb"}, "character"),
        ({"AccessionNumber": "x" * 17}, "too long"),
        ({"PatientName": "a=b=c=d"}, "too long"),
        ({"PatientName": "a^b^c^d^e^f"}, "five components"),
    ],
)
def test_what_cannot_be_a_value_is_refused_without_being_quoted(
    attributes: dict[str, str], why: str
) -> None:
    with pytest.raises(BadCorrection, match=why) as refused:
        checked(attributes)
    assert not any(text and text in str(refused.value) for text in attributes.values())


def test_corrections_apply_in_the_order_of_their_decisions() -> None:
    first = Correction(UUID("01900000-0000-7000-8000-000000000001"), {"PatientID": "1"})
    second = Correction(UUID("01900000-0000-7000-8000-000000000002"), {"PatientID": "2"})
    header = corrected({"00100020": {"vr": "LO", "Value": ["0"]}}, in_order([second, first]))
    assert header["00100020"]["Value"] == ["2"]
    told = [
        each["04000550"]["Value"][0]["00100020"]["Value"] for each in header["04000561"]["Value"]
    ]
    assert told == [["0"], ["1"]]
