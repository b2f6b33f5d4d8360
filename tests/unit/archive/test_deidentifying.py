"""De-identification over every sample: nothing of the original is left, and all fits together."""

import re
import shutil
import subprocess
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit

from gantry_archive.profile_table import profile_actions
from gantry_domain.deidentification.profile import Profile
from gantry_domain.deidentification.pseudonyms import Pseudonyms
from gantry_domain.deidentification.subject import Withheld, read_subject
from gantry_domain.dictionary import UIDS
from gantry_domain.edited_data_set import Encoded, edited
from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta, parse_file_meta
from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_domain.sources import fetch_from
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from gantry_testkit.stored import file_of, image, new_uid

PSEUDONYMS = Pseudonyms(b"a key that nobody else has, of 32 characters or more")
PROFILE = Profile(actions=profile_actions(), pseudonyms=PSEUDONYMS)
SAMPLES = Path(__file__).parents[4] / "shared" / "data" / "dicom" / "files"
WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"

# Attributes whose every value says whose it is, or where it was made.
IDENTIFYING = frozenset(
    """
    AccessionNumber PatientID OtherPatientIDs PatientAddress PatientTelephoneNumbers StudyID
    InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber
    PatientComments AdmissionID RequestedProcedureID ScheduledProcedureStepID IssuerOfPatientID
    PerformedProcedureStepID MedicalRecordLocator ImageComments RequestAttributesSequence
    """.split()
)
IDENTIFYING_VRS = frozenset(("PN", "DA", "UI", "AE"))
TEXTS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
# What every object says after it.
OURS = frozenset((b"REMOVED", b"Modified", b"Basic", b"Profile", b"Dates", b"BASIC"))


class Sent(NamedTuple):
    """A sample, and the file that would be sent."""

    path: Path
    syntax: str
    original: Dataset
    made: bytes
    after: Dataset


def read(content: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(content), force=True)


def encoded(content: bytes) -> Encoded:
    parsed = parse_file_meta(content)
    syntax = parsed.meta.TransferSyntaxUID
    return Encoded(fetch_from(content), len(content), parsed.dataset_offset, syntax)


def deidentified(content: bytes) -> bytes | Withheld:
    """The file as it would be sent. Raises `UnreadableObject`."""
    source = encoded(content)
    subject = read_subject(source)
    withheld = subject.withheld()
    if withheld is not None:
        return withheld
    known = TRANSFER_SYNTAXES.get(source.transfer_syntax)
    as_it_is = known is not None and known.encapsulated
    meta = FileMeta(
        MediaStorageSOPClassUID=subject.SOPClassUID,
        MediaStorageSOPInstanceUID=PSEUDONYMS.uid(subject.SOPInstanceUID),
        TransferSyntaxUID=source.transfer_syntax if as_it_is else EXPLICIT_VR_LITTLE_ENDIAN,
        calling_ae="",
        receiving_ae="",
        partition="",
    )
    return encode_file_meta(meta) + b"".join(edited(source, PROFILE.editor(subject)))


class Made(NamedTuple):
    """What became of the samples."""

    sent: list[Sent]
    withheld: Counter[Withheld]
    others: int


