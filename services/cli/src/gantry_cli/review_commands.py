"""The commands of those who settle what the rules do not let through: `gantry held`, `policy`."""

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from gantry_domain.decisions import DecisionKind
from gantry_runtime.settings import load_settings

_day = click.DateTime(["%Y-%m-%d"])
_study = click.argument("study", metavar="STUDY-UID")
_partition = click.option("--partition", metavar="NAME", help="Where it is, if it is in several.")
_why = click.option("--why", required=True, metavar="TEXT", help="The reason, for the record.")
_by = click.option("--by", metavar="NAME", help="Who decides; else the account that runs this.")


@click.group()
def policy() -> None:
    """The rules by which studies are judged."""


@policy.command()
@_study
@_partition
def explain(*, study: str, partition: str | None) -> int:
    """Show what each rule says of a study, and what follows."""
    from gantry_cli.policies import explain_study

    return explain_study(load_settings(), study, partition=partition)


@policy.command()
@click.option("--since", type=_day, help="Only studies that got an image from then on (UTC).")
@click.option("--policies", "file", metavar="FILE", help="Other rules: `policies` of this YAML.")
def replay(*, since: datetime | None, file: str | None) -> int:
    """Show what the rules would say of what is here. Nothing is changed."""
    from gantry_cli.policies import replay_policies

    return replay_policies(
        load_settings(), since=since.replace(tzinfo=UTC) if since else None, file=file
    )


@click.group()
def held() -> None:
    """Studies that the policies do not let through."""


@held.command(name="list")
@click.option("--limit", default=50, type=click.IntRange(1, 10_000), show_default=True)
def list_held(*, limit: int) -> int:
    """Show the newest held and refused studies, and why they are."""
    from gantry_cli.held import show_held

    return show_held(load_settings(), limit=limit)


@held.command()
@_study
@_partition
def show(*, study: str, partition: str | None) -> int:
    """Show a study beside the orders that may be its own, key by key, and what was decided.

    The values are those of the patient.
    """
    from gantry_cli.held import show_study

    return show_study(load_settings(), study, partition=partition)


@held.command()
@_study
@click.argument("order", metavar="ACCESSION|ORDER-UID")
@_partition
@_why
@_by
def link(*, study: str, order: str, partition: str | None, why: str, by: str | None) -> int:
    """Say which order is the study's: by accession number, or by the order's study UID.

    Its keys are compared all the same.
    """
    return _decide(study, DecisionKind.LINK, partition=partition, why=why, by=by, order=order)


@held.command()
@_study
@click.argument("attributes", metavar="KEYWORD=VALUE...", nargs=-1, required=True)
@_partition
@_why
@_by
def correct(
    *, study: str, attributes: tuple[str, ...], partition: str | None, why: str, by: str | None
) -> int:
    """Put other values in the place of those that a study was sent with: PatientID=A1234563.

    The images stay as they are stored; they go out with the new values, and with the old ones in
    their Original Attributes Sequence. KEYWORD= leaves an attribute without a value.
    """
    values = dict(_pair(text) for text in attributes)
    if len(values) < len(attributes):
        raise click.BadArgumentUsage("an attribute is there twice")
    return _decide(
        study, DecisionKind.CORRECT, partition=partition, why=why, by=by, corrected=values
    )


def _pair(text: str) -> tuple[str, str]:
    keyword, equals, value = text.partition("=")
    if not equals:
        raise click.BadArgumentUsage("attributes are KEYWORD=VALUE")
    return keyword, value


@held.command()
@_study
@click.option("--series", metavar="UID", multiple=True, required=True, help="One or more of it.")
@click.option("--to", metavar="STUDY-UID", help="The study that is to have them.")
@click.option(
    "--new", is_flag=True, help="There is no such study yet; without --to its UID is made."
)
@_partition
@_why
@_by
def move(
    *,
    study: str,
    series: tuple[str, ...],
    to: str | None,
    new: bool,
    partition: str | None,
    why: str,
    by: str | None,
) -> int:
    """Move series of a study to another one, which is there or is made of them.

    They go out with the values of the patient and of that study, and with those before in their
    Original Attributes Sequence. What is moved is undone there.
    """
    from gantry_cli.held import move_series

    if to is None and not new:
        raise click.BadArgumentUsage("say --to STUDY-UID, or --new")
    return move_series(
        load_settings(), study, series=series, to=to, new=new, partition=partition, why=why, by=by
    )


@held.command()
@_study
@_partition
@_why
@_by
def accept(*, study: str, partition: str | None, why: str, by: str | None) -> int:
    """Take the faults that a study has now as they are; another one holds it again."""
    return _decide(study, DecisionKind.ACCEPT, partition=partition, why=why, by=by)


@held.command()
@_study
@_partition
@_why
@_by
def release(*, study: str, partition: str | None, why: str, by: str | None) -> int:
    """In an emergency: show and forward a study, whatever the rules say."""
    return _decide(study, DecisionKind.RELEASE, partition=partition, why=why, by=by)


@held.command()
@_study
@_partition
@_why
@_by
def refuse(*, study: str, partition: str | None, why: str, by: str | None) -> int:
    """Keep a study, hidden from everybody and not forwarded."""
    return _decide(study, DecisionKind.REFUSE, partition=partition, why=why, by=by)


@held.command()
@_study
@_partition
@_why
@_by
def undo(*, study: str, partition: str | None, why: str, by: str | None) -> int:
    """Take back what was decided last of a study."""
    from gantry_cli.held import undo_last

    return undo_last(load_settings(), study, partition=partition, why=why, by=by)


def _decide(
    study: str,
    kind: DecisionKind,
    *,
    partition: str | None,
    why: str,
    by: str | None,
    order: str = "",
    corrected: Mapping[str, str] | None = None,
) -> int:
    from gantry_cli.held import decide_study

    return decide_study(
        load_settings(),
        study,
        kind,
        order=order,
        corrected=corrected,
        partition=partition,
        why=why,
        by=by,
    )
