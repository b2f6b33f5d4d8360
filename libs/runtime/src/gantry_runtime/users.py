"""What the configuration says of the users that callers over DIMSE prove to be."""

import json

from gantry_domain.errors import ConfigurationError
from gantry_runtime.section import Section


class UserIdentitySection(Section):
    """User Identity Negotiation. Without passcodes and tokens any identity is accepted."""

    required: bool = False
    """Whether a caller without an identity is rejected."""
    jwt_key: str | None = None
    """The public key, PEM, of who signs JSON Web Tokens; else GANTRY_DIMSE_JWT_SECRET is shared."""
    jwt_issuer: str | None = None
    jwt_audience: str | None = None


def parse_passcodes(text: str) -> dict[str, str]:
    """User names and passcodes from a JSON object.

    :raises ConfigurationError: without showing any of it.
    """
    try:
        passcodes = json.loads(text)
    except ValueError:
        passcodes = None
    if (
        not isinstance(passcodes, dict)
        or not passcodes
        or not all(name and isinstance(code, str) and code for name, code in passcodes.items())
    ):
        raise ConfigurationError(
            'GANTRY_DIMSE_PASSCODES must be a JSON object such as {"user": "passcode"}'
        )
    return passcodes