@pytest.fixture(scope="module")
def made() -> Made:
    sent: list[Sent] = []
    withheld: Counter[Withheld] = Counter()
    others = 0
    for path in sorted((SAMPLES if SAMPLES.is_dir() else WHEEL).rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        try:
            result = deidentified(content)
        except UnreadableObject:
            others += 1
            continue
        if isinstance(result, Withheld):
            withheld[result] += 1
            continue
        original = read_wholly(content)
        if original is None or "StudyInstanceUID" not in original:
            others += 1  # pydicom reads less of a broken file than we do, and cannot be a judge
            continue
        after = read_wholly(result)
        assert after is not None, path
        syntax = str(parse_file_meta(content).meta.TransferSyntaxUID)
        sent.append(Sent(path, syntax, original, result, after))
    return Made(sent, withheld, others)


def read_wholly(content: bytes) -> Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = read(content)
            ds.walk(lambda _ds, _element: None)
        except Exception:  # noqa: BLE001 - whatever it raises, it cannot read it
            return None
    return ds


def elements(ds: Dataset) -> Iterator[DataElement]:
    """All of them, at any depth."""
    for element in ds:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def values(element: DataElement) -> Iterator[str]:
    value = element.value
    for each in value if element.VM > 1 else [value]:
        text = "" if each is None else str(each).strip("\0 ")
        if text:
            yield text


def identifiers(ds: Dataset) -> set[bytes]:
    """What of a data set must not be found again, as it may be written.

    Vendors repeat in private elements and free text what the object says of itself in public ones
    that are no secret: such a repetition is none either.
    """
    found: set[str] = set()
    repeated: set[str] = set()
    plain: list[str] = []
    for element in elements(ds):
        if element.VR in ("SQ", "OB", "OW", "UN"):
            continue
        if element.tag.is_private or element.VR in ("LT", "ST", "UT"):
            repeated.update(values(element) if element.VR in TEXTS else ())
        elif element.VR in IDENTIFYING_VRS or element.keyword in IDENTIFYING:
            for text in values(element):
                if element.VR == "UI" and (text in UIDS or text in STORAGE_CLASSES):
                    continue
                found.add(text)
                if element.VR == "PN":
                    found.update(re.split(r"[\^= ,]+", text))
        else:
            plain += values(element)
    harmless = "\n".join(plain)
    found |= {text for text in repeated if len(text) >= 8 and text not in harmless}
    long = {text for text in found if len(text) >= 5 and text.strip("0")}
    return {each.encode(code, "ignore") for each in long for code in ("utf-8", "latin-1")}


def without_pixels(ds: Dataset, content: bytes) -> bytes:
    """The file up to its pixels, which may hold any bytes by chance."""
    return content if "PixelData" not in ds else content.replace(ds.PixelData, b"")


def test_nothing_of_the_original_is_left_in_any_byte(made: Made) -> None:
    left: dict[str, set[bytes]] = {}
    for each in made.sent:
        content = without_pixels(each.after, each.made)
        remaining = {text for text in identifiers(each.original) - OURS if text in content}
        if remaining:
            left[each.path.name] = remaining
        assert not any(element.tag.is_private for element in elements(each.after))
    assert left == {}
    assert len(made.sent) > 20
    syntaxes = {each.syntax for each in made.sent}
    assert {"1.2.840.10008.1.2", "1.2.840.10008.1.2.2"} <= syntaxes
    assert any(TRANSFER_SYNTAXES[syntax].encapsulated for syntax in syntaxes)
    assert {Withheld.BURNED_IN, Withheld.CONTENT} <= made.withheld.keys()
    print(f"{len(made.sent)} sent, {made.withheld}, {made.others} not read")
    if not SAMPLES.is_dir():
        pytest.skip("../shared/data/dicom is absent: the files of the pydicom wheel stand in")


def test_it_says_how_it_came_to_that_and_the_pixels_are_the_same(made: Made) -> None:
    for each in made.sent:
        after = each.after
        assert after.PatientIdentityRemoved == "YES"
        assert after.LongitudinalTemporalInformationModified == "MODIFIED"
        assert after.DeidentificationMethod
        codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113107"]
        assert after.get("Rows") == each.original.get("Rows")
        if each.syntax == EXPLICIT_VR_LITTLE_ENDIAN and "PixelData" in each.original:
            pixels = each.original.PixelData
            assert after.PixelData == pixels + b"\0" * (len(pixels) % 2), each.path


def test_uids_and_dates_fit_together_over_all_samples(made: Made) -> None:
    for each in made.sent:
        uids = {PSEUDONYMS.uid(uid) for uid in uids_of(each.original)}
        assert uids_of(each.after) <= uids | UIDS.keys() | STORAGE_CLASSES.keys(), each.path
        assert each.after.StudyInstanceUID == PSEUDONYMS.uid(str(each.original.StudyInstanceUID))
        moved = {
            day_of(each.after.get(element.keyword)) - day
            for element in each.original
            if element.VR == "DA" and element.keyword != "PatientBirthDate" and element.VM == 1
            if (day := day_of(element.value)) and day_of(each.after.get(element.keyword))
        }
        assert len(moved) <= 1, each.path
        assert all(-3650 <= delta.days < 0 for delta in moved)
    by_patient: dict[str, set[str]] = {}
    for each in made.sent:
        identity = str(each.original.get("PatientID") or "").strip()
        if identity:
            by_patient.setdefault(identity, set()).add(str(each.after.PatientID))
    assert all(len(pseudonyms) == 1 for pseudonyms in by_patient.values())
    assert len({str(each.after.PatientID) for each in made.sent}) > 5


def uids_of(ds: Dataset) -> set[str]:
    return {text for each in elements(ds) if each.VR == "UI" for text in values(each)}


def day_of(value: object) -> date | None:
    digits = str(value or "").replace(".", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def test_dciodvfy_finds_no_new_error_in_any_encoding(made: Made, tmp_path: Path) -> None:
    assert new_errors({each.syntax: each for each in made.sent}.values(), tmp_path) == {}


@pytest.mark.long
def test_dciodvfy_finds_no_new_error(made: Made, tmp_path: Path) -> None:
    assert new_errors(made.sent, tmp_path) == {}


def new_errors(sent: Iterable[Sent], tmp_path: Path) -> dict[str, set[str]]:
    """What it says of elements of which it had nothing to say in the original, by file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (package dicom3tools)")
    new: dict[str, set[str]] = {}
    file = tmp_path / "made.dcm"
    for each in sent:
        if "truncated" in each.path.name:
            continue  # all errors are of what is missing
        before = errors_of(each.path)
        file.write_bytes(each.made)
        wrong = {element for element, _ in before}
        found = {error for element, error in errors_of(file) if element not in wrong}
        if found:
            new[each.path.name] = found
    return new


def errors_of(file: Path) -> set[tuple[str, str]]:
    """The elements that it complains of, and what it says."""
    done = subprocess.run(
        ["dciodvfy", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (line for line in done.stderr.splitlines() if line.startswith("Error"))
    return {((re.findall(r"Element=<(\w+)>", line) or [_said(line)])[0], line) for line in lines}


def _said(line: str) -> str:
    return re.sub(r"<[^>]*>", "", line)  # without its values


def test_text_in_which_somebody_is_named_and_codes_that_are_none_are_emptied() -> None:
    ds = image(
        PatientID="HK-A123456",
        PatientName="CHAN^TAI MAN",
        StudyID="77123",
        InstitutionName="GENERAL HOSPITAL",
        BodyPartExamined="CHEST",
        ContrastBolusRoute="IV",
        AcquisitionContrast="for Mr Chan",
        SoftwareVersions="of HK-A123456, 2",
        ManufacturerModelName="SCANNER 3 CHAN",
        Manufacturer="CHANDLER",
        KVP="120",
        PatientWeight="60",
        SeriesNumber="77123",
        ConvolutionKernel="B30 77123",
    )
    ds.add_new((0x0019, 0x0010), "LO", "ACME")
    ds.add_new((0x0019, 0x1001), "LO", "CHAN")
    ds.add_new((0x6000, 0x3000), "OW", b"CHAN")
    ds.add_new((0x0008, 0xFFF0), "LO", "no such attribute")
    ds.add_new((0xFFFC, 0xFFFC), "OB", b"CHAN TAI MAN")
    after = made_of(ds)
    assert (after.BodyPartExamined, after.Manufacturer, after.KVP) == ("CHEST", "CHANDLER", 120)
    assert not after.AcquisitionContrast
    assert after.SeriesNumber is None
    assert after.SoftwareVersions == after.ManufacturerModelName == "REMOVED"
    assert after.ConvolutionKernel == "REMOVED"
    gone = [(0x0019, 0x0010), (0x0019, 0x1001), (0x6000, 0x3000), (0x0008, 0xFFF0)]
    assert not any(tag in after for tag in [*gone, (0xFFFC, 0xFFFC)])


def made_of(ds: Dataset) -> Dataset:
    result = deidentified(file_of(ds))
    assert isinstance(result, bytes), result
    return read(result)


def test_sequences_keep_what_is_harmless_and_their_uids_fit() -> None:
    other = new_uid()
    reference, request, original = Dataset(), Dataset(), Dataset()
    reference.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    reference.ReferencedSOPInstanceUID = other
    request.RequestedProcedureID = "R1"
    original.ModifiedAttributesSequence = [request]
    ds = image(
        ReferencedImageSequence=[reference],
        RequestAttributesSequence=[request],
        OriginalAttributesSequence=[original],
    )
    after = made_of(ds)
    (item,) = after.ReferencedImageSequence
    assert item.ReferencedSOPClassUID == reference.ReferencedSOPClassUID
    assert item.ReferencedSOPInstanceUID == PSEUDONYMS.uid(other)
    assert "RequestAttributesSequence" not in after
    assert "OriginalAttributesSequence" not in after


@pytest.mark.parametrize(
    ("values", "withheld"),
    [
        ({"BurnedInAnnotation": "YES"}, Withheld.BURNED_IN),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, Withheld.BURNED_IN),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BurnedInAnnotation": "NO"}, None),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, Withheld.BURNED_IN),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, Withheld.BURNED_IN),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, Withheld.CONTENT),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, Withheld.CONTENT),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, Withheld.CONTENT),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66"}, Withheld.CONTENT),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, None),
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1"}, Withheld.UNKNOWN),
        ({"SOPClassUID": "1.2.3"}, Withheld.UNKNOWN),
        ({"StudyInstanceUID": ""}, Withheld.NO_IDENTITY),
        ({}, None),
    ],
)
def test_what_is_withheld(values: dict[str, object], withheld: Withheld | None) -> None:
    assert read_subject(encoded(file_of(image(**values)))).withheld() is withheld


def test_a_deflated_one_is_cleaned_too() -> None:
    ds = image(PatientID="HK-A123456", PatientName="CHAN^TAI MAN")
    plain = file_of(ds)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated = file_of(ds)
    assert encoded(deflated).transfer_syntax == DeflatedExplicitVRLittleEndian
    assert deidentified(deflated) == deidentified(plain)


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2) + payload


def test_what_a_camera_wrote_into_its_frames_is_blanked() -> None:
    needed = segment(0xE0, b"JFIF\0") + segment(0xE2, b"ICC_PROFILE") + segment(0xEE, b"Adobe")
    frame = (
        b"\xff\xd8"
        + segment(0xE1, b"Exif\0\0CHAN TAI MAN")
        + needed
        + segment(0xFE, b"taken of CHAN")
        + segment(0xDA, b"\1")
        + b"entropy \xff\xfe CHAN"
    )
    ds = image(PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    content = made_of(ds).PixelData
    assert len(content) == len(ds.PixelData)
    assert b"Exif" not in content
    assert b"taken" not in content
    assert needed in content
    assert content.count(b"CHAN") == 1  # by chance, among the coefficients
    assert content.endswith(b"\xff\xda\0\3\1entropy \xff\xfe CHAN")


def test_memory_does_not_grow_with_the_object() -> None:
    size = 256 << 20
    head = file_of(image(PatientID="HK-A123456"))
    start = head.rindex(b"\xe0\x7f\x10\x00")
    head = head[: start + 8] + size.to_bytes(4, "little")
    total = len(head) + size

    def fetch(offset: int, length: int) -> bytes:
        beginning = head[offset : offset + length]
        return beginning + bytes(max(0, min(length, total - offset) - len(beginning)))

    parsed = parse_file_meta(head)
    source = Encoded(fetch, total, parsed.dataset_offset, EXPLICIT_VR_LITTLE_ENDIAN)
    tracemalloc.start()
    try:
        written = sum(map(len, edited(source, PROFILE.editor(read_subject(source)))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written > size
    assert peak < 8 << 20
