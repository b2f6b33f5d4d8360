"""What a peer accepts, learnt by proposing it: associations, and nothing sent over them.

First each class is proposed once, with all transfer syntaxes together; then those that the peer
took are proposed again, each syntax in a context of its own, for of several only one is answered.
One association at a time, with a pause between them; a rejection ends it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from gantry_dimse.contexts import MESSAGE_SYNTAXES
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    NoAcceptedContext,
    Unreachable,
)
from gantry_dimse.proposals import MOST_CONTEXTS, ProposedContext
from gantry_dimse.requesting import Timeouts
from gantry_dimse.requestor import RequestorAssociation
from gantry_domain.commitment import STORAGE_COMMITMENT_PUSH
from gantry_domain.conformance.model import Entity, Origin, Role, Statement, Support
from gantry_domain.conformance.registry import (
    Service,
    class_name,
    service_of,
)
from gantry_domain.information_models import (
    INFORMATION_MODELS,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST_FIND,
)
from gantry_domain.sop_classes import STORAGE_CLASSES, VERIFICATION
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES

Accepted = frozenset[tuple[str, str]]


class Propose(Protocol):
    """Opens an association with these contexts, releases it, and says what was accepted."""

    def __call__(self, contexts: Sequence[ProposedContext]) -> Accepted:
        """Class and syntax of each context accepted. Raises as `RequestorAssociation.open`."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What was learnt, in how many associations, and why no more was asked."""

    statement: Statement
    associations: int
    stopped: AssociationRejected | AssociationLost | Unreachable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """Whom to propose to, and as whom; a `Propose`."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    timeouts: Timeouts
    tls: OutgoingTLS | None = None

    def __call__(self, contexts: Sequence[ProposedContext]) -> Accepted:
        """See `Propose`."""
        with RequestorAssociation.open(
            host=self.host,
            port=self.port,
            calling_ae=self.calling_ae,
            called_ae=self.called_ae,
            contexts=contexts,
            timeouts=self.timeouts,
            tls=self.tls,
        ) as assoc:
            accepted = assoc.contexts.accepted
        return frozenset((each.SOPClassUID, each.TransferSyntaxUID) for each in accepted)


def proposed_classes(private: Iterable[str] = ()) -> tuple[str, ...]:
    """The classes that a probe asks for: all that this project knows of, and these private ones."""
    return (
        VERIFICATION,
        *STORAGE_CLASSES,
        *private,
        *(uid for model in INFORMATION_MODELS for uid in model.classes),
        MODALITY_WORKLIST_FIND,
        MODALITY_PERFORMED_PROCEDURE_STEP,
        STORAGE_COMMITMENT_PUSH,
    )


def probe(
    propose: Propose,
    *,
    name: str,
    classes: Iterable[str],
    transfer_syntaxes: Sequence[str] = tuple(TRANSFER_SYNTAXES),
    pause: float = 0.2,
    wait: Callable[[float], None] = time.sleep,
) -> Probed:
    """Ask a peer; `name` is what its statement is called, `pause` the seconds in between."""
    asking = _Asking(propose, pause, wait)
    kinds: dict[Service, list[str]] = {}
    for uid in dict.fromkeys(classes):
        kinds.setdefault(_kind(uid), []).append(uid)
    ordered = [uid for kind in kinds.values() for uid in kind]
    try:
        together = (ProposedContext(uid, _syntaxes(uid, transfer_syntaxes)) for uid in ordered)
        for batch in _batches(together):
            asking.ask(batch)
        taken = {uid for uid, _syntax in asking.accepted}
        singly = [
            ProposedContext(uid, (syntax,))
            for uid in ordered
            if uid in taken
            for syntax in _syntaxes(uid, transfer_syntaxes)
            if (uid, syntax) not in asking.accepted
        ]
        for batch in _batches(singly):
            asking.ask(batch)
    except (AssociationRejected, AssociationLost, Unreachable) as error:
        stopped: AssociationRejected | AssociationLost | Unreachable | None = error
    else:
        stopped = None
    return Probed(_statement(name, asking, transfer_syntaxes), asking.associations, stopped)


class _Asking:
    """The associations of one probe, and what they brought."""

    def __init__(self, propose: Propose, pause: float, wait: Callable[[float], None]) -> None:
        self._propose, self._pause, self._wait = propose, pause, wait
        self.associations = 0
        self.accepted: set[tuple[str, str]] = set()
        self.asked: dict[str, None] = {}

    def ask(self, contexts: Sequence[ProposedContext]) -> None:
        """One association."""
        if self.associations:
            self._wait(self._pause)
        self.associations += 1
        with suppress(NoAcceptedContext):
            self.accepted |= self._propose(self._with_verification(contexts))
        self.asked.update(dict.fromkeys(context.SOPClassUID for context in contexts))

    def _with_verification(self, contexts: Sequence[ProposedContext]) -> list[ProposedContext]:
        """Some peers reject a request of which they can accept nothing: so this is added to it."""
        wanted = VERIFICATION in self.asked and len(contexts) < MOST_CONTEXTS
        added = [ProposedContext(VERIFICATION, MESSAGE_SYNTAXES)] if wanted else []
        return [*added, *contexts]


def _syntaxes(uid: str, stored: Sequence[str]) -> tuple[str, ...]:
    if service_of(uid) in (Service.STORAGE, Service.OTHER):
        return tuple(stored)
    return MESSAGE_SYNTAXES


def _batches(contexts: Iterable[ProposedContext]) -> Iterator[list[ProposedContext]]:
    """At most 128 in each, of one kind of service."""
    batch: list[ProposedContext] = []
    for context in contexts:
        other = batch and _kind(batch[0].SOPClassUID) is not _kind(context.SOPClassUID)
        if other or len(batch) == MOST_CONTEXTS:
            yield batch
            batch = []
        batch.append(context)
    if batch:
        yield batch


def _kind(uid: str) -> Service:
    """What may be proposed together: behind one port there may be several services, told apart by
    what is proposed. Verification is everywhere, and what we do not know is stored or nothing."""
    service = service_of(uid)
    return Service.STORAGE if service in (Service.OTHER, Service.VERIFICATION) else service


def _statement(name: str, asking: _Asking, transfer_syntaxes: Sequence[str]) -> Statement:
    taken: Mapping[str, tuple[str, ...]] = {
        uid: tuple(
            syntax
            for syntax in _syntaxes(uid, transfer_syntaxes)
            if (uid, syntax) in asking.accepted
        )
        for uid in asking.asked
    }
    supports = tuple(
        Support(
            uid=uid,
            name=class_name(uid),
            role=Role.SCP,
            supported=bool(syntaxes),
            transfer_syntaxes=syntaxes,
        )
        for uid, syntaxes in taken.items()
    )
    return Statement(
        product=name, origin=Origin.PROBED, entities=(Entity(name=name, supports=supports),)
    )
