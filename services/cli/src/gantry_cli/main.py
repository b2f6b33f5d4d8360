"""The `gantry` command: its subcommands, and the door where every failure becomes one line.

Each command imports what it needs when it runs: all of it together takes seconds.
"""

import sys
from datetime import UTC, datetime

import click

from gantry_cli.conformance_commands import conformance
from gantry_cli.destination_commands import destinations
from gantry_cli.media_commands import export, import_
from gantry_cli.order_commands import orders
from gantry_cli.review_commands import held, policy
from gantry_cli.subscriber_commands import subscribers
from gantry_domain.deliveries import DeliveryState
from gantry_domain.errors import ConfigurationError
from gantry_runtime.entry import run
from gantry_runtime.settings import load_settings

_EPILOG = (
    "GANTRY_CONFIG names the YAML configuration, GANTRY_DATA the folder of the embedded stores, "
    "GANTRY_PORT_BASE (0, 100, ... 20000) is added to every port. "
    "GANTRY_DATABASE_PASSWORD and GANTRY_BROKER_PASSWORD hold the secrets."
)


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gantry-cli", message="gantry %(version)s")
def commands() -> None:
    """Gantry, a mini-PACS of small services."""


@commands.command()
@click.option("--demo", is_flag=True, help="Send a few studies and show each one's way.")
@click.option("--logs", is_flag=True, help="Show the services' logs here too.")
def up(*, demo: bool, logs: bool) -> int:
    """Run everything in the foreground until Ctrl-C or SIGTERM.

    PostgreSQL, Redis and the object store are embedded unless the configuration names others.
    The logs of the services are in the data folder's `logs`.
    """
    settings = load_settings()
    from gantry_cli.up import up as run_up

    return run_up(settings, demo=demo, echo_logs=logs)


@commands.command(context_settings={"ignore_unknown_options": True})
@click.option("--slow", "slow_ones", is_flag=True, help="Run what takes tens of seconds too.")
@click.option("--long", "long_ones", is_flag=True, help="Run the proofs that take minutes too.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test(*, slow_ones: bool, long_ones: bool, arguments: tuple[str, ...]) -> int:
    """Run the checks and tests; with arguments only pytest with these."""
    from gantry_cli.testing import run_tests

    return run_tests(arguments, slow=slow_ones, long=long_ones)


@commands.command()
def migrate() -> int:
    """Bring the database to the schema of this version."""
    from gantry_cli.up import database_running
    from gantry_stores.index import migrations

    settings = load_settings()
    with database_running(settings):
        migrations.upgrade(settings.database_url)
    click.echo("the database has the newest schema")
    return 0


@commands.command()
def reindex() -> int:
    """Fill an empty index from the object store."""
    from gantry_cli.reindexing import run_reindex
    from gantry_cli.up import database_running
    from gantry_stores.index import migrations

    settings = load_settings()
    with database_running(settings):
        migrations.upgrade(settings.database_url)
        return run_reindex(settings)


@commands.command()
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only what came from then on (UTC)."
)
@click.option("--without-index", is_flag=True, help="Only what the store itself can tell.")
def verify(*, since: datetime | None, without_index: bool) -> int:
    """Read every object again, and show those that are missing or changed."""
    from gantry_cli.verifying import run_verify

    return run_verify(
        load_settings(),
        since=since.replace(tzinfo=UTC) if since else None,
        with_index=not without_index,
    )


@commands.command()
@click.argument("ae", metavar="AE")
def echo(*, ae: str) -> int:
    """Send a C-ECHO to the partner AE of the configuration, or to AE@HOST:PORT."""
    from gantry_cli.echo import echo as send_echo
    from gantry_cli.echo import peer

    called = peer(load_settings(), ae)
    took = send_echo(called)
    click.echo(
        f"{called.ae_title}@{called.host}:{called.port} answered Success in {took * 1000:.1f} ms"
    )
    return 0


@commands.command()
def status() -> int:
    """Show the services, what waits, and what is stored."""
    settings = load_settings()
    from gantry_cli.status import show_status

    return show_status(settings)


_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@commands.command()
@click.argument("uid", metavar="[STUDY|SERIES|INSTANCE-UID]", required=False)
@click.option("--to", metavar="AE", help="The partner that it is sent to.")
@click.option("--partition", metavar="NAME", help="Where to look, if the UID is not unique.")
@click.option("--since", type=_moment, help="Without a UID: what was received from then on (UTC),")
@click.option("--until", type=_moment, help="and before that; by default until now.")
@click.option("--route", metavar="NAME", help="To where this route sends it, instead of --to.")
@click.option("--dry-run", is_flag=True, help="Count what would be sent, and send nothing.")
@click.option("--wait", is_flag=True, help="Follow the deliveries to their end.")
def push(
    *,
    uid: str | None,
    to: str | None,
    partition: str | None,
    since: datetime | None,
    until: datetime | None,
    route: str | None,
    dry_run: bool,
    wait: bool,
) -> int:
    """Send a study, a series or one instance to a partner; or of a time range what it has not."""
    if uid is None and since is not None:
        from gantry_cli.resending import push_range

        return push_range(
            load_settings(),
            since=since.replace(tzinfo=UTC),
            until=until and until.replace(tzinfo=UTC),
            to=to,
            route=route,
            partition=partition,
            dry_run=dry_run,
            wait=wait,
        )
    if uid is None or to is None or since or until or route or dry_run:
        raise click.UsageError("say what and to whom: UID --to AE, or --since with --to or --route")
    from gantry_cli.deliveries import push as run_push

    return run_push(load_settings(), uid, to=to, partition=partition, wait=wait)


