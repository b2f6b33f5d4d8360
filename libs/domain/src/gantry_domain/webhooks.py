"""Webhooks: how a message is signed, and what the answer to it means.

Headers and signatures are those of Standard Webhooks (https://www.standardwebhooks.com), so that
receivers check them with a library that they have.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

from gantry_domain.telling import TAKEN, Answer, Outcome

SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
# RFC 9110 15.4 to 15.6, RFC 6585 4. A redirect is not followed: the address is wrong.
_SIGN_IN_OR_ADDRESS = frozenset((401, 402, 403, 404, 405, 407, 410, 421))
_NO_TIME = frozenset((429, 502, 503, 504))
_AGAIN = frozenset((408, 409, 423, 425))


def parse_secret(text: str) -> bytes:
    """The key of a secret such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`.

    Raises `ValueError`, without showing it.
    """
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError("a secret is whsec_ and base64") from error
    if not text.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("a secret is whsec_ and 24 to 64 bytes in base64")
    return key


def signed_headers(
    number: int, body: bytes, *, at: datetime, keys: Sequence[bytes]
) -> list[tuple[str, str]]:
    """The headers of a message: its number, which stays the same when it is sent again, the moment
    of this attempt, and a signature with each key over all three."""
    told, moment = str(number), str(int(at.timestamp()))
    content = b".".join((told.encode(), moment.encode(), body))
    signatures = [
        "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys
    ]
    return [
        ("webhook-id", told),
        ("webhook-timestamp", moment),
        ("webhook-signature", " ".join(signatures)),
    ]


def judge_status(status: int, retry_after: timedelta | None = None) -> Answer:
    """What an answer of HTTP means for the event that was sent."""
    reason = f"HTTP {status}"
    if 200 <= status < 300:
        return TAKEN
    if status in _NO_TIME or status in _SIGN_IN_OR_ADDRESS or 300 <= status < 400:
        return Answer(Outcome.AWAY, reason, retry_after)
    if status >= 500 or status in _AGAIN:
        return Answer(Outcome.LATER, reason, retry_after)
    return Answer(Outcome.REFUSED, reason)
