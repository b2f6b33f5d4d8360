"""Asks DICOMweb as clients do, with nothing but HTTP."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

import httpx

MULTIPART_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart answer."""

    content_type: str
    TransferSyntaxUID: str | None
    content: bytes


def parameters(content_type: str) -> Message:
    """A content type taken apart."""
    message = Message()
    message["Content-Type"] = content_type
    return message


def parts(answer: httpx.Response) -> list[Part]:
    """The parts of a ``multipart/related`` answer (RFC 2046, 5.1; RFC 2387)."""
    described = parameters(answer.headers["content-type"])
    assert described.get_content_type() == "multipart/related", answer.headers["content-type"]
    boundary = described.get_param("boundary")
    assert isinstance(boundary, str)
    fence = b"--" + boundary.encode()
    body = answer.content
    assert body.startswith((fence, b"\r\n" + fence))
    assert body.rstrip(b"\r\n").endswith(fence + b"--")
    chunks = (b"\r\n" + body.removeprefix(b"\r\n")).split(b"\r\n" + fence)
    return [_part(chunk) for chunk in chunks[1:-1]]


def _part(chunk: bytes) -> Part:
    head, gap, content = chunk.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    assert gap
    lines = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
    # cornerstone looks for exactly this spelling
    content_type = lines["Content-Type"]
    syntax = parameters(content_type).get_param("transfer-syntax")
    assert syntax is None or isinstance(syntax, str)
    return Part(content_type, syntax, content)


class Archive:
    """The DICOMweb door of a run, of one partition."""

    def __init__(self, http: httpx.Client, partition: str | None = None) -> None:
        self.http = http
        self.root = f"/p/{partition}/dicomweb" if partition else "/dicomweb"

    def search(self, path: str, **query: str | int) -> list[dict[str, Any]]:
        """QIDO-RS."""
        answer = self.http.get(f"{self.root}/{path}", params=query)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        found = answer.json()
        assert isinstance(found, list)
        return found

    def found(self, uids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Those SOP Instance UIDs that a search finds, each with its study and series."""
        wanted = list(dict.fromkeys(uids))
        result: dict[str, tuple[str, str]] = {}
        for some in _groups(wanted, 40):
            for item in self.search("instances", SOPInstanceUID=",".join(some), limit=len(some)):
                result[value(item, "00080018")] = (value(item, "0020000D"), value(item, "0020000E"))
        return result

    def retrieve(
        self, study: str, series: str, instance: str, accept: str = MULTIPART_DICOM
    ) -> Part:
        """WADO-RS of one instance."""
        path = f"{self.root}/studies/{study}/series/{series}/instances/{instance}"
        answer = self.http.get(path, headers={"Accept": accept})
        assert answer.status_code == 200, f"{instance}: {answer.status_code} {answer.text[:300]}"
        (part,) = parts(answer)
        return part


def dataset_of(content: bytes) -> bytes:
    """The data set in a PS3.10 file as Gantry writes it: preamble, meta with its length, data."""
    assert content[128:132] == b"DICM"
    assert content[132:140] == b"\x02\x00\x00\x00UL\x04\x00"
    return content[144 + int.from_bytes(content[140:144], "little") :]


def value(item: dict[str, Any], tag: str) -> Any:
    """The first value of an attribute in the DICOM JSON model."""
    return item[tag]["Value"][0]


def _groups(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
