"""Keyed hashes in place of what identifies: the same again and again, and no way back.

So two sends of a study, and two studies of a patient, fit together without any state, and nobody
without the key finds out who it is.
"""

import hashlib
import hmac
from base64 import b32encode
from datetime import timedelta

from gantry_domain.dictionary import UIDS

_MOST_DAYS = 3650


class Pseudonyms:
    """Of one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, uid: str) -> str:
        """A UID of the form that PS3.5 B.2 has for UUIDs (version 8, RFC 9562 5.8); those of the
        standard stay."""
        if not uid or uid in UIDS:
            return uid
        digest = bytearray(self._digest("uid", uid)[:16])
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(digest)}"

    def patient(self, identity: str) -> str:
        """16 letters and digits."""
        return b32encode(self._digest("patient", identity)[:10]).decode()

    def shift(self, identity: str) -> timedelta:
        """By which dates are moved: one day to ten years back."""
        number = int.from_bytes(self._digest("shift", identity)[:8])
        return -timedelta(days=1 + number % _MOST_DAYS)

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{value}".encode(), hashlib.sha256)
