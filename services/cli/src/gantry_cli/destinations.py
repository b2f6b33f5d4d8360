"""`gantry destinations`: which partners are sent to, which are paused, which do not answer."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from gantry_cli.index import running_index
from gantry_cli.tables import print_table, span
from gantry_domain.errors import ConfigurationError
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_stores.index import delivery_lists, lanes
from gantry_stores.index.database import transaction
from gantry_stores.index.lanes import LaneLine

_HEADINGS = ("DESTINATION", "STATE", "OPEN", "DEAD", "WHY")


def show_destinations(settings: Settings) -> int:
    """Print each destination, with the deliveries that it still has to get."""
    titles = _titles(settings)
    if not titles:
        click.echo("no partner has an address")
        return 0
    with running_index(settings) as engine, transaction(engine) as connection:
        lines = {line.destination: line for line in lanes.list_lanes(connection)}
        waiting = delivery_lists.backlog(connection, late_after=settings.forward.late_after)
    print_table(_HEADINGS, [_row(title, lines.get(title), waiting) for title in titles])
    return 0


def pause(settings: Settings, title: str, *, drain: bool) -> int:
    """Send nothing to a destination any more. Raises `ConfigurationError` for an unknown one."""
    _check(settings, title)
    with running_index(settings) as engine, transaction(engine) as connection:
        lanes.pause(connection, title, drain=drain)
    rest = "comes to its end" if drain else "ends after its present instance"
    click.echo(f"{title} is paused; what is being sent {rest}")
    return 0


def resume(settings: Settings, title: str) -> int:
    """Send to a destination again. Raises `ConfigurationError` for an unknown one."""
    _check(settings, title)
    with running_index(settings) as engine, transaction(engine) as connection:
        resumed = lanes.resume(connection, title)
    click.echo(f"{title} is sent to again" if resumed else f"{title} was not paused")
    return 0


def _titles(settings: Settings) -> list[str]:
    return [partner.ae_title for partner in settings.partners if partner.takes_deliveries]


def _check(settings: Settings, title: str) -> None:
    known = _titles(settings)
    if title not in known:
        hint = did_you_mean(title, known) if known else "; none is configured"
        raise ConfigurationError(f"no partner with an address is called {title}{hint}")


def _row(
    title: str, line: LaneLine | None, waiting: Sequence[delivery_lists.Backlog]
) -> tuple[str, ...]:
    mine = [each for each in waiting if each.destination == title]
    open_ones = sum(each.number for each in mine if each.state.open)
    dead = sum(each.number for each in mine if each.state.value == "dead")
    state, why = _state(line)
    return title, state, str(open_ones), str(dead), why


def _state(line: LaneLine | None) -> tuple[str, str]:
    if line is None:
        return "sending", ""
    now = datetime.now(UTC)
    if line.paused_at is not None:
        since = span((now - line.paused_at).total_seconds())
        return "drained" if line.drained else "paused", f"for {since}"
    if line.opened_at is not None and line.probe_at is not None:
        since = span((now - line.opened_at).total_seconds())
        after = span(max(0.0, (line.probe_at - now).total_seconds()))
        return "away", f"for {since}: {line.reason}; tried again in {after}"
    return "sending", line.reason or ""
