"""`gantry held`: the studies that the policies do not let through, and why."""

import click

from gantry_cli.index import running_index
from gantry_cli.tables import ago, print_table
from gantry_domain.policies.findings import StudyFinding, VerdictKind
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.not_accepted import StudyNotAccepted, studies_not_accepted

_HEADINGS = ("STUDY", "PARTITION", "MODALITY", "INSTANCES", "VERDICT", "SHOWN", "RECEIVED", "WHY")
_KINDS = (VerdictKind.HELD, VerdictKind.REFUSED)


def show_held(settings: Settings, *, limit: int) -> int:
    """Print the newest studies that are held or refused, as a table."""
    with running_index(settings) as engine, transaction(engine) as connection:
        studies = studies_not_accepted(connection, _KINDS, limit=limit + 1)
    if not studies:
        click.echo("no study is held")
        return 0
    print_table(_HEADINGS, map(_row, studies[:limit]))
    if len(studies) > limit:
        click.echo(f"... and older ones (--limit {limit})")
    return 0


def _row(study: StudyNotAccepted) -> tuple[str, ...]:
    return (
        study.StudyInstanceUID,
        study.partition,
        ",".join(study.ModalitiesInStudy),
        str(study.instances),
        study.verdict.value,
        "yes" if study.visible else "no",
        ago(study.last_received_at),
        "; ".join(map(_why, study.findings)),
    )


def _why(finding: StudyFinding) -> str:
    text = f"{finding.rule}: {finding.code.replace('_', ' ')}"
    return f"{text} ({finding.detail})" if finding.detail else text
