"""What the configuration says of webhooks; their secrets come from the environment."""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from gantry_domain.errors import ConfigurationError
from gantry_domain.events import EventKind
from gantry_domain.webhooks import parse_secret
from gantry_runtime.names import did_you_mean
from gantry_runtime.section import Section
from gantry_runtime.values import Duration, PartitionName, WebAddress, parse_duration

_VARIABLE = "GANTRY_WEBHOOK_SECRETS"
_MOST_SECRETS = 2


def _kind(value: object) -> object:
    known = [kind.value for kind in EventKind]
    if not isinstance(value, str) or value in known:
        return EventKind(value) if isinstance(value, str) else value
    raise ValueError(f"there is no event {value}{did_you_mean(value, known)}")


class Webhook(Section):
    """A web server that is told of events."""

    name: PartitionName
    """By which it is known to people and in the secrets: small letters, digits and hyphens."""
    url: WebAddress
    events: Annotated[
        tuple[Annotated[EventKind, BeforeValidator(_kind)], ...], Field(strict=False)
    ] = tuple(EventKind)
    """Which of them; absent: all."""
    partition: PartitionName = "main"
    sees: Literal["visible", "held"] = "visible"
    """With `held` it is told of studies too that policies keep out of sight."""
    timeout: Duration = parse_duration("15s")
    """For the connection, and for the answer to one event."""

    @property
    def subscriber(self) -> str:
        """How it is called among all who are told."""
        return f"webhook:{self.name}"


def check_webhooks(webhooks: Iterable[Webhook]) -> None:
    """Raises `ValueError` for two of one name."""
    names = [webhook.name for webhook in webhooks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the webhook {name} is listed twice")


def parse_webhook_secrets(
    text: str, webhooks: Iterable[Webhook]
) -> dict[str, tuple[SecretStr, ...]]:
    """The secrets by the webhook's name, the one that is to stay first, from a JSON object.

    :raises ConfigurationError: without showing any of it.
    """
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise ConfigurationError(
            f'{_VARIABLE} must be a JSON object such as {{"ris": "whsec_...", '
            '"billing": ["whsec_the new one", "whsec_the old one"]}'
        )
    known = [webhook.name for webhook in webhooks]
    found = {}
    for name, value in read.items():
        if name not in known:
            hint = did_you_mean(name, known) if known else ""
            raise ConfigurationError(f"{_VARIABLE} names {name}, which is no webhook{hint}")
        secrets = value if isinstance(value, list) else [value]
        try:
            if not 1 <= len(secrets) <= _MOST_SECRETS:
                raise ValueError("there is one secret, or two while one replaces the other")
            for each in secrets:
                parse_secret(each if isinstance(each, str) else "")
        except ValueError as error:
            raise ConfigurationError(f"{_VARIABLE}, {name}: {error}") from None
        found[name] = tuple(map(SecretStr, secrets))
    return found


def webhook_keys(secrets: Mapping[str, tuple[SecretStr, ...]], name: str) -> tuple[bytes, ...]:
    """The keys of a webhook. Raises `ConfigurationError` where it has none."""
    if name not in secrets:
        raise ConfigurationError(
            f"the webhook {name} has no secret: set {_VARIABLE} to "
            f'{{"{name}": "whsec_..."}}, made by: echo whsec_$(openssl rand -base64 32)'
        )
    return tuple(parse_secret(secret.get_secret_value()) for secret in secrets[name])
