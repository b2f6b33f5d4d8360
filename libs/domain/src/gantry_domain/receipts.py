"""The receipt of a staged object, and the message that carries many of them to the workers.

A receipt holds facts of the transfer and no patient data. Whatever else a worker wants to know
is in the object itself, so that an object whose receipt was lost is indexed to the same effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from gantry_domain.errors import PermanentError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """One staged object: `size` in bytes of the whole file, `sha256` of the data set as sent.

    Both are None where they are not known, as for what the sweep finds.
    """

    object_id: UUID
    size: int | None = None
    sha256: bytes | None = None


class UnknownMessage(PermanentError):
    """A message of another version, or not one of ours."""


def encode_receipts(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """The message for `receipts`: `{"v": 1, "receipts": [[uuid, size, sha256 in hex], ...]}`."""
    return {
        "v": VERSION,
        "receipts": [
            [str(receipt.object_id), receipt.size, receipt.sha256.hex() if receipt.sha256 else None]
            for receipt in receipts
        ],
    }


def decode_receipts(message: Mapping[str, Any]) -> tuple[Receipt, ...]:
    """The receipts of a message. Raises `UnknownMessage`."""
    if message.get("v") != VERSION:
        raise UnknownMessage(f"receipts of version {message.get('v')!r} are not understood")
    try:
        return tuple(
            Receipt(UUID(object_id), size, bytes.fromhex(sha256) if sha256 else None)
            for object_id, size, sha256 in message["receipts"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownMessage(f"receipts that cannot be read: {type(error).__name__}") from error
