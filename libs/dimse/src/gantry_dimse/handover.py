"""The header by which the front door hands a caller over to another of our services.

It is one of the PROXY protocol, version 2, with the caller's address, what its certificate said,
and a signature by a key that our services alone know. So it needs no list of trusted addresses, and
who calls a service directly cannot write one himself.

TLV 0xE1 | fingerprint LF name LF name ...
TLV 0xE0 | time 8 (seconds since 1970) | HMAC-SHA-256 of all between the protocol's signature and it
"""

import hashlib
import hmac
import socket
import time
from ipaddress import IPv4Address, ip_address
from struct import Struct

from gantry_dimse.connection import Connection
from gantry_dimse.observer import Fault, Peer, PeerCertificate
from gantry_dimse.proxy_header import ADDRESSES, HEAD, INET, INET6, PROXY, SIGNATURE, read_version_2
from gantry_dimse.request import NoRequest

_TLV = Struct(">BH")
_SIGNED, _CERTIFICATE = 0xE0, 0xE1
_TIME = Struct(">Q")
_DIGEST = hashlib.sha256().digest_size
# Clocks of machines may differ; a header that somebody wrote down is of no use to him for long.
_SKEW = 300


class Handover:
    """Writes and reads such headers with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encode(self, peer: Peer) -> bytes:
        """The header that names this caller."""
        host = ip_address(peer.host.partition("%")[0])
        family = INET if isinstance(host, IPv4Address) else INET6
        told = b""
        if peer.certificate is not None:
            certificate = peer.certificate
            text = "\n".join([certificate.fingerprint, *sorted(certificate.names)]).encode()
            told = _TLV.pack(_CERTIFICATE, len(text)) + text
        body = host.packed.ljust(ADDRESSES[family], b"\0") + told
        body += _TLV.pack(_SIGNED, _TIME.size + _DIGEST) + _TIME.pack(int(time.time()))
        signed = HEAD.pack(PROXY, family, len(body) + _DIGEST) + body
        return SIGNATURE + signed + self._digest(signed)

    def read(
        self, connection: Connection, *, timeout: float
    ) -> tuple[str, PeerCertificate | None] | None:
        """Whom the front door names; None where the caller comes by himself.

        Nothing of what he sends is then read. Raises `NoRequest`, also for a header that is not
        ours.
        """
        if not _begins_with(connection, SIGNATURE[0], timeout=timeout):
            return None
        host, header = read_version_2(connection, timeout=timeout)
        signed, digest = header[:-_DIGEST], header[-_DIGEST:]
        if host is None or not hmac.compare_digest(self._digest(signed), digest):
            raise NoRequest(Fault.NOT_DICOM)
        found = dict(_tlvs(signed))
        (at,) = _TIME.unpack(found[_SIGNED])
        if abs(time.time() - at) > _SKEW:
            raise NoRequest(Fault.NOT_DICOM)
        if _CERTIFICATE not in found:
            return host, None
        fingerprint, *names = found[_CERTIFICATE].decode().split("\n")
        return host, PeerCertificate(fingerprint=fingerprint, names=frozenset(names))

    def _digest(self, signed: bytes) -> bytes:
        return hmac.digest(self._key, signed, hashlib.sha256)


def _tlvs(signed: bytes) -> list[tuple[int, bytes]]:
    """The TLVs of a header whose signature is right; the last one is without the digest."""
    family = signed[1]
    rest = signed[HEAD.size + ADDRESSES[family] :]
    found = []
    while rest:
        kind, length = _TLV.unpack_from(rest)
        found.append((kind, rest[_TLV.size : _TLV.size + length]))
        rest = rest[_TLV.size + length :]
    return found


def _begins_with(connection: Connection, byte: int, *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            first = connection.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            continue  # nothing came for a tick
        except OSError:
            raise NoRequest(Fault.LOST) from None
        if not first:
            raise NoRequest(Fault.LOST)
        return first[0] == byte
    raise NoRequest(Fault.SILENT)
