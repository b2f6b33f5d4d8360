"""Proves deliveries: destinations are asked whether they keep what was sent, again and again.

delivered ──▶ due ──▶ asked ──report, or query──▶ proved | sent again | without proof
"""

import threading
from datetime import timedelta

from sqlalchemy.engine import Engine

from gantry_archive.destinations import Destination, destination_timeouts
from gantry_archive.proving import (
    CommitmentRefused,
    ReportHearer,
    ask_for_commitment,
    find_instances,
)
from gantry_archive.transforms import renaming_transforms
from gantry_archive.web_destinations import AnyDestination, SearchFailed, sendable
from gantry_dimse.find_and_move import FindRefused
from gantry_dimse.peer_errors import (
    AssociationLost,
    AssociationRejected,
    NoAcceptedContext,
    Unreachable,
)
from gantry_runtime.logs import get_logger
from gantry_runtime.settings import Settings
from gantry_stores.index import proofs as rows
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.proofs import Proof
from gantry_worker import forward_metrics as metrics
from gantry_worker.due_threads import DueThreads

log = get_logger(__name__)

_LEASE = timedelta(minutes=2)
_ASKERS = 3
# Who is away, or has not found it yet, is asked soon, then ever more seldom.
_SELDOM = 4


class Proofs:
    """The threads that do so in one process."""

    def __init__(self, settings: Settings, *, stopping: threading.Event) -> None:
        self._section = settings.forward.proof
        self._policy = settings.forward.retry_policy()
        self._timeouts = destination_timeouts(settings)
        self._destinations = sendable(settings)
        self._engine: Engine = make_engine(
            settings.database_url, pool_size=1 + _ASKERS, application_name="gantry-proofs"
        )
        self._hearer = ReportHearer(
            self._engine,
            resends=self._section.resends,
            transforms=renaming_transforms(settings),
        )
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._threads = DueThreads(
            {f"proving-{n}": self._prove_one for n in range(_ASKERS)},
            stopping=stopping,
            failed=metrics.PROOF_FAILURES.inc,
        )

    def start(self) -> None:
        """Begin."""
        self._threads.start()

    def join(self, seconds: float) -> bool:
        """Wait for the threads, which end once they shall stop; whether all have."""
        joined = self._threads.join(seconds)
        self._engine.dispose()
        return joined

    def _prove_one(self) -> bool:
        with self._lock:
            with transaction(self._engine) as connection:
                proof = rows.claim_proof(connection, lease=_LEASE, busy=sorted(self._busy))
            if proof is None:
                return False
            self._busy.add(proof.destination)
        try:
            self._prove(proof)
        finally:
            with self._lock:
                self._busy.discard(proof.destination)
        return True

    def _prove(self, proof: Proof) -> None:
        destination = self._destinations.get(proof.destination)
        if destination is None or destination.prove != proof.kind:
            self._fail(proof, "the configuration asks for no such proof any more")
            return
        if proof.attempts >= self._section.attempts:
            self._fail(proof, f"no answer to {proof.attempts} questions")
            return
        reason: str | None = None
        try:
            if proof.kind == "commitment" and isinstance(destination, Destination):
                outcome = self._ask(proof, destination)
            else:
                outcome = self._find(proof, destination)
        except (
            Unreachable,
            AssociationRejected,
            AssociationLost,
            NoAcceptedContext,
            CommitmentRefused,
            FindRefused,
            SearchFailed,
        ) as error:
            if proof.age >= self._policy.give_up_after:
                self._fail(proof, f"gave up: {error}")
                return
            outcome, reason = self._put_off(proof), str(error)
        metrics.PROOFS.labels(proof.destination, outcome).inc()
        log.info(
            "delivery_asked_about",
            delivery=proof.delivery_pk,
            destination=proof.destination,
            outcome=outcome,
            reason=reason,
        )

    def _ask(self, proof: Proof, destination: Destination) -> str:
        with transaction(self._engine) as connection:
            found = rows.unproved(connection, proof.delivery_pk)
        ask_for_commitment(
            proof,
            found,
            destination=destination,
            timeouts=self._timeouts,
            hearer=self._hearer,
            wait=self._section.wait.total_seconds(),
        )
        with transaction(self._engine) as connection:
            # Nothing changes if the report was heard by now.
            rows.write_asked(
                connection, proof.delivery_pk, answer_within=self._section.answer_within
            )
        return "asked"

    def _find(self, proof: Proof, destination: AnyDestination) -> str:
        with transaction(self._engine) as connection:
            found = rows.unproved(connection, proof.delivery_pk)
        there = find_instances(proof, found, destination=destination, timeouts=self._timeouts)
        missing = {each.SOPInstanceUID for each in found} - there
        # What an archive took may take it a while to find.
        lost = missing if proof.age >= self._section.answer_within else set()
        with transaction(self._engine) as connection:
            state = rows.hear(
                connection,
                proof.delivery_pk,
                kept=sorted(there),
                not_kept=dict.fromkeys(sorted(lost), "not found by a query"),
                resends=self._section.resends,
            )
        return self._put_off(proof) if missing and not lost else state

    def _put_off(self, proof: Proof) -> str:
        after = min(max(proof.age / _SELDOM, self._policy.base), self._policy.ceiling)
        with transaction(self._engine) as connection:
            rows.put_off(connection, proof.delivery_pk, after=after)
        return "put_off"

    def _fail(self, proof: Proof, reason: str) -> None:
        with transaction(self._engine) as connection:
            rows.write_failed(connection, proof.delivery_pk, reason=reason)
        label = proof.destination if proof.destination in self._destinations else "other"
        metrics.PROOFS.labels(label, "failed").inc()
        log.warning("proof_failed", delivery=proof.delivery_pk, reason=reason)
