"""Looks before it leaps: are the ports free, do the database and the broker answer."""

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import kombu
import psycopg
import redis

from gantry_cli.service import listeners
from gantry_domain.errors import ConfigurationError
from gantry_runtime.listening import listen
from gantry_runtime.settings import Settings
from gantry_stores.queue.address import broker_address

_CONNECT_SECONDS = 3
_LOOK_AGAIN = 0.25


def _never() -> None:
    """No reason to give up early."""


def check_ports(settings: Settings, *, patience: float) -> None:
    """Every port that the services will open is free, or becomes so within `patience` seconds.

    :raises ConfigurationError: one is not.
    """
    deadline = time.monotonic() + patience
    never = threading.Event()
    for port, purpose in listeners(settings):
        while True:
            try:
                listen(settings.listen.address, port, purpose).close()
            except ConfigurationError:
                if time.monotonic() > deadline:
                    raise
                never.wait(_LOOK_AGAIN)
            else:
                break


def await_database(
    settings: Settings, *, patience: float, unless: Callable[[], None] = _never
) -> None:
    """The database that the configuration names answers within `patience` seconds.

    `unless` is called before each attempt and may raise.

    :raises ConfigurationError: it does not; where, and what the driver said.
    """
    url = settings.database_url.replace("postgresql+psycopg:", "postgresql:", 1)
    deadline = time.monotonic() + patience
    never = threading.Event()
    while True:
        unless()
        try:
            psycopg.connect(url, connect_timeout=_CONNECT_SECONDS).close()
        except psycopg.Error as error:
            if time.monotonic() > deadline:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                said = lines[-1] if lines else type(error).__name__
                raise ConfigurationError(
                    f"the database at {_place(settings.database)} cannot be reached: {said}"
                ) from error
            never.wait(_LOOK_AGAIN)
        else:
            return


def await_broker(
    settings: Settings, *, patience: float, unless: Callable[[], None] = _never
) -> None:
    """The broker that the configuration names answers within `patience` seconds.

    `unless` is called before each attempt and may raise.

    :raises ConfigurationError: it does not; where, and what the driver said.
    """
    deadline = time.monotonic() + patience
    never = threading.Event()
    while True:
        unless()
        try:
            with broker_connection(settings) as connection:
                connection.channel()  # which pings
        except (redis.RedisError, kombu.exceptions.OperationalError, OSError) as error:
            if time.monotonic() > deadline:
                said = str(error).splitlines()
                raise ConfigurationError(
                    f"the broker at {_place(settings.broker)} cannot be reached: "
                    f"{said[0] if said else type(error).__name__}"
                ) from error
            never.wait(_LOOK_AGAIN)
        else:
            return


def broker_connection(settings: Settings) -> kombu.Connection:
    """A connection to the broker that gives up soon."""
    address = broker_address(settings.broker_url)
    return kombu.Connection(
        address.url,
        ssl=address.tls or False,
        connect_timeout=_CONNECT_SECONDS,
        transport_options={
            **address.options,
            "socket_timeout": _CONNECT_SECONDS,
            "socket_connect_timeout": _CONNECT_SECONDS,
            "max_retries": 1,
        },
    )


def _place(url: str | None) -> str:
    """Where a URL leads, without user and password."""
    if url is None:
        return "the data folder"
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
