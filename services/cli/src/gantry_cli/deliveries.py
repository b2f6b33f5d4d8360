"""`gantry push` and `gantry deliveries`: what is on its way to other archives, and a hand in it."""

import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from sqlalchemy.engine import Engine

from gantry_archive.delivery import plan_push
from gantry_cli.index import running_index
from gantry_cli.tables import print_table, span
from gantry_domain.deliveries import DeliveryLevel, DeliveryState, ItemState
from gantry_domain.errors import ConfigurationError, PermanentError
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index.database import transaction

_POLL_SECONDS = 0.2
_SHOW_EVERY = 2.0
_REFUSALS_SHOWN = 20
_PROVED = "proved"
_HEADINGS = ("NUMBER", "TO", "STATE", "ITEMS", "WHAT", "WHY")


class NotDelivered(PermanentError):
    """What was waited for did not arrive as a whole."""


def push(settings: Settings, uid: str, *, to: str, partition: str | None, wait: bool) -> int:
    """Plan the delivery of a study, series or instance; with `wait` follow it to its end.

    :raises GantryError: nothing has this UID, nobody is called so, or (waiting) not all arrived.
    """
    check_destination(settings, to)
    partitions = partitions_named(settings, partition)
    with running_index(settings) as engine:
        pushed = plan_push(engine, uid, to, partitions=partitions)
        line = _line(engine, pushed.pk)
        what = instances(line.items)
        if pushed.level is not DeliveryLevel.INSTANCE:
            what = f"{pushed.level.value} with {what}"
        known = "" if pushed.created else ", which is on its way already"
        click.echo(f"delivery {pushed.pk}: {what} to {to}{known}")
        return _follow(engine, pushed.pk) if wait else 0


def partitions_named(settings: Settings, name: str | None) -> set[str]:
    """All partitions, or the one of this name. Raises `ConfigurationError`."""
    partitions = {each.partition for each in settings.partners} | {"main"}
    if name is not None and name not in partitions:
        raise ConfigurationError(
            f"there is no partition {name}{did_you_mean(name, sorted(partitions))}"
        )
    return partitions if name is None else {name}


def check_destination(settings: Settings, title: str) -> None:
    """Raises `ConfigurationError` if it is no partner that can be sent to."""
    known = [partner.ae_title for partner in settings.partners if partner.takes_deliveries]
    if title not in known:
        hint = did_you_mean(title, known) if known else "; none is configured"
        raise ConfigurationError(f"no partner with an address is called {title}{hint}")


def show_deliveries(
    settings: Settings, *, states: Sequence[str], destination: str | None, limit: int
) -> int:
    """Print the newest deliveries as a table."""
    selection = lists.Selection(
        states=[DeliveryState(state) for state in states] or None, destination=destination
    )
    with running_index(settings) as engine, transaction(engine) as connection:
        lines = lists.list_deliveries(connection, selection, limit=limit + 1)
    if not lines:
        click.echo("no deliveries")
        return 0
    print_table(_HEADINGS, map(_row, lines[:limit]))
    if len(lines) > limit:
        click.echo(f"... and older ones (--limit {limit})")
    return 0


def show_delivery(settings: Settings, number: int) -> int:
    """Print one delivery, and of its instances those that did not arrive.

    :raises GantryError: there is no such delivery.
    """
    troubled = [ItemState.REFUSED, ItemState.WITHHELD, ItemState.FAILED, ItemState.WARNED]
    with running_index(settings) as engine:
        line = _line(engine, number)
        with transaction(engine) as connection:
            items = lists.list_items(connection, number, states=troubled, limit=_REFUSALS_SHOWN + 1)
    click.echo(
        f"delivery {line.pk} to {line.destination} ({line.origin}), partition {line.partition}"
    )
    click.echo(f"{line.level.value} {line.uid}")
    click.echo(f"{_state(line)}{f': {line.reason}' if line.reason else ''}")
    if line.proof not in (None, _PROVED):
        click.echo(_without_proof(line))
    click.echo(
        f"{line.sent} of {instances(line.items)} arrived"
        f"{f', {line.warned} with a warning' if line.warned else ''}"
        f"{f', {line.refused} refused' if line.refused else ''}"
        f"{f', {line.withheld} withheld' if line.withheld else ''}"
    )
    for item in items[:_REFUSALS_SHOWN]:
        click.echo(f"  {item.SOPInstanceUID}  {item.state.value}: {item.reason or ''}".rstrip())
    if len(items) > _REFUSALS_SHOWN:
        click.echo("  ...")
    return 0


def retry_deliveries(
    settings: Settings, *, numbers: Sequence[int], states: Sequence[str], destination: str | None
) -> int:
    """Make failed, dead or cancelled deliveries due now, and say which."""
    with running_index(settings) as engine, transaction(engine) as connection:
        pks = lists.retry(connection, _selection(numbers, states, destination))
    return _told("due again", pks)


