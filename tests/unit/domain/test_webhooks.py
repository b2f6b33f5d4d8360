"""What a webhook is sent, as Standard Webhooks have it, and what its answers mean."""

from datetime import UTC, datetime, timedelta

import pytest

from gantry_domain.telling import Outcome
from gantry_domain.webhooks import judge_status, parse_secret, signed_headers


def test_a_message_is_signed_as_the_standard_has_it() -> None:
    # The secret and the body of the example in its specification.
    key = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = dict(signed_headers(17, b'{"test": 2432232314}', at=at, keys=[key, key[::-1]]))
    assert headers["webhook-id"] == "17"
    assert headers["webhook-timestamp"] == "1614265330"
    ours, other = headers["webhook-signature"].split()
    # printf '17.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac HMAC
    #   -macopt hexkey:31f290f6bf06298aab4f08d43c3f082cf648a362da2da4b0 -binary | base64
    assert ours == "v1,9j3YPzmq90IS3Y3qkKdSHeH+QstRhxx/KRvDt7H1ePk="
    assert other.startswith("v1,")
    assert other != ours


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_" + "!" * 40],
)
def test_a_secret_that_is_none_is_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and") as failure:
        parse_secret(secret)
    assert secret in ("", "whsec_") or secret not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.TAKEN),
        (204, Outcome.TAKEN),
        (301, Outcome.AWAY),
        (307, Outcome.AWAY),
        (400, Outcome.REFUSED),
        (401, Outcome.AWAY),
        (404, Outcome.AWAY),
        (408, Outcome.LATER),
        (410, Outcome.AWAY),
        (422, Outcome.REFUSED),
        (429, Outcome.AWAY),
        (500, Outcome.LATER),
        (503, Outcome.AWAY),
    ],
)
def test_what_an_answer_means(status: int, outcome: Outcome) -> None:
    assert judge_status(status).outcome is outcome


def test_a_server_says_when_to_come_again() -> None:
    assert judge_status(503, timedelta(seconds=7)).wait == timedelta(seconds=7)
