"""Users over real associations: passcodes and tokens are checked where they are configured."""

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from gantry_dimse.user_identity import TokenKey, UserIdentities, parse_user_identity
from gantry_testkit.door import Door, associated, association_request, ct, exchange

SECRET = "a shared secret of more than 32 bytes, for HS256"
UNVERIFIED = (2, 2, 1)
NEVER_PARSED = bytes((3, 0, 0, 0, 0, 4, 0, 1, 2, 1))


def identity(
    kind: int, primary: bytes, secondary: bytes = b"", *, response: bool = False
) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = primary
    if kind == 2:
        item.secondary_field = secondary
    item.positive_response_requested = response
    return item


def token(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> bytes:
    return jwt.encode({"exp": time.time() + 60, **claims}, key, algorithm=algorithm).encode()


def answer(door: Door, *items: UserIdentityNegotiation) -> tuple[int, int, int] | None:
    """How an association is rejected, None if it serves."""
    with associated(door, ext_neg=list(items)) as assoc:
        if assoc.is_established:
            assert assoc.send_c_store(ct()).Status == 0
            return None
        told = assoc.acceptor.primitive
        return told.result, told.result_source, told.diagnostic


def test_unless_it_is_configured_any_identity_will_do(open_door: Callable[..., Door]) -> None:
    door = open_door(identities=UserIdentities(passcodes={}))
    for item in (identity(1, b"user"), identity(2, b"user", b"code"), identity(5, b"no token")):
        assert answer(door, item) is None
    assert answer(door) is None


class TestPasscodes:
    @pytest.mark.parametrize(
        ("item", "expected"),
        [
            (identity(2, b"ct01", b"right"), None),
            (identity(2, "放射".encode(), b"right too"), None),
            (identity(2, b"ct01", b"wrong"), UNVERIFIED),
            (identity(2, b"ct01", b"right too"), UNVERIFIED),
            (identity(2, b"nobody", b"right"), UNVERIFIED),
            (identity(2, b"nobody", b"?" * 32), UNVERIFIED),
            (identity(1, b"ct01"), UNVERIFIED),
            (identity(3, b"kerberos ticket"), UNVERIFIED),
            (identity(4, b"<saml/>"), UNVERIFIED),
            (identity(5, token()), UNVERIFIED),
        ],
    )
    def test_only_the_right_one(
        self,
        open_door: Callable[..., Door],
        item: UserIdentityNegotiation,
        expected: tuple[int, int, int] | None,
    ) -> None:
        passcodes = {"ct01": "right", "放射": "right too"}
        door = open_door(identities=UserIdentities(passcodes=passcodes))
        assert answer(door, item) == expected
        labels = [rejection.label for _peer, rejection in door.notes.rejections]
        assert labels == (["user_identity"] if expected else [])

    @pytest.mark.parametrize(("required", "expected"), [(False, None), (True, UNVERIFIED)])
    def test_without_an_identity(
        self,
        open_door: Callable[..., Door],
        required: bool,
        expected: tuple[int, int, int] | None,
    ) -> None:
        identities = UserIdentities(passcodes={"ct01": "right"}, required=required)
        assert answer(open_door(identities=identities)) == expected

    @pytest.mark.parametrize("response", [True, False])
    def test_it_is_confirmed_when_that_is_wanted(
        self, open_door: Callable[..., Door], response: bool
    ) -> None:
        door = open_door(identities=UserIdentities(passcodes={"ct01": "right"}))
        item = identity(2, b"ct01", b"right", response=response)
        with associated(door, ext_neg=[item]) as assoc:
            answered = [type(each) for each in assoc.acceptor.primitive.user_information]
            assert (UserIdentityNegotiation in answered) is response


class TestTokens:
    def test_a_shared_secret(self, open_door: Callable[..., Door]) -> None:
        key = TokenKey(secret=SECRET, issuer="hospital", audience="gantry")
        door = open_door(identities=UserIdentities(passcodes={}, token_key=key, required=True))
        good = {"iss": "hospital", "aud": "gantry"}
        assert answer(door, identity(5, token(**good))) is None
        refused = [
            token("another secret of more than 32 bytes, as well", **good),
            token(**{**good, "exp": time.time() - 3600}),
            token(**{**good, "nbf": time.time() + 3600}),
            token(**{**good, "iss": "elsewhere"}),
            token(**{**good, "aud": "elsewhere"}),
            token(iss="hospital"),
            token(**good)[:-4],
            jwt.encode(good, SECRET, algorithm="HS256").encode(),  # it never expires
            jwt.encode({"exp": time.time() + 60, **good}, "", algorithm="none").encode(),
            b"\xff\xfe",
        ]
        assert [answer(door, identity(5, each)) for each in refused] == [UNVERIFIED] * len(refused)

    def test_a_public_key_is_no_secret(self) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key = TokenKey(public_key=public.decode())
        assert key.verifies(token(private, "ES256"))
        assert not key.verifies(token(ec.generate_private_key(ec.SECP256R1()), "ES256"))
        # Signed with what everybody knows, by the algorithm for secrets.
        assert not key.verifies(token(SECRET, "HS256"))
        assert not TokenKey().verifies(token())


@pytest.mark.parametrize(
    "body", [b"", b"\2\0\0\5abc\0\0", b"\2\0\0\3abc", b"\2\0\0\3abc\0\5x", b"\2\0\0\3abc\0\0x"]
)
def test_a_broken_identity_is_no_request(open_door: Callable[..., Door], body: bytes) -> None:
    with pytest.raises(ValueError, match="the user identity ends inside"):
        parse_user_identity(body)
    request = association_request()
    item = b"\x58\0" + len(body).to_bytes(2) + body
    user = request.index(b"\x50\0", 74)
    length = int.from_bytes(request[user + 2 : user + 4]) + len(item)
    request = request[: user + 2] + length.to_bytes(2) + request[user + 4 :] + item
    request = request[:2] + (len(request) - 6).to_bytes(4) + request[6:]
    assert exchange(open_door(), request) == NEVER_PARSED


def test_secrets_are_not_shown() -> None:
    assert "right" not in repr(parse_user_identity(b"\2\0\0\4ct01\0\5right"))