def cancel_deliveries(
    settings: Settings, *, numbers: Sequence[int], states: Sequence[str], destination: str | None
) -> int:
    """Cancel open deliveries, and say which."""
    with running_index(settings) as engine, transaction(engine) as connection:
        pks = lists.cancel(connection, _selection(numbers, states, destination))
    return _told("cancelled", pks)


def backlog_rows(lines: Sequence[lists.Backlog]) -> list[tuple[str, str]]:
    """What is not delivered, for `gantry status`: label and text."""
    now = datetime.now(UTC)
    rows = []
    for state in (
        DeliveryState.WAITING,
        DeliveryState.SENDING,
        DeliveryState.FAILED,
        DeliveryState.DEAD,
    ):
        found = [line for line in lines if line.state is state]
        text = str(sum(line.number for line in found))
        if found:
            places = ", ".join(f"{line.destination} {line.number}" for line in found)
            text += f" ({places})"
            if state.open:
                oldest = (now - min(line.oldest for line in found)).total_seconds()
                text += f", the oldest for {span(oldest)}"
        rows.append((f"deliveries, {state.value}", text))
    late = [line for line in lines if line.late]
    text = str(sum(line.late for line in late))
    if late:
        text += f" ({', '.join(f'{line.destination} {line.late}' for line in late)})"
    rows.append(("deliveries, late", text))
    return rows


def _selection(
    numbers: Sequence[int], states: Sequence[str], destination: str | None
) -> lists.Selection:
    if not numbers and not states and destination is None:
        raise ConfigurationError("say which: their numbers, --state or --to")
    return lists.Selection(
        pks=numbers or None,
        states=[DeliveryState(state) for state in states] or None,
        destination=destination,
    )


def _told(what: str, pks: Sequence[int]) -> int:
    if not pks:
        click.echo("none of these deliveries can be")
        return 1
    click.echo(f"{what}: {', '.join(map(str, pks))}")
    return 0


def _row(line: lists.DeliveryLine) -> tuple[str, ...]:
    why = line.reason or ""
    if line.state is DeliveryState.FAILED:
        wait = (line.next_attempt_at - datetime.now(UTC)).total_seconds()
        why += f"; attempt {line.attempts + 1} in {span(max(0.0, wait))}"
    elif line.state is DeliveryState.DELIVERED:
        unproved = [] if line.proof in (None, _PROVED) else [_without_proof(line)]
        why = "; ".join([*filter(None, [line.reason]), *unproved])
    elif line.refusal:
        why += f": {line.refusal}"
    return (
        str(line.pk),
        line.destination,
        _state(line),
        f"{line.sent}/{line.items}",
        f"{line.level.value} {line.uid}",
        why,
    )


def _state(line: lists.DeliveryLine) -> str:
    proved = line.state is DeliveryState.DELIVERED and line.proof == _PROVED
    return _PROVED if proved else line.state.value


def _without_proof(line: lists.DeliveryLine) -> str:
    if line.proof == "failed":
        return f"without proof: {line.proof_reason}"
    return "not proved yet" + (f": {line.proof_reason}" if line.proof_reason else "")


def _follow(engine: Engine, pk: int) -> int:
    overwrites = sys.stderr.isatty()
    shown = ""
    shown_at = float("-inf")
    pause = threading.Event()
    while True:
        line = _line(engine, pk)
        text = f"gantry: {line.sent} of {line.items} sent, {line.state.value}"
        if line.reason:
            text += f": {line.reason}"
        due = time.monotonic() >= shown_at + (0.0 if overwrites else _SHOW_EVERY)
        if text != shown and (due or not line.state.open):
            sys.stderr.write(f"\r\x1b[K{text}" if overwrites else f"{text}\n")
            sys.stderr.flush()
            shown, shown_at = text, time.monotonic()
        if not line.state.open:
            break
        pause.wait(_POLL_SECONDS)
    if overwrites:
        sys.stderr.write("\n")
    if line.state is not DeliveryState.DELIVERED:
        why = f": {line.refusal}" if line.refusal else ""
        raise NotDelivered(
            f"delivery {pk} is {line.state.value}, {line.sent} of {line.items} arrived"
            f" ({line.reason or 'no reason'}{why})"
        )
    left_out = f" ({line.reason})" if line.reason else ""
    click.echo(f"delivered: {instances(line.sent)}{left_out}")
    return 0


def _line(engine: Engine, pk: int) -> lists.DeliveryLine:
    with transaction(engine) as connection:
        lines = lists.list_deliveries(connection, lists.Selection(pks=[pk]), limit=1)
    if not lines:
        raise ConfigurationError(f"there is no delivery {pk}")
    return lines[0]


def instances(number: int) -> str:
    """In words."""
    return f"{number} instance{'' if number == 1 else 's'}"
