"""Tells a web server of events: each is a POST with a small JSON body, signed."""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson

from gantry_archive.outgoing_tls import tls_to
from gantry_archive.web_connection import WebConnection, WebPlace
from gantry_dimse.peer_errors import AssociationLost, Interrupted, Unreachable
from gantry_dimse.requesting import Timeouts
from gantry_domain.events import Event, event_document
from gantry_domain.sight import Sight
from gantry_domain.telling import Answer, Outcome
from gantry_domain.webhooks import judge_status, signed_headers
from gantry_runtime.settings import Settings
from gantry_runtime.webhook_section import Webhook
from gantry_worker.subscription import Subscription

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Target:
    place: WebPlace
    path: str
    timeouts: Timeouts
    keys: tuple[bytes, ...]


class WebhookTeller:
    """See `Teller`."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._connection = WebConnection(target.place, timeouts=target.timeouts)

    def tell(self, event: Event) -> Answer | None:
        """See `Teller`."""
        target = self._target
        body = orjson.dumps(event_document(event))
        headers = signed_headers(event.id, body, at=datetime.now(UTC), keys=target.keys)
        try:
            answer = self._connection.request(
                "POST",
                target.path,
                headers=[("Content-Type", _JSON), *headers],
                body=[body],
                size=len(body),
            )
        except Unreachable as error:
            return Answer(Outcome.AWAY, str(error))
        except Interrupted:
            raise
        except AssociationLost as error:
            # It may be this event that it chokes on.
            return Answer(Outcome.LATER, str(error))
        return judge_status(answer.status, answer.retry_after)

    def interrupt(self) -> None:
        """See `Teller`."""
        self._connection.interrupt()

    def close(self) -> None:
        """See `Teller`."""
        self._connection.close()


def webhook_subscriptions(settings: Settings) -> list[Subscription]:
    """One for each webhook. Raises `ConfigurationError` where one has no secret."""
    return [_subscription(settings, webhook) for webhook in settings.webhooks]


def _subscription(settings: Settings, webhook: Webhook) -> Subscription:
    target = _target(settings, webhook)
    return Subscription(
        name=webhook.subscriber,
        sight=Sight(webhook.partition, held=webhook.sees == "held"),
        kinds=frozenset(webhook.events),
        longest=3 * webhook.timeout,  # connection, TLS, answer
        teller=lambda _engine: WebhookTeller(target),
    )


def _target(settings: Settings, webhook: Webhook) -> _Target:
    seconds = webhook.timeout.total_seconds()
    return _Target(
        WebPlace(base=webhook.url, authorization=None, tls=tls_to(settings), accept=_JSON),
        "" if urlsplit(webhook.url).path else "/",
        Timeouts(connect=seconds, acse=seconds, dimse=seconds, network=seconds),
        settings.webhook_keys(webhook.name),
    )
