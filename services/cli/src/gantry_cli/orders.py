"""`gantry orders`: what is on the worklist, and orders from a file."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from gantry_archive.ordering import take_record
from gantry_cli.index import running_index
from gantry_cli.tables import print_table
from gantry_domain.errors import ConfigurationError
from gantry_domain.orders.tables import NoTable, read_records
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import order_, order_step
from gantry_stores.index.orders.reports import count_reports, retry_reports

_HEADINGS = ("ACCESSION", "PARTITION", "MODALITY", "STATIONS", "BEGINS", "STATE")
_OF_REPORTS = ("DESTINATION", "WAITING", "GIVEN UP", "LAST FAILURE")
_MOST_COMPLAINTS = 20


def show_orders(settings: Settings, *, limit: int, over: bool) -> int:
    """Print the scheduled steps that come next as a table; with `over` the latest of all.

    Without names: whoever needs them asks for the worklist.
    """
    step = order_step.c
    begins = (
        sa.func.coalesce(step.scheduled_procedure_step_start_date, ""),
        sa.func.coalesce(step.scheduled_procedure_step_start_time, ""),
    )
    query = sa.select(
        order_.c.accession_number,
        step.partition,
        step.modality,
        step.scheduled_station_ae_title,
        *begins,
        step.state,
    ).join_from(order_step, order_)
    if over:
        query = query.order_by(step.updated_at.desc())
    else:
        query = query.where(step.state.in_(("scheduled", "arrived", "in_progress")))
        query = query.order_by(*begins, step.pk)
    with running_index(settings) as engine, transaction(engine) as connection:
        rows = connection.execute(query.limit(limit + 1)).all()
    if not rows:
        click.echo("there are no orders")
        return 0
    print_table(_HEADINGS, map(_row, rows[:limit]))
    if len(rows) > limit:
        click.echo(f"... and others (--limit {limit})")
    return 0


def _row(row: sa.Row[*tuple[Any, ...]]) -> tuple[str, ...]:
    accession, partition, modality, stations, date, time, state = row
    return (
        accession or "",
        partition,
        modality or "",
        ",".join(stations),
        f"{date} {time[:4]}".strip(),
        state.replace("_", " "),
    )


def import_orders(settings: Settings, file: str, *, partition: str) -> int:
    """Take the orders of a file; 0 if all were taken, else 1. Each is a transaction of its own."""
    records = _records(file)
    refused = 0
    with running_index(settings) as engine:
        for number, record in enumerate(records, start=1):
            now = datetime.now(settings.zone)
            why = take_record(engine, record, partition=partition, now=now)
            if why is not None:
                refused += 1
                if refused <= _MOST_COMPLAINTS:
                    click.echo(f"record {number}: {why}", err=True)
    click.echo(f"{len(records) - refused} of {len(records)} orders taken")
    return 1 if refused else 0


def _records(file: str) -> list[dict[str, str]]:
    """The records of a JSON or CSV file. Raises `ConfigurationError`."""
    try:
        return read_records(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except NoTable as error:
        raise ConfigurationError(f"{file}: {error}") from error


def show_reports(settings: Settings, *, retry: bool, destination: str | None) -> int:
    """Print what waits for each destination, and what was given up; with `retry` send it again."""
    with running_index(settings) as engine:
        if retry:
            with transaction(engine) as connection:
                number = retry_reports(connection, destination, now=datetime.now(UTC))
            click.echo(f"{number} are sent again")
        with transaction(engine) as connection:
            counts = count_reports(connection)
    rows = [
        (title, str(count.waiting), str(count.given_up), count.reason or "")
        for title, count in sorted(counts.items())
        if destination in (None, title)
    ]
    if rows:
        print_table(_OF_REPORTS, rows)
    else:
        click.echo("all performed steps were passed on")
    return 0
