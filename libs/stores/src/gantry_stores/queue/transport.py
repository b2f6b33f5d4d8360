"""Kombu's Redis transport, but for one thing: an acknowledgement that fails gives its place back.

A worker takes no more messages than its prefetch count unacknowledged. Kombu keeps a message among
those when its acknowledgement fails because the broker has died; with as many as the prefetch count
the worker then reads no more, so never learns that its connection is gone, and stands still for
ever. The message itself is safe: if the broker still has it, it comes again after the visibility
timeout, and a task may run twice.
"""

from typing import Any

from kombu import transport
from kombu.transport import TRANSPORT_ALIASES, redis, virtual


class _QoS(redis.QoS):
    def ack(self, delivery_tag: Any) -> None:
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)


class _Channel(redis.Channel):
    QoS = _QoS


class Transport(redis.Transport):
    """What `redis://`, `rediss://` and `redis+socket://` stand for in this process."""

    Channel = _Channel


class _SentinelChannel(redis.SentinelChannel):
    QoS = _QoS


class SentinelTransport(redis.SentinelTransport):
    """What `sentinel://` stands for in this process."""

    Channel = _SentinelChannel


def use_transport() -> None:
    """Lets kombu take this transport for URLs of Redis; no setting of Celery's reaches it."""
    for scheme, ours in (
        ("redis", Transport),
        ("rediss", Transport),
        ("sentinel", SentinelTransport),
    ):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{ours.__name__}"
        # What the process may have looked up before would stand for ever.
        vars(transport)["_transport_cache"].pop(scheme, None)
