"""Who we are to the DICOMweb servers of partners: their secrets, from the environment."""

import base64
import json
import re
from collections.abc import Iterable

from pydantic import SecretStr

from gantry_domain.errors import ConfigurationError
from gantry_runtime.names import did_you_mean
from gantry_runtime.partners import Partner

# What a header can hold; a token has no colon (RFC 6750 2.1), a password follows one (RFC 7617 2).
_SECRET = re.compile(r"[!-~][ -~]*", re.ASCII)


def parse_web_secrets(text: str, partners: Iterable[Partner]) -> dict[str, SecretStr]:
    """The secrets by AE title from a JSON object.

    :raises ConfigurationError: without showing any of it.
    """
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ConfigurationError(
            "GANTRY_DICOMWEB_SECRETS must be a JSON object such as "
            '{"WEBPACS": "a token", "OTHERPACS": "user:password"}'
        )
    known = [partner.ae_title for partner in partners if partner.dicomweb is not None]
    for title, secret in read.items():
        if title not in known:
            hint = did_you_mean(title, known) if known else ""
            raise ConfigurationError(
                f"GANTRY_DICOMWEB_SECRETS names {title}, which is no partner with dicomweb{hint}"
            )
        if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
            raise ConfigurationError(
                f"GANTRY_DICOMWEB_SECRETS: what is said of {title} must be a token or "
                "user:password, in ASCII"
            )
    return {title: SecretStr(secret) for title, secret in read.items()}


def authorization_header(secret: SecretStr) -> str:
    """A bearer token as RFC 6750 2.1 has it, or a user and password as RFC 7617 2."""
    value = secret.get_secret_value()
    if ":" not in value:
        return f"Bearer {value}"
    return f"Basic {base64.b64encode(value.encode()).decode()}"
