"""`gantry subscribers`: who is told of events, how far each is, which are paused or away."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from sqlalchemy.engine import Connection

from gantry_cli.index import running_index
from gantry_cli.tables import ago, print_table, span
from gantry_domain.errors import ConfigurationError
from gantry_runtime.names import did_you_mean
from gantry_runtime.settings import Settings
from gantry_stores.index import subscribers as rows
from gantry_stores.index.database import transaction
from gantry_stores.index.subscribers import SubscriberLine

_HEADINGS = ("SUBSCRIBER", "STATE", "POSITION", "TOLD", "BEHIND", "ASIDE", "REFUSED", "WHY")


def show_subscribers(settings: Settings) -> int:
    """Print each subscriber, with what it was not told yet."""
    names = settings.subscribers
    if not names:
        click.echo("nobody is told of events")
        return 0
    with running_index(settings) as engine, transaction(engine) as connection:
        lines = {line.name: line for line in rows.list_subscribers(connection, names)}
    print_table(_HEADINGS, [_row(name, lines.get(name)) for name in names])
    return 0


def pause(settings: Settings, name: str) -> int:
    """Tell a subscriber nothing any more. Raises `ConfigurationError` for an unknown one."""
    with _steering(settings, name) as connection:
        rows.pause_subscriber(connection, name)
    click.echo(f"{name} is paused; it is told of everything when it is resumed")
    return 0


def resume(settings: Settings, name: str) -> int:
    """Tell a subscriber again. Raises `ConfigurationError` for an unknown one."""
    with _steering(settings, name) as connection:
        resumed = rows.resume_subscriber(connection, name)
    click.echo(f"{name} is told again" if resumed else f"{name} was not paused")
    return 0


def replay(settings: Settings, name: str, *, after: int) -> int:
    """Tell it all after this number again. Raises `ConfigurationError` for an unknown one."""
    with _steering(settings, name) as connection:
        rows.replay(connection, name, after=after)
    click.echo(f"{name} is told again what came after {after}")
    return 0


def retry(settings: Settings, name: str) -> int:
    """Tell it what it refused again. Raises `ConfigurationError` for an unknown one."""
    with _steering(settings, name) as connection:
        number = rows.retry_refused(connection, name)
    click.echo(f"{number} events are told to {name} again")
    return 0


@contextmanager
def _steering(settings: Settings, name: str) -> Iterator[Connection]:
    known = settings.subscribers
    if name not in known:
        hint = did_you_mean(name, known) if known else "; none is configured"
        raise ConfigurationError(f"no subscriber is called {name}{hint}")
    with running_index(settings) as engine, transaction(engine) as connection:
        # It may be that no worker has seen the configuration yet.
        rows.add_subscribers(connection, [name])
        yield connection


def _row(name: str, line: SubscriberLine | None) -> tuple[str, ...]:
    if line is None:
        return name, "new", "", "never", "", "", "", "no worker has seen it yet"
    now = datetime.now(UTC)
    state, why = ("away", line.reason or "") if line.failures else ("told", line.reason or "")
    if line.paused_at is not None:
        state, why = "paused", f"for {span((now - line.paused_at).total_seconds())}"
    elif line.failures:
        why += f"; tried again in {span(max(0.0, (line.due_at - now).total_seconds()))}"
    behind = span((now - line.behind).total_seconds()) if line.behind else ""
    told, aside, refused = ago(line.told_at), str(line.aside), str(line.refused)
    return name, state, str(line.position), told, behind, aside, refused, why
