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
    """All that was decided of a study, in order, and what was moved out of it."""
    rows = connection.execute(
        sa.select(decision)
        .where(
            decision.c.partition == partition,
            sa.or_(
                decision.c.study_instance_uid == StudyInstanceUID,
                decision.c.from_uid == StudyInstanceUID,
            ),
        )
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
    if not _is_last(connection, row):
        return None
    write_undoing(connection, undoing)
    connection.execute(
        sa.text("UPDATE study SET visible = :visible WHERE pk = :pk"),
        {"visible": row.visible_before, "pk": study.pk},
    )
    judge_anew(connection, [study.pk])
    return int(study.pk)


def _is_last(connection: Connection, row: sa.Row[Any]) -> bool:
    """Whether nothing that stands was decided of the study after this, and it stands itself."""
    last = connection.scalar(
        sa.select(sa.func.max(decision.c.id.cast(sa.Text))).where(
            decision.c.partition == row.partition,
            decision.c.study_instance_uid == row.study_instance_uid,
            decision.c.undoing_id.is_(None),
        )
    )
    return bool(last == str(row.id))


# Of what was moved, be it out of the same study or on from where it is now.
_MOVED_ON = """
    SELECT EXISTS (
        SELECT 1 FROM decision d WHERE d.partition = :partition AND d.undoing_id IS NULL
          AND d.from_uid IN (:from_uid, :to_uid) AND d.id > :id
          AND d.content->'series' ?| CAST(:series AS text[])
    )
"""


def may_be_undone(connection: Connection, made: StudyDecision) -> bool:
    """Whether a move that stands is the last decision of its study, and nobody moved any of its
    series later. Its studies are locked."""
    row = connection.execute(sa.select(decision).where(decision.c.id == made.id)).one()
    if row.undoing_id is not None or not _is_last(connection, row):
        return False
    return not connection.scalar(
        sa.text(_MOVED_ON),
        {
            "id": made.id,
            "partition": made.partition,
            "from_uid": made.moved_from,
            "to_uid": made.StudyInstanceUID,
            "series": sorted(made.series),
        },
    )


def write_move(
    connection: Connection, made: StudyDecision, *, visible_before: bool, from_visible: bool
) -> None:
    """Write the decision of a move alone: whether clinicians saw the study that gets the series,
    and the one that gives them."""
    values = _values(made) | {"visible_before": visible_before}
    values["content"] |= {"from_visible": from_visible}
    connection.execute(sa.insert(decision).values(values))


def seen_before(connection: Connection, made: StudyDecision) -> tuple[bool, bool]:
    """What `write_move` was told of the studies of a move."""
    row = connection.execute(sa.select(decision).where(decision.c.id == made.id)).one()
    return row.visible_before, bool(row.content.get("from_visible"))


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
        write_undoing(connection, each)


def write_undoing(connection: Connection, undoing: Undoing) -> None:
    """Write down who took a decision back, and nothing of what follows from it."""
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
        "from_uid": made.moved_from or None,
        "content": _content(made),
        "decided_at": made.decided_at,
        "decided_by": made.decided_by,
        "reason": made.reason,
    }


def _content(made: StudyDecision) -> dict[str, Any]:
    match made.kind:
        case DecisionKind.CORRECT:
            return {"corrected": dict(made.corrected)}
        case DecisionKind.MOVE:
            return {"corrected": dict(made.corrected), "series": sorted(made.series)}
        case _:
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
        moved_from=row.from_uid or "",
        series=frozenset(row.content.get("series", ())),
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