_day = click.DateTime(["%Y-%m-%d"])


@commands.command()
@click.option("--from", "source", required=True, metavar="AE", help="A partner, or AE@HOST:PORT.")
@click.option("--since", type=_day, help="The first Study Date; a C-FIND for each day from it.")
@click.option("--until", type=_day, help="The last Study Date.")
@click.option("--modality", default="", help="Only studies with this modality, such as CT.")
@click.option("--to", metavar="AE", help="Which of our AE titles it knows; else the first.")
@click.option("--at-once", default=2, type=click.IntRange(1, 16), show_default=True)
@click.option("--dry-run", is_flag=True, help="Only show what would be fetched.")
def pull(
    *,
    source: str,
    since: datetime | None,
    until: datetime | None,
    modality: str,
    to: str | None,
    at_once: int,
    dry_run: bool,
) -> int:
    """Fetch another archive's studies that are not here (C-FIND, C-MOVE).

    May be ended and started again: what is here is not fetched twice.
    """
    from gantry_archive.pulling import Wanted
    from gantry_cli.pull import pull as run_pull

    wanted = Wanted(
        since=since.date() if since else None,
        until=until.date() if until else None,
        modality=modality.upper(),
    )
    return run_pull(load_settings(), source, wanted, to=to, at_once=at_once, dry_run=dry_run)


commands.add_command(destinations)
commands.add_command(subscribers)
commands.add_command(held)
commands.add_command(policy)


@commands.group()
def deleted() -> None:
    """What people deleted, until it is purged."""


@deleted.command(name="list")
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), show_default=True)
def list_deleted(*, limit: int) -> int:
    """Show what was deleted last, by whom, and how long it can still be taken back."""
    from gantry_cli.deleted import show_deleted

    return show_deleted(load_settings(), limit=limit)


@deleted.command()
@click.argument("study", metavar="STUDY-UID")
@click.option("--partition", metavar="NAME", help="Where it was, if it was in several.")
def restore(*, study: str, partition: str | None) -> int:
    """Take back all that was deleted of a study."""
    from gantry_cli.deleted import restore_deleted

    return restore_deleted(load_settings(), study, partition=partition)


@commands.group()
def deliveries() -> None:
    """What is on its way to other archives."""


_STATES = click.Choice([state.value for state in DeliveryState])
_state = click.option("--state", "states", multiple=True, type=_STATES, help="Only these.")
_to = click.option("--to", "destination", metavar="AE", help="Only those to this partner.")
_numbers = click.argument("numbers", nargs=-1, type=int, metavar="[NUMBER]...")


@deliveries.command(name="list")
@_state
@_to
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), show_default=True)
def list_deliveries(*, states: tuple[str, ...], destination: str | None, limit: int) -> int:
    """Show the newest deliveries."""
    from gantry_cli.deliveries import show_deliveries

    return show_deliveries(load_settings(), states=states, destination=destination, limit=limit)


@deliveries.command()
@click.argument("number", type=int)
def show(*, number: int) -> int:
    """Show one delivery and what of it did not arrive."""
    from gantry_cli.deliveries import show_delivery

    return show_delivery(load_settings(), number)


@deliveries.command()
@_numbers
@_state
@_to
def retry(*, numbers: tuple[int, ...], states: tuple[str, ...], destination: str | None) -> int:
    """Try failed, dead or cancelled deliveries again, now.

    Of delivered ones, by number or `--state delivered`, what was refused for its class is.
    """
    from gantry_cli.deliveries import retry_deliveries

    return retry_deliveries(
        load_settings(), numbers=numbers, states=states, destination=destination
    )


@deliveries.command()
@_numbers
@_state
@_to
def cancel(*, numbers: tuple[int, ...], states: tuple[str, ...], destination: str | None) -> int:
    """Cancel deliveries that are not over."""
    from gantry_cli.deliveries import cancel_deliveries

    return cancel_deliveries(
        load_settings(), numbers=numbers, states=states, destination=destination
    )


commands.add_command(orders)
commands.add_command(export)
commands.add_command(import_)
commands.add_command(conformance)


def main() -> None:
    """The entry point; ends the process."""
    sys.exit(run(_invoke))


def _invoke() -> int:
    try:
        result = commands.main(prog_name="gantry", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.ClickException as error:
        raise ConfigurationError(f"{error.format_message()} (see gantry --help)") from error
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0
