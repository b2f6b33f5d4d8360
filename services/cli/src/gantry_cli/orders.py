"""`gantry orders`: what is on the worklist, and orders from a file."""

import csv
import io
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson
import sqlalchemy as sa

from gantry_cli.index import running_index
from gantry_cli.tables import print_table
from gantry_domain.errors import ConfigurationError, PermanentError
from gantry_domain.orders.records import order_of
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.order_tables import order_, order_step
from gantry_stores.index.orders.applying import apply_changes

_HEADINGS = ("ACCESSION", "PARTITION", "MODALITY", "STATIONS", "BEGINS", "STATE")
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
            try:
                change = order_of(record)
                with transaction(engine) as connection:
                    now = datetime.now(settings.zone)
                    apply_changes(connection, [change], partition=partition, now=now)
            except PermanentError as error:
                refused += 1
                if refused <= _MOST_COMPLAINTS:
                    click.echo(f"record {number}: {error}", err=True)
    click.echo(f"{len(records) - refused} of {len(records)} orders taken")
    return 1 if refused else 0


def _records(file: str) -> list[dict[str, str]]:
    """The records of a JSON or CSV file. Raises `ConfigurationError`."""
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is no text in UTF-8") from error
    if text.lstrip().startswith(("[", "{")):
        return list(_of_json(file, text))
    return list(_of_csv(file, text))


def _of_json(file: str, text: str) -> Iterator[dict[str, str]]:
    """A list of objects, or one; values are text, numbers, or lists of them."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{file} is no JSON: line {error.lineno}") from error
    for record in document if isinstance(document, list) else [document]:
        if not isinstance(record, dict):
            raise ConfigurationError(f"{file}: write a list of objects, each an order")
        yield {keyword: _text(value) for keyword, value in record.items()}


def _text(value: object) -> str:
    if isinstance(value, list):
        return "\\".join(map(_text, value))
    return "" if value is None else str(value)


def _of_csv(file: str, text: str) -> Iterator[dict[str, str]]:
    """The first line has the keywords; columns are divided by commas or semicolons."""
    head = text.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            if None in record or None in record.values():
                raise ConfigurationError(
                    f"{file}: line {reader.line_num} has not as many columns as the first"
                )
            yield {keyword.strip(): value for keyword, value in record.items()}
    except csv.Error as error:
        raise ConfigurationError(f"{file} is no CSV: line {reader.line_num}") from error
