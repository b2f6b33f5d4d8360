"""A web server as a peer that answers as a test wants, and remembers what it was sent."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pydicom


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: its head, its body, and the DICOM files of that."""

    method: str
    path: str
    headers: dict[str, str]
    files: list[bytes]
    body: bytes = b""

    @property
    def uid(self) -> str:
        """The SOP Instance UID of the first file."""
        return str(pydicom.dcmread(BytesIO(self.files[0])).SOPInstanceUID)

    @property
    def syntax(self) -> str:
        """The transfer syntax of the first file."""
        return str(pydicom.dcmread(BytesIO(self.files[0])).file_meta.TransferSyntaxUID)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer. A `document` goes as DICOM JSON."""

    status: int
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Asked], Said | None]
"""None: the connection is closed without a word."""


def stored(asked: Asked, *, warning: int | None = None) -> Said:
    """It was stored, as PS3.18 I.2 has it."""
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [asked.uid]}}
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return Said(200 if warning is None else 202, {"00081199": {"vr": "SQ", "Value": [item]}})


def failed(asked: Asked, reason: int, *, status: int = 409) -> Said:
    """It was not stored, as PS3.18 I.2 has it."""
    item = {
        "00081155": {"vr": "UI", "Value": [asked.uid]},
        "00081197": {"vr": "US", "Value": [reason]},
    }
    return Said(status, {"00081198": {"vr": "SQ", "Value": [item]}})


class StowPeer:
    """Listens on loopback."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[Asked] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = b"".join(_body(self))
                kind = self.headers.get("Content-Type", "")
                asked = Asked(self.command, self.path, dict(self.headers), _files(kind, body), body)
                peer.asked.append(asked)
                said = answer(asked)
                if said is None:
                    self.close_connection = True
                    return
                content = b"" if said.document is None else json.dumps(said.document).encode()
                self.send_response(said.status)
                if said.document is not None:
                    self.send_header("Content-Type", "application/dicom+json")
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_OPTIONS = _handle  # noqa: N815 - as http.server calls them

            def log_message(self, *_args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}/web"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def posted(self) -> list[Asked]:
        """What was to be stored."""
        return [each for each in self.asked if each.method == "POST"]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _body(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    if handler.headers.get("Transfer-Encoding") != "chunked":
        yield handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        return
    while size := int(handler.rfile.readline(), 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


def _files(content_type: str, body: bytes) -> list[bytes]:
    if not content_type.startswith("multipart/related"):
        return []
    boundary = BytesParser().parsebytes(f"Content-Type: {content_type}\n\n".encode())
    mark = b"--" + str(boundary.get_boundary()).encode()
    parts = (b"\r\n" + body).split(b"\r\n" + mark)[1:-1]
    return [part.split(b"\r\n\r\n", 1)[1] for part in parts]
