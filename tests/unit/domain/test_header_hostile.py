"""Reading headers that are hostile or damaged: bounded, by name, and never anything else."""

import subprocess
import sys
import time
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry_domain.errors import UnreadableObject
from gantry_domain.transfer_syntaxes import (
    DEFLATED,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from gantry_testkit.encoding import (
    IDENTITY,
    explicit,
    implicit,
    instance,
    item,
    read,
    rules,
    stored,
)


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
    began = time.process_time()
    if reason:
        with pytest.raises(UnreadableObject) as caught:
            read(data)
        assert caught.value.reason == reason
        assert time.process_time() - began < 1
        return
    header = read(data)
    assert time.process_time() - began < 5
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
