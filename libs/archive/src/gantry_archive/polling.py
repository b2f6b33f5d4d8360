"""Another system's worklist taken over: asked by C-FIND, its orders made, changed and cancelled."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination
from gantry_dimse.find_and_move import IDENTIFIER_SYNTAX, QueryAssociation
from gantry_dimse.peer_errors import PeerBrokeProtocol
from gantry_dimse.requesting import Timeouts
from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.errors import PermanentError
from gantry_domain.information_models import MODALITY_WORKLIST_FIND
from gantry_domain.orders.changes import Change, ChangeState
from gantry_domain.orders.polled import Polled, PolledOrder, orders_of, question
from gantry_domain.orders.states import StepState
from gantry_stores.index.database import transaction
from gantry_stores.index.orders.applying import apply_changes
from gantry_stores.index.orders.polls import (
    KnownOrder,
    forget_orders,
    known_orders,
    remember_order,
)

# One answer without an order may be a system that is just starting.
_GONE = 2


class PollOutcome(StrEnum):
    """What became of an order of an answer."""

    TAKEN = "taken"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class PollSource:
    """Whose worklist it is, and how it is asked.

    `ahead`: for how many days after today. `cancels`: what it no longer tells of is cancelled.
    """

    destination: Destination
    timeouts: Timeouts
    partition: str
    charset: str | None
    ahead: int
    cancels: bool


def ask_worklist(source: PollSource, *, now: datetime) -> Polled:
    """What it tells of yesterday, today and the days ahead; `now` is in the department's zone.

    Raises what opening an association raises, `FindRefused` and `AssociationLost`.
    """
    first, last = now.date() - timedelta(days=1), now.date() + timedelta(days=source.ahead)
    to = source.destination
    with QueryAssociation.open_for(
        [MODALITY_WORKLIST_FIND],
        host=to.host,
        port=to.port,
        calling_ae=to.calling_ae,
        called_ae=to.ae_title,
        timeouts=source.timeouts,
        tls=to.tls,
    ) as assoc:
        found = list(assoc.find(MODALITY_WORKLIST_FIND, question(first, last)))
    try:
        return orders_of(
            read_data_set(each, transfer_syntax=IDENTIFIER_SYNTAX, default_charset=source.charset)
            for each in found
        )
    except UnreadableDataSet as error:
        raise PeerBrokeProtocol("an answer that cannot be read") from error


def take_over(
    engine: Engine, source: PollSource, polled: Polled, *, now: datetime
) -> Counter[PollOutcome]:
    """Make and change the orders of an answer; cancel those that are gone from it.

    Each is a transaction of its own; what did not change is left alone. Raises `IndexUnavailable`.
    """
    title = source.destination.ae_title
    with transaction(engine) as connection:
        known = known_orders(connection, title)
    outcomes: Counter[PollOutcome] = Counter()
    if polled.nameless:
        outcomes[PollOutcome.REFUSED] += polled.nameless
    for order in polled.orders:
        outcomes[_take(engine, source, order, known.pop(order.name, None), now)] += 1
    outcomes[PollOutcome.CANCELLED] += _miss(engine, source, known.values(), now)
    return outcomes


def _take(
    engine: Engine, source: PollSource, order: PolledOrder, known: KnownOrder | None, now: datetime
) -> PollOutcome:
    present = KnownOrder(
        name=order.name,
        digest=order.digest,
        key=order.change.patient.key,
        numbers=order.change.numbers,
        last_day=order.last_day,
    )
    if known == present:
        return PollOutcome.UNCHANGED
    title = source.destination.ae_title
    # Told of again unchanged, after an answer that lacked it.
    changes: tuple[Change, ...] = (order.change,)
    if known is not None and known.digest == order.digest:
        changes = ()
    elif known is not None:
        # What was discontinued here stays so, while the other system tells of it.
        changes = (replace(order.change, new=False),)
    try:
        with transaction(engine) as connection:
            if changes:
                apply_changes(connection, changes, partition=source.partition, now=now)
            remember_order(connection, title, present)
    except PermanentError:
        return PollOutcome.REFUSED
    return PollOutcome.TAKEN if changes else PollOutcome.UNCHANGED


def _miss(engine: Engine, source: PollSource, missing: Iterable[KnownOrder], now: datetime) -> int:
    """How many are cancelled of those that an answer lacks."""
    title = source.destination.ae_title
    first_day = f"{now.date() - timedelta(days=1):%Y%m%d}"
    cancelled = 0
    for order in missing:
        if order.last_day >= first_day and order.missed + 1 < _GONE:
            with transaction(engine) as connection:
                remember_order(connection, title, replace(order, missed=order.missed + 1))
            continue
        # Of days that are no longer asked for nothing is known.
        if source.cancels and order.last_day >= first_day:
            cancelled += _cancelled(engine, source, order, now)
        with transaction(engine) as connection:
            forget_orders(connection, title, [order.name])
    return cancelled


def _cancelled(engine: Engine, source: PollSource, order: KnownOrder, now: datetime) -> bool:
    change = ChangeState(order.key, order.numbers, StepState.CANCELLED)
    try:
        with transaction(engine) as connection:
            apply_changes(connection, [change], partition=source.partition, now=now)
    except PermanentError:
        return False  # it is performed, or has gone: the other system had its reason
    return True
