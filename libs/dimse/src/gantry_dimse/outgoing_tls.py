"""TLS of the connections that we make, as BCP 195 (RFC 9325) has it (PS3.15 B.12).

The files are read for each connection, so new ones need no restart.
"""

import contextlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry_dimse.tls import CIPHERS, TLSFailed, failure_reason
from gantry_dimse.wire import Wire
from gantry_domain.errors import ConfigurationError

_RECORD = 1 << 14  # bytes, RFC 8446 5.1


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingTLS:
    """PEM files: who signs the peer's certificate, and our own certificate with its key.

    Without `ca` it is whom this machine trusts, without `certificate` we show none. `name`: for
    which the peer has to show a certificate; None: for the host that is called.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = None
    name: str | None = None

    def context(self) -> ssl.SSLContext:
        """For the next handshake. Raises `ConfigurationError` for files that are no use."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION
        file = self.ca
        try:
            if self.ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca)
            if self.certificate is not None:
                file = self.certificate
                # A function, for a missing password would be asked for at the terminal.
                context.load_cert_chain(file, self.key, password=lambda: self.key_password or "")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise ConfigurationError(f"{file}: cannot be used for TLS: {reason}") from error
        return context

    def secured(self, connection: socket.socket, host: str) -> ssl.SSLSocket:
        """The connection after its handshake, for which its timeout holds. Raises `TLSFailed`."""
        try:
            return self.context().wrap_socket(connection, server_hostname=self.name or host)
        except ConfigurationError as error:
            raise TLSFailed(str(error)) from error
        except (OSError, ValueError) as error:
            raise TLSFailed(failure_reason(error)) from error


class TLSWire(Wire):
    """A `Wire` over TLS."""

    def __init__(self, connection: ssl.SSLSocket, *, timeout: float) -> None:
        """`connection` has done its handshake; `timeout` as of `Wire`."""
        super().__init__(connection, timeout=timeout)
        self._tls = connection

    def close(self) -> None:
        """See `Wire.close`."""
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()  # the peer's own end of TLS is not waited for
        super().close()

    @property
    def _more_at_hand(self) -> bool:
        return self._tls.pending() > 0

    def _write(self, buffers: Sequence[memoryview]) -> int:
        pieces, size = [], 0
        for buffer in buffers:
            pieces.append(buffer)
            size += len(buffer)
            if size >= _RECORD:
                break
        # What is encrypted in one piece has to be one: small buffers are copied.
        piece = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        try:
            return self._tls.send(piece[:_RECORD])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def _read(self, size: int) -> bytes:
        try:
            return self._tls.recv(size)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
