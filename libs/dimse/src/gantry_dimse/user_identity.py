"""Who a caller says it is, and how it proves that: User Identity Negotiation (PS3.7 D.3.3.7).

type 1 | positive response 1 | length 2 | primary field | length 2 | secondary field
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Any

_HEAD = Struct(">BBH")
_LENGTH = Struct(">H")

# PS3.7 Table D.3-14.
USERNAME_AND_PASSCODE = 2
JSON_WEB_TOKEN = 5

# Clocks differ.
_LEEWAY = 30


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """The identity in a request. The fields are secrets: never log or show them."""

    kind: int
    response_wanted: bool
    primary: bytes
    secondary: bytes

    def __repr__(self) -> str:
        return f"UserIdentity(kind={self.kind})"


def parse_user_identity(body: bytes) -> UserIdentity:
    """The body of the sub-item 58H. Raises `ValueError`."""
    if len(body) < _HEAD.size:
        raise ValueError("the user identity ends inside of its head")
    kind, response, length = _HEAD.unpack_from(body)
    primary = body[_HEAD.size : _HEAD.size + length]
    rest = body[_HEAD.size + length :]
    if len(primary) < length or len(rest) < _LENGTH.size:
        raise ValueError("the user identity ends inside of a field")
    secondary = rest[_LENGTH.size :]
    if len(secondary) != _LENGTH.unpack_from(rest)[0]:
        raise ValueError("the user identity ends inside of a field")
    return UserIdentity(kind, response != 0, primary, secondary)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """How a JSON Web Token is verified: by a shared secret (HS256), or the public key in PEM of
    whoever signs (RS256, ES256). Issuer and audience are checked where they are given."""

    secret: str | None = None
    public_key: str | None = None
    issuer: str | None = None
    audience: str | None = None

    def verifies(self, token: bytes) -> bool:
        """Whether the token is signed, in its time, and meant for us."""
        # It brings all of cryptography, which only those who configured it are to carry.
        import jwt

        # Never of the token's own choice: a public key must not pass for a secret.
        if self.public_key is not None:
            key, algorithms = self.public_key, ["RS256", "ES256"]
        elif self.secret is not None:
            key, algorithms = self.secret, ["HS256"]
        else:
            return False
        options: Any = {"require": ["exp"], "verify_aud": self.audience is not None}
        try:
            jwt.decode(
                token.strip(b"\0 "),
                key,
                algorithms=algorithms,
                issuer=self.issuer,
                audience=self.audience,
                leeway=_LEEWAY,
                options=options,
            )
        except (jwt.PyJWTError, ValueError):
            return False
        return True


class UserIdentities:
    """The identities that are accepted; with neither passcodes nor a key, any and none."""

    def __init__(
        self,
        *,
        passcodes: Mapping[str, str],
        token_key: TokenKey | None = None,
        required: bool = False,
    ) -> None:
        """`passcodes` by user name. `required`: a caller without an identity is rejected."""
        self._passcodes = {name.encode(): code.encode() for name, code in passcodes.items()}
        self._token_key = token_key
        self._required = required

    def accepts(self, identity: UserIdentity | None) -> bool:
        """Whether an association may begin."""
        if not self._passcodes and self._token_key is None:
            return True
        if identity is None:
            return not self._required
        if identity.kind == USERNAME_AND_PASSCODE:
            expected = self._passcodes.get(identity.primary.rstrip(b"\0 "))
            given = identity.secondary.rstrip(b"\0 ")
            # Compared also for a name that nobody has: time tells nothing.
            return hmac.compare_digest(expected or b"?" * 32, given) and expected is not None
        if identity.kind == JSON_WEB_TOKEN and self._token_key is not None:
            return self._token_key.verifies(identity.primary)
        return False  # a name alone proves nothing; Kerberos and SAML are not supported
