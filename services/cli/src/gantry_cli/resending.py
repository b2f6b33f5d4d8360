"""`gantry push --since`: what was received in a time range, to whom has not got it."""

import sys
import threading
import time
from datetime import UTC, datetime

import click
from sqlalchemy.engine import Engine

from gantry_archive.resending import ByRoutes, Resent, Span, To, resend, route_named
from gantry_cli.deliveries import (
    NotDelivered,
    check_destination,
    instances,
    partitions_named,
)
from gantry_cli.index import running_index
from gantry_domain.errors import ConfigurationError
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.range_plans import Progress, progress_of

_SHOW_EVERY = 2.0
_POLL_SECONDS = 0.5


def push_range(
    settings: Settings,
    *,
    since: datetime,
    until: datetime | None,
    to: str | None,
    route: str | None,
    partition: str | None,
    dry_run: bool,
    wait: bool,
) -> int:
    """Plan the deliveries of a time range; with `wait` follow them to their end.

    :raises GantryError: nobody or no route is called so, or (waiting) not all arrived.
    """
    if (to is None) == (route is None):
        raise ConfigurationError("say to whom: --to AE, or --route NAME")
    if to is not None:
        check_destination(settings, to)
    span = Span(
        since=since,
        until=until or datetime.now(UTC),
        partitions=partitions_named(settings, partition),
    )
    where = To(to) if to is not None else ByRoutes([route_named(settings.route_table, route or "")])
    done = Resent()
    shown = time.monotonic()
    with running_index(settings) as engine:
        for reached in resend(engine, span, where, dry_run=dry_run):
            done = reached
            if time.monotonic() >= shown + _SHOW_EVERY:
                shown = time.monotonic()
                _say(f"{instances(done.objects)} of {len(done.studies)} studies looked at")
        click.echo(_told(done, dry_run=dry_run))
        return _follow(engine, sorted(done.deliveries)) if wait and done.deliveries else 0


def _told(done: Resent, *, dry_run: bool) -> str:
    held = f", {len(done.left_out)} of them held or not complete" if done.left_out else ""
    text = f"received: {instances(done.objects)} of {len(done.studies)} studies{held}\n"
    if dry_run:
        return text + f"would be sent: {instances(done.instances)}"
    if not done.deliveries:
        return text + "nothing is missing there"
    number = len(done.deliveries)
    deliveries = "1 delivery" if number == 1 else f"{number} deliveries"
    return text + f"on their way: {instances(done.instances)} in {deliveries}"


def _follow(engine: Engine, pks: list[int]) -> int:
    pause = threading.Event()
    shown_at, shown = float("-inf"), Progress()
    while True:
        with transaction(engine) as connection:
            now = progress_of(connection, pks)
        if now != shown and (time.monotonic() >= shown_at + _SHOW_EVERY or not now.open):
            shown_at, shown = time.monotonic(), now
            _say(f"{now.arrived} of {now.instances} sent, {now.open} deliveries open")
        if not now.open:
            break
        pause.wait(_POLL_SECONDS)
    if now.delivered < len(pks):
        raise NotDelivered(
            f"{now.arrived} of {instances(now.instances)} arrived; see `gantry deliveries list`"
        )
    left = now.instances - now.arrived
    left_out = f" ({left} withheld or of classes that are not taken there)" if left else ""
    click.echo(f"delivered: {instances(now.arrived)}{left_out}")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"gantry: {text}\n")
    sys.stderr.flush()
