"""TLS 1.2 and 1.3 for accepted connections, as BCP 195 (RFC 9325) has it (PS3.15 B.12).

The files are looked at before each handshake: a new certificate is used by the next connection, and
those that are open go on. Files that cannot be used leave the ones in use.
"""

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gantry_dimse.breaking_off import break_off
from gantry_dimse.connection import Connection, ConnectionLost
from gantry_dimse.observer import PeerCertificate
from gantry_domain.errors import ConfigurationError

# RFC 9325 4.2: forward secrecy and authenticated encryption. Those of TLS 1.3 are all good.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSFiles:
    """PEM files: our certificate with its chain, its key, and who signs those of callers.

    Without `ca` callers need no certificate. `key_password` where the key is encrypted.
    """

    certificate: Path
    key: Path
    ca: Path | None = None
    key_password: str | None = None


class TLSFailed(Exception):
    """A handshake failed; the text is OpenSSL's reason."""


class ServerTLS:
    """The files as a TLS context that is made anew when they change. Safe for many threads."""

    def __init__(
        self, files: TLSFiles, *, on_refused: Callable[[ConfigurationError], None]
    ) -> None:
        """Raises `ConfigurationError`. `on_refused` is told once of each change that is no use."""
        self._files = files
        self._on_refused = on_refused
        self._lock = threading.Lock()
        self._seen = self._look()
        self._context = _make_context(files)

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake."""
        with self._lock:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                try:
                    self._context = _make_context(self._files)
                except ConfigurationError as error:
                    self._on_refused(error)
            return self._context

    def _look(self) -> list[tuple[int, int, int]]:
        files = (self._files.certificate, self._files.key, self._files.ca)
        found = []
        for file in filter(None, files):
            # What is replaced right now is seen by the next handshake.
            with suppress(OSError):
                status = file.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return found


def check_tls_files(files: TLSFiles) -> None:
    """Raises `ConfigurationError` if they cannot be used."""
    _make_context(files)


def _make_context(files: TLSFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    file = files.certificate
    try:
        # A function, for a missing password would be asked for at the terminal.
        context.load_cert_chain(file, files.key, password=lambda: files.key_password or "")
        if files.ca is not None:
            file = files.ca
            context.load_verify_locations(file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{file}: cannot be used for TLS: {reason}") from error
    return context


class TLSConnection(Connection):
    """A connection that becomes a TLS connection by its `handshake`."""

    def __init__(self, sock: socket.socket, *, tick: float, send_timeout: float) -> None:
        """As `Connection`."""
        super().__init__(sock, tick=tick, send_timeout=send_timeout)
        self._tick = tick
        self._send_timeout = send_timeout
        self._tls: ssl.SSLSocket | None = None

    def handshake(self, tls: ServerTLS, *, timeout: float) -> PeerCertificate | None:
        """Begin TLS; return the peer's certificate, which was verified, if it showed one.

        Raises `TLSFailed`.
        """
        context = tls.context()
        # The kernel's time-outs would look like an end to OpenSSL, so Python's are used from here.
        self.block_for_ever()
        self._tls = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.socket = self._tls
        try:
            self._tls.settimeout(timeout)
            self._tls.do_handshake()
            self._tls.settimeout(self._tick)
            return _certificate(self._tls)
        except (OSError, ValueError) as error:
            raise TLSFailed(failure_reason(error)) from error

    @property
    def more_at_hand(self) -> bool:
        """See `Connection.more_at_hand`."""
        return self._tls is not None and self._tls.pending() > 0

    def break_off(self) -> None:
        """See `Connection.break_off`."""
        break_off(self.socket)

    def send(self, content: bytes | memoryview) -> None:
        """See `Connection.send`."""
        if self._tls is None:
            super().send(content)
            return
        try:
            self._tls.settimeout(self._send_timeout)
            self._tls.sendall(content)
            self._tls.settimeout(self._tick)
        except OSError as error:
            raise ConnectionLost(error.strerror or "broken") from error

    def send_scattered(self, buffers: Sequence[bytes | memoryview]) -> None:
        """See `Connection.send_scattered`; a copy, for it is encrypted in one piece."""
        self.send(b"".join(buffers))

    def block_for_ever(self) -> None:
        """See `Connection.block_for_ever`."""
        if self._tls is None:
            super().block_for_ever()
        else:
            self._tls.settimeout(None)

    def close(self, farewell: bytes = b"") -> None:
        """See `Connection.close`."""
        if self._tls is not None:
            # The farewell, and the end of TLS, which waits for the peer's.
            with suppress(OSError, ValueError):
                self._tls.settimeout(self._tick)
                if farewell:
                    self._tls.sendall(farewell)
                self._tls.unwrap()
            farewell = b""
        super().close(farewell)

    def _read(self, view: memoryview) -> int:
        if self._tls is None:
            return super()._read(view)
        try:
            return self._tls.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except TimeoutError as error:
            if error.errno is not None:  # the connection's, by keep-alive
                raise
            raise BlockingIOError from None

    def _read_now(self, view: memoryview) -> int:
        if self._tls is None:
            return super()._read_now(view)
        self._tls.settimeout(0)
        try:
            return self._read(view)
        finally:
            self._tls.settimeout(self._tick)


def _certificate(tls: ssl.SSLSocket) -> PeerCertificate | None:
    encoded = tls.getpeercert(binary_form=True)
    described = tls.getpeercert()
    if not encoded or not described:
        return None
    # The standard library types say less than what its names really are:
    # ((("commonName", "ct01"),), ...) and (("DNS", "ct01.example"), ...).
    subject: tuple[tuple[tuple[str, str], ...], ...] = described.get("subject", ())  # type: ignore[assignment]
    alternatives: tuple[tuple[str, str], ...] = described.get("subjectAltName", ())  # type: ignore[assignment]
    names = {value for part in subject for key, value in part if key == "commonName"}
    names |= {value for kind, value in alternatives if kind in ("DNS", "URI")}
    return PeerCertificate(
        fingerprint=hashlib.sha256(encoded).hexdigest(),
        names=frozenset(name.casefold() for name in names),
    )


def failure_reason(error: OSError | ValueError) -> str:
    """Why a handshake failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "broken").lower().replace("_", " ")
    return "silent" if isinstance(error, TimeoutError) else "lost"
