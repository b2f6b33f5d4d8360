"""`gantry status`: the services as their probes show them, and what is stored and what waits."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import click
import kombu
import redis
import sqlalchemy as sa

from gantry_cli.deliveries import backlog_rows
from gantry_cli.reach import broker_connection
from gantry_cli.service import ask
from gantry_cli.tables import ago
from gantry_domain.errors import ConfigurationError, GantryError
from gantry_domain.learned_quiet import FEWEST_STUDIES
from gantry_domain.policies.findings import VerdictKind
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.delivery_lists import backlog
from gantry_stores.index.pauses import read_pauses
from gantry_stores.index.schema import closed_hour, object_, open_hour, study
from gantry_stores.queue.names import QUEUES

# Counting a hundred million rows would take minutes, and nobody needs the exact number.
_COUNTED = 10_000
STATES = ("primary", "duplicate", "conflict", "unreadable")


def show_status(settings: Settings) -> int:
    """Print the state of the run in this data folder; 0 if all services are ready, else 1.

    :raises ConfigurationError: no service answers at all.
    """
    ports = settings.ports
    wanted = {
        "ingress": ports.ingress_metrics,
        "worker": ports.worker_metrics,
        "query": ports.query_metrics,
        "worklist": ports.worklist_metrics,
    }
    with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
        answers = pool.map(lambda port: _health(settings.listen.address, port), wanted.values())
        found = dict(zip(wanted, answers, strict=True))
    if not any(found.values()):
        raise ConfigurationError(
            f"nothing answers on port {ports.ingress_metrics} of {settings.listen.address}: "
            "Gantry does not run here (GANTRY_PORT_BASE and GANTRY_CONFIG say where to look)"
        )
    rows = [_service_row(name, health) for name, health in found.items()]
    rows.append(("", ""))
    rows.extend(_database_rows(settings))
    rows.extend(_broker_rows(settings))
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        click.echo(f"{label:<{width}}  {value}".rstrip())
    return 0 if all(health and health["ready"] for health in found.values()) else 1


def _health(address: str, port: int) -> dict[str, Any] | None:
    try:
        _, body = ask(address, port, "/readyz")
        told = json.loads(body)
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "processes" in told else None


def _service_row(name: str, health: dict[str, Any] | None) -> tuple[str, str]:
    if health is None:
        return name, "does not answer"
    processes = health["processes"]
    restarts = sum(process["restarts"] for process in processes)
    line = "ready" if health["ready"] else "not ready"
    line += f", {len(processes)} process{'es' if len(processes) > 1 else ''}"
    line += f", {restarts} restart{'s' if restarts > 1 else ''}" if restarts else ""
    waiting = [
        f"{process['name']} {process['state'].replace('_', ' ')}"
        + (f": {process['reason']}" if process["reason"] else "")
        for process in processes
        if process["state"] != "ready" or process["reason"]
    ]
    return name, "; ".join([line, *waiting])


def _database_rows(settings: Settings) -> Iterable[tuple[str, str]]:
    try:
        engine = make_engine(settings.database_url, pool_size=1, application_name="gantry-status")
    except GantryError as error:
        return [("database", str(error))]
    try:
        with transaction(engine) as connection:
            rows = [
                (
                    f"objects, {state}",
                    _many(connection, sa.select(1).where(object_.c.state == state)),
                )
                for state in STATES
            ]
            judged = study.c.judged_revision
            unjudged = sa.select(1).where(judged.is_(None) | (judged < study.c.revision))
            rows.append(("studies", _many(connection, sa.select(1).select_from(study))))
            rows.append(("studies not judged", _many(connection, unjudged)))
            open_ = sa.select(1).where(
                study.c.completed_revision.is_(None)
                | (study.c.completed_revision < study.c.revision)
            )
            rows.append(("studies not complete", _many(connection, open_)))
            rows.extend(
                (
                    f"studies, {verdict.value}",
                    _many(connection, sa.select(1).where(study.c.verdict == verdict.value)),
                )
                for verdict in (VerdictKind.HELD, VerdictKind.REFUSED)
            )
            rows.append(("last indexed", ago(_last_indexed(connection))))
            hours = connection.execute(
                sa.select(sa.func.count(), sa.func.min(open_hour.c.hour))
            ).one()
            oldest = f", the oldest began {ago(hours[1])}" if hours[0] else ""
            rows.append(("open hours", f"{hours[0]}{oldest}"))
            closed = connection.execute(sa.select(sa.func.count()).select_from(closed_hour))
            rows.append(("closed hours", str(closed.scalar_one())))
            rows.extend(_learned_rows(connection, settings))
            rows.extend(backlog_rows(backlog(connection, late_after=settings.forward.late_after)))
    except GantryError as error:
        return [("database", str(error))]
    finally:
        engine.dispose()
    return rows


def _learned_rows(connection: sa.Connection, settings: Settings) -> Iterable[tuple[str, str]]:
    if not settings.complete_after.learn:
        return
    known = read_pauses(connection, [partner.ae_title for partner in settings.partners])
    for title, pauses in sorted(known.items()):
        time = pauses.quiet_time(at_least=settings.complete_after.learned_at_least)
        studies = len(pauses.studies)
        yield (
            f"learned quiet time, {title}",
            f"not known yet ({studies} of {FEWEST_STUDIES} studies)"
            if time is None
            else f"{time.total_seconds():.0f} s ({studies} studies)",
        )


def _many(connection: sa.Connection, rows: sa.Select[tuple[int]]) -> str:
    limited = rows.limit(_COUNTED + 1).subquery()
    count = connection.execute(sa.select(sa.func.count()).select_from(limited)).scalar_one()
    return f"more than {_COUNTED}" if count > _COUNTED else str(count)


def _last_indexed(connection: sa.Connection) -> datetime | None:
    # The newest identifiers are the newest objects: no need to look at all of them.
    newest = sa.select(object_.c.indexed_at).order_by(object_.c.id.desc()).limit(100).subquery()
    found: datetime | None = connection.scalar(sa.select(sa.func.max(newest.c.indexed_at)))
    return found


def _broker_rows(settings: Settings) -> Iterable[tuple[str, str]]:
    rows = []
    try:
        with broker_connection(settings) as connection:
            channel: Any = connection.channel()
            for queue in QUEUES:
                try:
                    depth = channel.queue_declare(queue=queue, passive=True).message_count
                except connection.channel_errors:
                    depth = 0  # no message came yet
                rows.append((f"queue {queue}", f"{depth} messages"))
    except (redis.RedisError, kombu.exceptions.OperationalError, OSError, GantryError):
        return [("broker", "does not answer")]
    return rows
