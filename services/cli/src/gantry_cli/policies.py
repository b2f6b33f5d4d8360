"""`gantry policy`: why a study is judged as it is, and what other rules would say."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from gantry_archive.rejudging import order_feed
from gantry_archive.replaying import Replay, replay
from gantry_cli.index import running_index
from gantry_cli.tables import print_table
from gantry_domain.errors import ConfigurationError
from gantry_domain.policies.findings import Action, RuleOutcome, Severity
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_runtime.configuration import read_yaml, validated
from gantry_runtime.file_section import Configuration
from gantry_runtime.settings import Settings
from gantry_stores.index.database import transaction
from gantry_stores.index.judged_studies import JudgedStudy, find_judged

_RULES = ("RULE", "ACTION", "OUTCOME", "FINDING", "DETAIL")


def the_study(found: list[JudgedStudy]) -> JudgedStudy:
    """The only one that was found. Raises `ConfigurationError`."""
    if not found:
        raise ConfigurationError("there is no such study")
    if len(found) > 1:
        names = " or ".join(each.partition for each in found)
        raise ConfigurationError(f"it is in several partitions: add --partition {names}")
    return found[0]


def explain_study(settings: Settings, StudyInstanceUID: str, *, partition: str | None) -> int:
    """Print what each rule of the configuration says of a study, and what follows."""
    policies = settings.policy_set
    with running_index(settings) as engine, transaction(engine) as connection:
        study = the_study(
            find_judged(
                connection, StudyInstanceUID, partition=partition, feed=order_feed(settings)
            )
        )
    print_explanation(study, policies, [section.rule for section in settings.policies])
    return 0


def print_explanation(study: JudgedStudy, policies: PolicySet, names: Sequence[str]) -> None:
    """Print it; `names` are those of the rules. Without values of the patient."""
    stored = "not judged yet" if study.verdict is None else study.verdict.value
    click.echo(f"it is {stored}, and clinicians {'see' if study.visible else 'do not see'} it")
    verdict = policies.judge(study.evidence, was_visible=study.visible)
    click.echo(f"the rules of the configuration say: {verdict.kind.value}")
    standing = study.evidence.standing
    for word, stands in (
        ("released in an emergency", standing.released),
        ("refused", standing.refused),
        ("linked to an order", bool(standing.linked)),
        (f"{len(standing.accepted)} faults accepted", bool(standing.accepted)),
    ):
        if stands:
            click.echo(f"a person decided: {word}")
    match = PatientIdentity(Action.WARN).match(study.evidence)
    by = f", found by {match.found}" if match.found else ""
    click.echo(f"its order: {match.state.value}{by}")
    if not names:
        click.echo("there are no rules")
        return
    rows = [
        row
        for name, rule in zip(names, policies.rules, strict=True)
        for row in _rows(name, rule.judge(study.evidence), standing.accepted)
    ]
    print_table(_RULES, rows)


def _rows(
    name: str, outcome: RuleOutcome, accepted: frozenset[tuple[str, str]]
) -> list[tuple[str, ...]]:
    action = outcome.action.value
    if not outcome.findings:
        return [(name, action, "fine, or not for this study", "", "")]
    said = {Severity.INFO: "fine"}
    return [
        (
            name,
            action,
            "accepted"
            if (finding.rule, finding.code) in accepted
            else said.get(finding.severity, "holds" if outcome.action is Action.HOLD else "warns"),
            finding.code.replace("_", " "),
            finding.detail,
        )
        for finding in outcome.findings
    ]


def replay_policies(settings: Settings, *, since: datetime | None, file: str | None) -> int:
    """Print what the rules of the configuration, or of another file, would say of what is here."""
    policies = settings.policy_set if file is None else _policies_of(Path(file))
    with running_index(settings) as engine:
        done = replay(engine, policies, since=since, feed=order_feed(settings), progress=_progress)
    click.echo(f"{done.studies} studies", err=True)
    _print_replay(done)
    return 0


def _policies_of(file: Path) -> PolicySet:
    document = read_yaml(file)
    only = {"policies": document["policies"]} if "policies" in document else {}
    return validated(Configuration, only, file).policy_set


def _progress(done: Replay) -> None:
    if done.studies % 10_000 == 0:
        click.echo(f"{done.studies} studies so far", err=True)


def _print_replay(done: Replay) -> None:
    print_table(
        ("IS", "WOULD BE", "STUDIES"),
        sorted(
            (before.value if before else "not judged", after.value, str(number))
            for (before, after), number in done.verdicts.items()
        ),
    )
    click.echo(f"clinicians see {done.hidden} that they would not have seen")
    if done.faults:
        print_table(
            ("RULE", "FAULT", "STUDIES"),
            (
                (rule, code.replace("_", " "), str(number))
                for (rule, code), number in sorted(done.faults.items())
            ),
        )
    if done.examples:
        print_table(
            ("FOR EXAMPLE", "PARTITION", "IS", "WOULD BE"),
            (
                (
                    study.StudyInstanceUID,
                    study.partition,
                    study.verdict.value if study.verdict else "not judged",
                    after.value,
                )
                for study, after in done.examples
            ),
        )
