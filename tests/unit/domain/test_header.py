"""Reading headers: as pydicom reads the values, bounded whatever comes, odd things as findings."""

import struct
import subprocess
import sys
import time
import warnings
import zlib
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry_domain.errors import UnreadableObject
from gantry_domain.file_meta import FileMeta, encode_file_meta
from gantry_domain.header import read_header
from gantry_domain.sources import WINDOW, fetch_from
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

LONG = ("OB", "OW", "SQ", "UN", "UT", "UC", "OF")
IDENTITY = {
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
    0x00080018: ("UI", b"1.2.3\0"),
    0x0020000D: ("UI", b"1.2.4\0"),
    0x0020000E: ("UI", b"1.2.5\0"),
}


def explicit(tag, vr, value, length=None):
    length = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    if vr in LONG:
        return head + struct.pack("<HL", 0, length) + value
    return head + struct.pack("<H", length) + value


def implicit(tag, value):
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def item(content):
    return implicit(0xFFFEE000, content)


def stored(dataset, transfer_syntax=EXPLICIT_VR_LITTLE_ENDIAN):
    meta = FileMeta("1.2", "1.2.3", transfer_syntax, "CT01", "GANTRY", "main")
    return encode_file_meta(meta) + dataset


def instance(elements=(), tail=b""):
    """An object with its UIDs and further elements (tag, VR, value), in order."""
    every = {**IDENTITY, **{tag: (vr, value) for tag, vr, value in elements}}
    encoded = b"".join(explicit(tag, vr, value) for tag, (vr, value) in sorted(every.items()))
    return stored(encoded + tail)


def read(data, **options):
    return read_header(fetch_from(data), size=len(data), **options)


def rules(header):
    return [(finding.rule, finding.tag) for finding in header.findings]


def test_what_a_header_holds():
    pixels = bytes(8)
    header = read(
        instance(
            [
                (0x00080000, "UL", b"\1\0\0\0"),
                (0x00080005, "CS", b"GB18030 "),
                (0x00100010, "PN", "Wang=王^小明".encode("gb18030")),
                (0x00280010, "US", b"\2\0"),
                (0x00280011, "US", b"\2\0"),
                (0x00280100, "US", b"\x10\0"),
            ],
            explicit(0x7FE00010, "OW", pixels),
        )
    )
    assert header.meta.calling_ae == "CT01"
    assert list(header.attributes) == sorted(header.attributes)
    assert header.attributes["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert header.text("PatientName") == "Wang=王^小明"
    assert header.text("00100010") == "Wang=王^小明"
    assert header.number("Rows") == 2
    assert header.text("Rows") == "2"
    assert header.text("PatientID") is None
    assert header.values("PatientID") == []
    assert "00080000" not in header.attributes
    assert "7FE00010" not in header.attributes
    assert header.findings == ()
    assert header.pixel_data is not None
    assert header.pixel_data.length == len(pixels)
    assert not header.pixel_data.truncated
    with pytest.raises(KeyError):
        header.text("NoSuchKeyword")


def test_character_set_of_the_partner_and_of_items():
    name = "王^小明".encode("gb18030")
    nested = item(
        explicit(0x00080005, "CS", b"ISO_IR 192") + explicit(0x00100010, "PN", "李".encode())
    )
    elements = [(0x00081140, "SQ", nested + item(b"")), (0x00100010, "PN", name)]
    header = read(instance(elements), default_charset="GB18030")
    assert header.text("PatientName") == "王^小明"
    assert rules(header) == [("charset_missing", "00100010")]
    items = header.values("ReferencedImageSequence")
    assert items[0]["00080005"]["Value"] == ["ISO_IR 192"]
    assert items[0]["00100010"]["Value"] == [{"Alphabetic": "李"}]
    assert items[1] == {}
    assert header.attributes["00080005"]["Value"] == ["ISO_IR 192"]
    assert list(header.attributes) == sorted(header.attributes)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        (0x0020000D, "study_uid"),
        (0x0020000E, "series_uid"),
        (0x00080018, "sop_instance_uid"),
        (0x00080016, "sop_class_uid"),
    ],
)
def test_unreadable_without_identity(tag, name):
    without = b"".join(explicit(t, *found) for t, found in sorted(IDENTITY.items()) if t != tag)
    for data in (stored(without), instance([(tag, "UI", b"")]), instance([(tag, "UI", b"\0\0")])):
        with pytest.raises(UnreadableObject) as caught:
            read(data)
        assert caught.value.reason == f"missing_{name}"
    for value in (b"1." + b"2" * 63, b"1.2\xe9", b"1.2\n3"):
        with pytest.raises(UnreadableObject) as caught:
            read(instance([(tag, "UI", value)]))
        assert caught.value.reason == f"invalid_{name}"
    header = read(instance([(tag, "UI", b"1.02 abc\0")]))
    assert header.text(f"{tag:08X}") == "1.02 abc"
    assert rules(header) == [("uid_invalid", f"{tag:08X}")]


