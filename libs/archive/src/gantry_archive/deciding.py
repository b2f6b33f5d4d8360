"""Decides of a study for a person, and takes it back.

    row written, study to be judged anew, journal entry written ─▶ committed ─▶ judged

The entry is written last and within the transaction: whoever is told of a failure must not find it
decided after a reindex. If nobody comes to judge, the worker does.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypedDict, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from gantry_archive.journal import write_decision
from gantry_archive.judging import Judged, judge_studies
from gantry_archive.rejecting import Rejecting, rejecting_of
from gantry_archive.rejudging import order_feed
from gantry_domain.corrections import BadCorrection, checked
from gantry_domain.decisions import DecisionKind, StudyDecision, Undoing
from gantry_domain.errors import PermanentError
from gantry_domain.json_model import valid_uid
from gantry_domain.keys import new_object_id
from gantry_domain.policies.findings import VerdictKind
from gantry_domain.policies.rules import PolicySet
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index.correcting import (
    correct_study,
    lock_studies_to_change,
    lock_to_correct,
)
from gantry_stores.index.database import IndexContended, transaction
from gantry_stores.index.decisions import DecisionLine, decide, history, may_be_undone, undo
from gantry_stores.index.delivery_corrections import plan_corrected, plan_moved
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.index.moving_series import (
    move_back,
    move_series,
    series_of_study,
    values_to_move,
)
from gantry_stores.index.order_tables import order_
from gantry_stores.index.rejections import study_as_it_is
from gantry_stores.objects import ObjectStore

log = get_logger(__name__)

_ATTEMPTS = 6
_Answer = TypeVar("_Answer")


class NotDecided(PermanentError):
    """What was asked for makes no sense; the text says why, and names no patient."""


class _Named(TypedDict):
    """Which study it is."""

    partition: str
    StudyInstanceUID: str


def _checked(values: Mapping[str, str]) -> dict[str, str]:
    try:
        return checked(values)
    except BadCorrection as error:
        raise NotDecided(str(error)) from error


def decider_of(settings: Settings, *, store: ObjectStore, engine: Engine) -> "Decider":
    """The decider under the rules of the configuration."""
    return Decider(
        store=store,
        engine=engine,
        policies=settings.policy_set,
        feed=order_feed(settings),
        rejecting=rejecting_of(settings),
    )


class Decider:
    """Decides in one index with its store, under the rules in force."""

    def __init__(
        self,
        *,
        store: ObjectStore,
        engine: Engine,
        policies: PolicySet,
        feed: OrderFeed | None,
        rejecting: Rejecting | None = None,
    ) -> None:
        self.policies = policies
        self.feed = feed
        self._store = store
        self._engine = engine
        self._rejecting = rejecting or Rejecting()

    def decide(
        self,
        study: JudgedStudy,
        kind: DecisionKind,
        *,
        order: str = "",
        corrected: Mapping[str, str] | None = None,
        by: str,
        reason: str,
    ) -> VerdictKind | None:
        """Decide; the verdict that follows, None where it is still to come.

        `order`, of a link: the accession number or the Study Instance UID of the order;
        `corrected`, of a correction: new values by keyword. Raises `NotDecided`, and the transient
        errors of both stores, and nothing is decided then.
        """
        accepted: frozenset[tuple[str, str]] = frozenset()
        if kind is DecisionKind.ACCEPT:
            verdict = self.policies.judge(study.evidence, was_visible=study.visible)
            accepted = frozenset((each.rule, each.code) for each in verdict.findings if each.weighs)
            if not accepted:
                raise NotDecided("the rules find no fault in this study")
        values = _checked(corrected or {}) if kind is DecisionKind.CORRECT else {}
        order_uid = self._order(study.partition, order) if kind is DecisionKind.LINK else ""
        named = _Named(partition=study.partition, StudyInstanceUID=study.StudyInstanceUID)
        made = StudyDecision(
            id=new_object_id(),
            **named,
            kind=kind,
            decided_at=datetime.now(UTC),
            decided_by=by,
            reason=reason,
            order_uid=order_uid,
            accepted=accepted,
            corrected=values,
        )
        corrects = kind is DecisionKind.CORRECT

        def work(connection: Connection) -> int | None:
            if corrects:
                lock_to_correct(connection, **named)
            pk = decide(connection, made)
            if pk is not None:
                if corrects:
                    self._correct(connection, named)
                if kind is DecisionKind.REFUSE:
                    self._rejecting.refused(connection, **named)
                write_decision(self._store, made)
            return pk

        pk = self._attempt(work)
        if pk is None:
            raise NotDecided("there is no such study")
        log.info("study_decided", decision=str(made.id), kind=kind.value, by=by)
        return self._judged(pk)

    def move(
        self,
        study: JudgedStudy,
        *,
        series: Collection[str],
        to: str,
        new: bool,
        by: str,
        reason: str,
    ) -> VerdictKind | None:
        """Move series of a study to another; the verdict of that one, None where it is still to
        come.

        `new`: there is no such study yet, and the series make it. Raises as `decide` does.
        """
        if not valid_uid(to) or to == study.StudyInstanceUID:
            raise NotDecided("series are moved to another study, named by its UID")
        if not series:
            raise NotDecided("a move names at least one series")
        partition, out_of = study.partition, study.StudyInstanceUID

        def work(connection: Connection) -> list[int]:
            lock_studies_to_change(connection, [out_of, to], partition=partition)
            if not series_of_study(connection, (partition, out_of)).issuperset(series):
                raise NotDecided("this study has no such series")
            there = bool(series_of_study(connection, (partition, to)))
            if there and new:
                raise NotDecided("this study is there already, and is no new one")
            if not there and not new:
                raise NotDecided("there is no study with this UID; it can be made as a new one")
            made = StudyDecision(
                id=new_object_id(),
                partition=partition,
                StudyInstanceUID=to,
                kind=DecisionKind.MOVE,
                decided_at=datetime.now(UTC),
                decided_by=by,
                reason=reason,
                corrected=values_to_move(connection, partition=partition, out_of=out_of, into=to),
                moved_from=out_of,
                series=frozenset(series),
            )
            former = study_as_it_is(connection, partition=partition, StudyInstanceUID=out_of)
            pks = move_series(connection, made)
            planned = plan_moved(
                connection, partition=partition, StudyInstanceUID=to, former=out_of, series=series
            )
            self._rejecting.replaced(connection, planned, former)
            write_decision(self._store, made)
            log.info("study_decided", decision=str(made.id), kind=made.kind.value, by=by)
            return pks

        self._judge(self._attempt(work))
        with transaction(self._engine) as connection:
            found = find_judged(connection, to, partition=partition)
        return found[0].verdict if found else None

    def undo_last(self, study: JudgedStudy, *, by: str, reason: str) -> StudyDecision:
        """Take back what was decided last of a study and still stands: what that was.

        Raises as `decide` does.
        """
        standing = [line.decision for line in self.history(study) if line.undone is None]
        if not standing:
            raise NotDecided("nothing that was decided of this study stands")
        undoing = Undoing(
            id=new_object_id(),
            decision_id=standing[-1].id,
            undone_at=datetime.now(UTC),
            undone_by=by,
            reason=reason,
        )

        if standing[-1].kind is DecisionKind.MOVE:
            self._move_back(standing[-1], undoing)
            return standing[-1]
        corrected = standing[-1].kind is DecisionKind.CORRECT
        named = _Named(partition=study.partition, StudyInstanceUID=study.StudyInstanceUID)

        def work(connection: Connection) -> int | None:
            if corrected:
                lock_to_correct(connection, **named)
            pk = undo(connection, undoing)
            if pk is not None:
                if corrected:
                    self._correct(connection, named)
                if standing[-1].kind is DecisionKind.REFUSE:
                    self._rejecting.taken_back(connection, **named)
                write_decision(self._store, undoing)
            return pk

        pk = self._attempt(work)
        if pk is None:
            raise NotDecided("somebody else decided meanwhile; look again")
        log.info("decision_undone", decision=str(undoing.decision_id), by=by)
        self._judged(pk)
        return standing[-1]

    def _correct(self, connection: Connection, named: _Named) -> None:
        former = study_as_it_is(connection, **named)
        correct_study(connection, **named)
        planned = plan_corrected(connection, **named)
        self._rejecting.replaced(connection, planned, former)

    def _move_back(self, made: StudyDecision, undoing: Undoing) -> None:
        def work(connection: Connection) -> list[int] | None:
            lock_studies_to_change(
                connection, [made.moved_from, made.StudyInstanceUID], partition=made.partition
            )
            if not may_be_undone(connection, made):
                return None
            former = study_as_it_is(
                connection, partition=made.partition, StudyInstanceUID=made.StudyInstanceUID
            )
            pks = move_back(connection, made, undoing)
            planned = plan_moved(
                connection,
                partition=made.partition,
                StudyInstanceUID=made.moved_from,
                former=made.StudyInstanceUID,
                series=made.series,
            )
            self._rejecting.replaced(connection, planned, former)
            write_decision(self._store, undoing)
            return pks

        pks = self._attempt(work)
        if pks is None:
            raise NotDecided(
                "more was decided of the study that has these series now; undo that first"
            )
        log.info("decision_undone", decision=str(undoing.decision_id), by=undoing.undone_by)
        self._judge(pks)

    def history(self, study: JudgedStudy) -> list[DecisionLine]:
        """All that was decided of a study, in order, and what was moved out of it."""
        with transaction(self._engine) as connection:
            return history(
                connection, partition=study.partition, StudyInstanceUID=study.StudyInstanceUID
            )

    def _order(self, partition: str, named: str) -> str:
        """The Study Instance UID of the order that a person names."""
        table = order_.c
        with transaction(self._engine) as connection:
            found = connection.scalars(
                sa.select(table.study_instance_uid)
                .where(
                    table.partition == partition,
                    sa.or_(table.accession_number == named, table.study_instance_uid == named),
                )
                .distinct()
            ).all()
        if not found:
            raise NotDecided("there is no such order")
        if len(found) > 1:
            raise NotDecided("several orders have this accession number: name one by its study UID")
        return str(found[0])

    def _judged(self, pk: int) -> VerdictKind | None:
        return next(iter(self._judge([pk]).verdicts), None)

    def _judge(self, pks: Collection[int]) -> Judged:
        return judge_studies(self._engine, self.policies, pks, feed=self.feed)

    def _attempt(self, work: Callable[[Connection], _Answer]) -> _Answer:
        for _ in range(_ATTEMPTS - 1):
            try:
                with transaction(self._engine) as connection:
                    return work(connection)
            except IndexContended:
                continue
        with transaction(self._engine) as connection:
            return work(connection)
