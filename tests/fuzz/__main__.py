"""Fuzzing led by coverage, by hand and for as long as one likes. It needs atheris beside Gantry.

uv pip install atheris
.venv/bin/python tests/fuzz association -max_total_time=600
.venv/bin/python tests/fuzz header /tmp/corpus

The rest of the line is libFuzzer's. What fails is written to a file, which as the only argument
fails again.
"""

import sys
from collections.abc import Callable
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["gantry_dimse", "gantry_domain"]):
    from gantry_dimse.command import MalformedCommand, decode_command
    from gantry_dimse.messages import AcceptedContext
    from gantry_dimse.request import UnparseableRequest, parse_request
    from gantry_domain.errors import UnreadableObject
    from gantry_domain.frame_table import frame_table
    from gantry_domain.header import read_header
    from gantry_domain.sources import fetch_from
    from gantry_testkit.fed_association import FedAssociation

_CT = "1.2.840.10008.5.1.4.1.1.2"
_CONTEXTS = {
    1: AcceptedContext(_CT, "1.2.840.10008.1.2.1"),
    3: AcceptedContext("1.2.840.10008.1.1", "1.2.840.10008.1.2.1"),
}


def association(data: bytes) -> None:
    """The bytes of an established association, in pieces as long as the first byte says."""
    fed = FedAssociation(_CONTEXTS, storage_class=_CT)
    step = data[0] + 1 if data else 1
    for start in range(1, len(data), step):
        fed.feed(data[start : start + step])
    fed.close()


def request(data: bytes) -> None:
    """An A-ASSOCIATE-RQ."""
    with suppress(UnparseableRequest):
        parse_request(data)


def command(data: bytes) -> None:
    """A command set."""
    with suppress(MalformedCommand):
        decode_command(data)


def header(data: bytes) -> None:
    """A DICOM file: its header, and where its frames are."""
    fetch = fetch_from(data)
    try:
        found = read_header(fetch, size=len(data))
    except UnreadableObject:
        return
    frame_table(fetch, found, end=len(data))


_TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (association, request, command, header)
}


def main() -> None:
    """Fuzz the target that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] not in _TARGETS:
        sys.exit(f"name what is to be fuzzed: {', '.join(_TARGETS)}")
    target = _TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