def test_large_values():
    elements = [
        (0x00090010, "LO", b"GANTRY"),
        (0x00091001, "UN", bytes(1024)),
        (0x00091002, "UN", bytes(1026)),
        (0x00281201, "OW", bytes(2000)),
        (0x30060039, "SQ", item(b"") + item(explicit(0x00420011, "OB", bytes(5000)))),
        (0x00420010, "UT", b"x" * 100_000),
    ]
    data = instance(elements)
    header = read(data)
    assert "InlineBinary" in header.attributes["00091001"]
    assert header.attributes["00091002"] == {"vr": "UN", "BulkDataURI": "bulk/00091002"}
    assert header.attributes["00420010"] == {"vr": "UT", "BulkDataURI": "bulk/00420010"}
    nested = header.attributes["30060039"]["Value"][1]["00420011"]
    assert nested == {"vr": "OB", "BulkDataURI": "bulk/30060039/1/00420011"}
    assert [bulk.path for bulk in header.bulk] == [
        "00091002",
        "00281201",
        "00420010",
        "30060039/1/00420011",
    ]
    for bulk in header.bulk:
        expected = b"x" * 100_000 if bulk.vr == "UT" else bytes(bulk.length)
        assert data[bulk.offset : bulk.offset + bulk.length] == expected
    assert header.findings == ()


def test_text_over_64_kib_is_cut_between_characters():
    for surplus in range(3):
        text = "a" * surplus + "王" * 40_000
        data = stored(
            implicit(0x00080005, b"ISO_IR 192")
            + implicit(0x00080016, b"1.2")
            + implicit(0x00080018, b"1.2")
            + implicit(0x00100010, text.encode())
            + implicit(0x0020000D, b"1.2")
            + implicit(0x0020000E, b"1.2"),
            IMPLICIT_VR_LITTLE_ENDIAN,
        )
        header = read(data)
        kept = header.text("PatientName")
        assert kept is not None
        assert text.startswith(kept)
        assert 65_530 <= len(kept.encode()) <= 65_536
        assert rules(header) == [("value_too_long", "00100010")]


def test_implicit_representations_that_other_elements_decide():
    mapping = item(implicit(0x00409216, b"\xfd\xff"))
    lut = implicit(0x00283002, b"\1\0\0\0\x10\0") + implicit(0x00283006, b"\x4d\0")
    luts = implicit(0x00283002, b"\2\0\0\0\x10\0") + implicit(0x00283006, b"\1\2\3\4")
    uids = {tag: implicit(tag, value) for tag, (_, value) in IDENTITY.items()}
    for representation, first, second in ((1, -5, -3), (0, 65531, 65533)):
        elements = {
            **uids,
            0x00189810: implicit(0x00189810, b"\xfb\xff"),
            0x00280103: implicit(0x00280103, bytes([representation, 0])),
            0x00283000: implicit(0x00283000, item(lut) + item(luts)),
            0x00409096: implicit(0x00409096, mapping),
        }
        encoded = b"".join(element for _, element in sorted(elements.items()))
        header = read(stored(encoded, IMPLICIT_VR_LITTLE_ENDIAN))
        vr = "SS" if representation else "US"
        assert header.attributes["00189810"] == {"vr": vr, "Value": [first]}
        nested = header.values("RealWorldValueMappingSequence")[0]
        assert nested["00409216"] == {"vr": vr, "Value": [second]}
        one, two = header.values("ModalityLUTSequence")
        assert one["00283006"] == {"vr": "US", "Value": [77]}
        assert two["00283006"]["vr"] == "OW"


def test_repeated_and_out_of_order():
    tail = explicit(0x00100020, "LO", b"P1") + explicit(0x00100020, "LO", b"P2")
    tail += explicit(0x00080060, "CS", b"CT")
    header = read(instance((), tail))
    assert header.text("PatientID") == "P1"
    assert header.text("Modality") == "CT"
    assert ("repeated_element", "00100020") in rules(header)
    assert ("elements_out_of_order", "") in rules(header)
    assert list(header.attributes) == sorted(header.attributes)


