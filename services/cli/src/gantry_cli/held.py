"""`gantry held`: the studies that the policies do not let through, why, and what people decide."""

import getpass
from collections.abc import Collection, Mapping
from datetime import datetime

import click
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider, decider_of
from gantry_archive.rejecting import rejecting_of
from gantry_archive.rejudging import order_feed
from gantry_archive.reviewing import review
from gantry_cli.index import running_index
from gantry_cli.policies import print_explanation, the_study
from gantry_cli.tables import ago, print_table
from gantry_domain.decisions import DecisionKind
from gantry_domain.policies import side_by_side
from gantry_domain.policies.findings import StudyFinding, VerdictKind
from gantry_domain.uids import new_uid
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.decisions import DecisionLine
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.index.not_accepted import StudyNotAccepted, studies_not_accepted
from gantry_stores.index.rejections import holders
from gantry_stores.objects import open_store

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


def show_study(settings: Settings, StudyInstanceUID: str, *, partition: str | None) -> int:
    """Print a study beside its candidate orders, what the rules say, and what was decided."""
    with running_index(settings) as engine:
        study = _find(settings, engine, StudyInstanceUID, partition)
        with transaction(engine) as connection:
            candidates, lines = review(connection, study)
    names = [section.rule for section in settings.policies]
    print_explanation(study, settings.policy_set, names)
    headings = ["KEY", "STUDY", *(f"ORDER {n}" for n in range(1, len(candidates) + 1))]
    print_table(headings, side_by_side.rows(study.evidence, candidates))
    for number, candidate in enumerate(candidates, start=1):
        click.echo(f"order {number}: {candidate.why}")
    if not candidates:
        click.echo("no order has one of its numbers, or is the same patient's at about that time")
    if lines:
        print_table(("DECIDED", "WHAT", "BY", "WHY", "UNDONE"), map(_decided, lines))
    return 0


def _decided(line: DecisionLine) -> tuple[str, ...]:
    made, undone = line.decision, line.undone
    what = [made.kind.value, *made.corrected]
    if made.series:
        what = [made.kind.value, *sorted(made.series), "to", made.StudyInstanceUID]
    return (
        _moment(made.decided_at),
        " ".join(what),
        made.decided_by,
        made.reason,
        f"{_moment(undone.undone_at)} by {undone.undone_by}: {undone.reason}" if undone else "",
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def decide_study(
    settings: Settings,
    StudyInstanceUID: str,
    kind: DecisionKind,
    *,
    order: str = "",
    corrected: Mapping[str, str] | None = None,
    partition: str | None,
    why: str,
    by: str | None,
) -> int:
    """Decide of a study, and print what follows."""
    with running_index(settings) as engine:
        study = _find(settings, engine, StudyInstanceUID, partition)
        decider = _decider(settings, engine)
        verdict = decider.decide(
            study, kind, order=order, corrected=corrected, by=by or _account(), reason=why
        )
        follows = "will be judged" if verdict is None else f"is {verdict.value} now"
        click.echo(f"{kind.value}: the study {follows}")
        if kind is DecisionKind.REFUSE:
            _print_holders(settings, engine, study)
    return 0


def _print_holders(settings: Settings, engine: Engine, study: JudgedStudy) -> None:
    """Who has what is refused."""
    told = rejecting_of(settings).titles.keys()
    with transaction(engine) as connection:
        found = holders(
            connection, partition=study.partition, StudyInstanceUID=study.StudyInstanceUID
        )
    for destination, instances in sorted(found.items()):
        what = "gets a rejection note" if destination in told else "is not told (rejection_notes)"
        click.echo(f"{destination} has {len(instances)} of its instances, and {what}")


def move_series(
    settings: Settings,
    StudyInstanceUID: str,
    *,
    series: Collection[str],
    to: str | None,
    new: bool,
    partition: str | None,
    why: str,
    by: str | None,
) -> int:
    """Move series of a study to another, and print what follows."""
    to = to or new_uid()
    with running_index(settings) as engine:
        study = _find(settings, engine, StudyInstanceUID, partition)
        decider = _decider(settings, engine)
        verdict = decider.move(
            study, series=series, to=to, new=new, by=by or _account(), reason=why
        )
    follows = "will be judged" if verdict is None else f"is {verdict.value} now"
    click.echo(f"move: {len(set(series))} series are in {to}, which {follows}")
    return 0


def undo_last(
    settings: Settings, StudyInstanceUID: str, *, partition: str | None, why: str, by: str | None
) -> int:
    """Take back what was decided last, and print what that was."""
    with running_index(settings) as engine:
        study = _find(settings, engine, StudyInstanceUID, partition)
        undone = _decider(settings, engine).undo_last(study, by=by or _account(), reason=why)
        with transaction(engine) as connection:
            left = find_judged(connection, StudyInstanceUID, partition=study.partition)
    if not left:
        follows = "has nothing any more"
    else:
        now = left[0].verdict
        follows = "will be judged" if now is None else f"is {now.value} now"
    click.echo(f"undone: {undone.kind.value} by {undone.decided_by}; the study {follows}")
    return 0


def _find(
    settings: Settings, engine: Engine, StudyInstanceUID: str, partition: str | None
) -> JudgedStudy:
    with transaction(engine) as connection:
        return the_study(
            find_judged(
                connection, StudyInstanceUID, partition=partition, feed=order_feed(settings)
            )
        )


def _decider(settings: Settings, engine: Engine) -> Decider:
    return decider_of(settings, store=open_store(settings.objects_place), engine=engine)


def _account() -> str:
    return f"{getpass.getuser()} at the command line"
