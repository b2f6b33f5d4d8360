"""What people decided of studies: written with what follows from it, undone, read again."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gantry_domain.decisions import DecisionKind, StudyDecision, Undoing, standing_of
from gantry_domain.policies.standing import Standing
from gantry_stores.index.identity_tables import decision
from gantry_stores.index.study_locks import lock_in_order


@dataclass(frozen=True, slots=True)
class DecisionLine:
    """A decision, and how it was undone, if it was."""

    decision: StudyDecision
    undone: Undoing | None


def standings(
    connection: Connection, studies: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], Standing]:
    """What stands of studies (partition and UID); of one that nobody decided on it is absent."""
    found: dict[tuple[str, str], list[StudyDecision]] = defaultdict(list)
    rows = connection.execute(
        sa.text(
            "SELECT d.* FROM decision d"
            " JOIN unnest(CAST(:partitions AS text[]), CAST(:uids AS text[])) AS w(partition, uid)"
            " ON d.partition = w.partition AND d.study_instance_uid = w.uid"
            " WHERE d.undoing_id IS NULL"
        ),
        {"partitions": [each[0] for each in studies], "uids": [each[1] for each in studies]},
    )
    for row in rows:
        found[row.partition, row.study_instance_uid].append(_decision(row))
    return {key: standing_of(decisions) for key, decisions in found.items()}


def history(connection: Connection, *, partition: str, StudyInstanceUID: str) -> list[DecisionLine]:
    """All that was decided of a study, in order."""
    rows = connection.execute(
        sa.select(decision)
        .where(decision.c.partition == partition, decision.c.study_instance_uid == StudyInstanceUID)
        .order_by(decision.c.id)
    )
    return [_line(row) for row in rows]


def decide(connection: Connection, made: StudyDecision) -> int | None:
    """Write a decision, and have its study judged anew; the study's pk. None: there is no such
    study."""
    study = _locked(connection, made.partition, made.StudyInstanceUID)
    if study is None:
        return None
    connection.execute(
        sa.insert(decision).values(_values(made) | {"visible_before": study.visible})
    )
    judge_anew(connection, [study.pk])
    return int(study.pk)


def undo(connection: Connection, undoing: Undoing) -> int | None:
    """Take a decision back, the last that stands of its study; the study's pk.

    Clinicians see the study again as they did before it, and it is judged anew. None: it was undone
    meanwhile, or is not the last, or the study is gone.
    """
    row = connection.execute(
        sa.select(decision).where(decision.c.id == undoing.decision_id)
    ).one_or_none()
    study = None if row is None else _locked(connection, row.partition, row.study_instance_uid)
    if row is None or study is None:
        return None
    last = connection.scalar(
        sa.select(sa.func.max(decision.c.id.cast(sa.Text))).where(
            decision.c.partition == row.partition,
            decision.c.study_instance_uid == row.study_instance_uid,
            decision.c.undoing_id.is_(None),
        )
    )
    if last != str(undoing.decision_id):
        return None
    _write_undoing(connection, undoing)
    connection.execute(
        sa.text("UPDATE study SET visible = :visible WHERE pk = :pk"),
        {"visible": row.visible_before, "pk": study.pk},
    )
    judge_anew(connection, [study.pk])
    return int(study.pk)


def _locked(connection: Connection, partition: str, StudyInstanceUID: str) -> sa.Row[Any] | None:
    return connection.execute(
        sa.text(
            "SELECT pk, visible FROM study WHERE partition = :partition"
            " AND study_instance_uid = :uid FOR UPDATE"
        ),
        {"partition": partition, "uid": StudyInstanceUID},
    ).one_or_none()


def judge_anew(connection: Connection, pks: Sequence[int]) -> None:
    """Have studies judged anew, for what the rules look at beside their images has changed."""
    lock_in_order(connection, pks)
    connection.execute(
        sa.text(
            "UPDATE study SET evidence_revision = evidence_revision + 1, judged_by = NULL"
            " WHERE pk = ANY(:pks)"
        ),
        {"pks": list(pks)},
    )


def restore_decisions(
    connection: Connection, decisions: Iterable[StudyDecision], undone: Iterable[Undoing]
) -> None:
    """Write what the journal tells into an empty index."""
    rows = [_values(each) for each in decisions]
    if rows:
        connection.execute(sa.insert(decision), rows)
    for each in undone:
        _write_undoing(connection, each)


def _write_undoing(connection: Connection, undoing: Undoing) -> None:
    connection.execute(
        sa.update(decision)
        .where(decision.c.id == undoing.decision_id, decision.c.undoing_id.is_(None))
        .values(
            undoing_id=undoing.id,
            undone_at=undoing.undone_at,
            undone_by=undoing.undone_by,
            undone_reason=undoing.reason,
        )
    )


def _values(made: StudyDecision) -> dict[str, Any]:
    return {
        "id": made.id,
        "partition": made.partition,
        "study_instance_uid": made.StudyInstanceUID,
        "kind": made.kind.value,
        "order_uid": made.order_uid or None,
        "content": _content(made),
        "decided_at": made.decided_at,
        "decided_by": made.decided_by,
        "reason": made.reason,
    }


def _content(made: StudyDecision) -> dict[str, Any]:
    if made.kind is DecisionKind.CORRECT:
        return {"corrected": dict(made.corrected)}
    return {"accepted": sorted(made.accepted)}


def _decision(row: sa.Row[Any]) -> StudyDecision:
    return StudyDecision(
        id=row.id,
        partition=row.partition,
        StudyInstanceUID=row.study_instance_uid,
        kind=DecisionKind(row.kind),
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        reason=row.reason,
        order_uid=row.order_uid or "",
        accepted=frozenset((rule, code) for rule, code in row.content.get("accepted", ())),
        corrected=row.content.get("corrected", {}),
    )


def _line(row: sa.Row[Any]) -> DecisionLine:
    undone = None
    if row.undoing_id is not None:
        undone = Undoing(
            id=row.undoing_id,
            decision_id=row.id,
            undone_at=row.undone_at,
            undone_by=row.undone_by,
            reason=row.undone_reason,
        )
    return DecisionLine(_decision(row), undone)