@pytest.mark.parametrize(
    ("tail", "finding"),
    [
        (explicit(0x7FE00010, "OB", bytes(4), length=100), ("pixel_data_truncated", "7FE00010")),
        (explicit(0x7FE00010, "OB", b"", length=0xFFFFFFFF), ("pixel_data_truncated", "7FE00010")),
        (explicit(0x7FE00010, "OB", bytes(4)), ("pixel_data_short", "7FE00010")),
        (explicit(0x00420010, "ST", b"", length=10), ("truncated", "")),
        (explicit(0x00420010, "ST", b"ab") + b"xyz", ("data_set_broken", "")),
        (explicit(0x00420010, "ST", b"a\0b "), ("nul_in_text", "00420010")),
    ],
)
def test_findings(tail, finding):
    elements = [(t, "US", b"\4\0") for t in (0x00280010, 0x00280011)]
    header = read(instance([*elements, (0x00280100, "US", b"\x08\0")], tail))
    assert rules(header) == [finding]


def test_pixel_data_in_fragments():
    fragments = item(b"") + item(b"abcd") + implicit(0xFFFEE0DD, b"")
    data = instance((), explicit(0x7FE00010, "OB", fragments, length=0xFFFFFFFF))
    header = read(data)
    assert header.findings == ()
    assert header.pixel_data is not None
    assert header.pixel_data.length is None
    assert data[header.pixel_data.offset :] == fragments


def test_icon_in_fragments_is_bulk():
    fragments = item(b"") + item(b"abcd") + implicit(0xFFFEE0DD, b"")
    icon = item(explicit(0x7FE00010, "OB", fragments, length=0xFFFFFFFF))
    data = instance([(0x00880200, "SQ", icon)])
    header = read(data)
    (bulk,) = header.bulk
    assert bulk.path == "00880200/0/7FE00010"
    assert data[bulk.offset : bulk.offset + bulk.length] == fragments


def test_one_read_for_an_ordinary_object():
    data = instance((), explicit(0x7FE00010, "OW", bytes(1_000_000)))
    asked = []

    def fetch(offset, length):
        asked.append((offset, length))
        return data[offset : offset + length]

    read_header(fetch, size=len(data))
    assert asked == [(0, WINDOW)]


def test_deflated():
    plain = instance([(0x00091001, "OB", bytes(3_000_000)), (0x00100010, "PN", b"A^B")])
    start = len(stored(b""))
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(plain[start:]) + deflater.flush()
    header = read(stored(deflated, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
    assert header.text("PatientName") == "A^B"
    assert header.attributes == read(plain).attributes
    cut = stored(deflated[: len(deflated) // 2], DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(UnreadableObject):
        read(cut)


def hostile():
    nested = explicit(0x00081140, "SQ", item(b"")[:-4] + b"\xff\xff\xff\xff", length=0xFFFFFFFF)
    yield "nested", stored(nested * 100_000), "too_deeply_nested"
    yield "nested after the UIDs", instance((), nested * 100_000), "too_deeply_nested"
    for vr in ("OB", "UT", "UN", "SQ", "OW"):
        huge = explicit(0x00420011, vr, b"x", length=3_000_000_000)
        yield f"declares 3 GB of {vr}", instance((), huge), None
    yield "empty items", instance((), explicit(0x00420012, "SQ", item(b"") * 120_000)), None
    yield "elements", instance((), explicit(0x00420014, "LO", b"") * 120_000), None
    many = b"".join(
        explicit(0x00430000 + i * 0x20000 + 0x11, "LO", b"ab" * 500) for i in range(9000)
    )
    yield "long header", instance((), many), None
    sequence = b"".join(item(explicit(0x00080060, "LO", b"x" * 900)) for _ in range(20_000))
    yield "long sequence", instance((), explicit(0x00420012, "SQ", sequence)), None


# What reading takes in a process of its own, at its peak, in bytes: tracemalloc takes ten seconds.
MEMORY = """
import sys
from pathlib import Path
from gantry_domain.header import read_header
from gantry_domain.sources import fetch_from

def resident(name):
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024

data = sys.stdin.buffer.read()
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
read_header(fetch_from(data), size=len(data))
print(resident("VmHWM") - before)
"""


@pytest.mark.parametrize(("data", "reason"), [pytest.param(d, r, id=n) for n, d, r in hostile()])
def test_hostile(data, reason):
    began = time.perf_counter()
    if reason:
        with pytest.raises(UnreadableObject) as caught:
            read(data)
        assert caught.value.reason == reason
        assert time.perf_counter() - began < 1
        return
    header = read(data)
    assert time.perf_counter() - began < 5
    assert header.findings
    assert len(orjson.dumps(header.attributes)) < 10 << 20
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], input=data, capture_output=True, check=True, timeout=60
    )
    assert int(done.stdout) < 100 << 20


def test_a_sequence_is_there_as_a_whole_or_not_at_all():
    sequence = b"".join(item(explicit(0x00080060, "LO", b"x" * 900)) for _ in range(20_000))
    small = item(explicit(0x00080060, "CS", b"CT"))
    header = read(instance([(0x00081140, "SQ", sequence), (0x00400275, "SQ", small)]))
    assert "00081140" not in header.attributes
    assert header.values("RequestAttributesSequence") == [
        {"00080060": {"vr": "CS", "Value": ["CT"]}}
    ]
    assert rules(header) == [("header_too_large", "00081140")]


@settings(max_examples=300)
@given(st.data())
def test_bits_flipped(data):
    base = bytearray(
        instance(
            [
                (0x00080005, "CS", b"ISO_IR 192"),
                (0x00081140, "SQ", item(explicit(0x00080060, "CS", b"CT")) + item(b"")),
                (0x00100010, "PN", "王^小明".encode() + b" "),
                (0x00280106, "US", b"\2\0"),
            ],
            explicit(0x7FE00010, "OW", bytes(32)),
        )
    )
    for _ in range(data.draw(st.integers(1, 6))):
        base[data.draw(st.integers(0, len(base) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del base[data.draw(st.integers(0, len(base))) :]
    try:
        header = read(bytes(base))
    except UnreadableObject:
        return
    orjson.dumps(header.attributes)


@given(st.binary(max_size=300), st.sampled_from([IMPLICIT_VR_LITTLE_ENDIAN, *sorted(DEFLATED)]))
def test_any_bytes(tail, transfer_syntax):
    uids = b"".join(implicit(tag, value) for tag, (_, value) in sorted(IDENTITY.items()))
    for dataset in (tail, uids + tail):
        try:
            header = read(stored(dataset, transfer_syntax))
        except UnreadableObject:
            continue
        orjson.dumps(header.attributes)


def test_real_files_with_flipped_bits(sample):
    random = Random(sample.path.name)
    for _ in range(5):
        data = bytearray(sample.data[: 1 << 16])
        for _ in range(random.randrange(1, 20)):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        try:
            header = read(bytes(data))
        except UnreadableObject:
            continue
        orjson.dumps(header.attributes)


COMPARED = """
    PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID SeriesInstanceUID
    SOPInstanceUID SOPClassUID StudyDate StudyTime AccessionNumber StudyDescription
    SeriesDescription Modality SeriesNumber InstanceNumber Rows Columns BitsAllocated
    PixelRepresentation SmallestImagePixelValue PixelPaddingValue ImagePositionPatient
    PixelSpacing WindowCenter ImageType NumberOfFrames ReferringPhysicianName Manufacturer
    InstitutionName FrameIncrementPointer RescaleSlope
""".split()


def test_real_files_as_pydicom_reads_them(sample):
    began = time.perf_counter()
    try:
        header = read(sample.data)
    except UnreadableObject as error:
        assert "uid" in error.reason  # noqa: PT017
        header = None
    assert time.perf_counter() - began < 1
    ds = sample.read()
    if header is None:
        uids = (ds.get(f"{name}UID") for name in ("StudyInstance", "SeriesInstance", "SOPInstance"))
        assert not len(ds) or not all(uids) or not ds.get("SOPClassUID")
        return
    orjson.dumps(header.attributes)
    assert list(header.attributes) == sorted(header.attributes)
    if not len(ds):
        return  # pydicom gives up where an encapsulated image is cut
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword in COMPARED:
            try:
                theirs = ds.get(keyword)
            except Exception:  # noqa: BLE001 - values that pydicom refuses
                continue
            assert plain(header.values(keyword)) == expected(theirs), keyword


def plain(values):
    """As one text: names with their groups, numbers as numbers."""
    joined = []
    for value in values:
        if isinstance(value, dict):
            groups = [value.get(g, "") for g in ("Alphabetic", "Ideographic", "Phonetic")]
            joined.append("=".join(groups).rstrip("="))
        elif isinstance(value, int | float):
            joined.append(repr(float(value)))
        else:
            joined.append("" if value is None else value)
    return joined


def expected(value):
    if value is None or value == "":
        return []
    values = value if not isinstance(value, str) and hasattr(value, "__iter__") else [value]
    if type(value).__name__ == "PersonName":
        values = [value]
    texts = []
    for one in values:
        name = type(one).__name__
        if name in ("DSfloat", "IS", "int", "float", "DSdecimal"):
            texts.append(repr(float(one)))
        elif name == "BaseTag":
            texts.append(f"{int(one):08X}")
        elif name == "PersonName":
            texts.append("=".join(group.strip() for group in str(one).split("=")).rstrip("="))
        else:
            texts.append(str(one).strip("\0 "))
    return [] if not any(texts) else texts
