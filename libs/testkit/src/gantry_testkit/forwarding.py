"""An archive that forwards, and a peer that answers as a test wants: for tests of deliveries."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pynetdicom import evt
from sqlalchemy.engine import Engine

from gantry_archive.delivery import plan_push
from gantry_archive.destinations import Destination
from gantry_archive.forwarding import Sending
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.place_destinations import Place, PlaceDestination
from gantry_archive.reading import ReadingRules
from gantry_archive.transforms import AS_THEY_ARE, Transforms
from gantry_archive.web_connection import WebPlace
from gantry_archive.web_destinations import WebDestination
from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_dimse.requesting import Timeouts
from gantry_domain.deliveries import RetryPolicy
from gantry_domain.file_meta import parse_file_meta
from gantry_stores.index import delivery_leases as leases
from gantry_stores.index import delivery_lists as lists
from gantry_stores.index.database import transaction
from gantry_stores.objects import ObjectStore
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.stored import NO_POLICIES, image, new_uid, receipts, rows, stage

POLICY = RetryPolicy(
    base=timedelta(seconds=1), ceiling=timedelta(seconds=8), give_up_after=timedelta(days=1)
)
LEASE = timedelta(seconds=30)
TIMEOUTS = Timeouts(connect=2.0, acse=2.0, dimse=2.0, network=2.0)


class ForwardingArchive:
    """A store and an index with what the tests put there."""

    def __init__(self, engine: Engine, store: ObjectStore) -> None:
        self.engine = engine
        self.store = store
        self.outcomes: list[leases.ItemOutcome] = []
        self.not_taken = 0

    def settled(
        self, outcome: leases.ItemOutcome, *, not_taken: bool, size: int, seconds: float
    ) -> None:
        """As `SendingObserver`."""
        self.outcomes.append(outcome)
        self.not_taken += not_taken

    def index(self, *sent: Any) -> None:
        """Index and judge what was staged."""
        result = index_batch(
            receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules()
        )
        assert len(result.outcomes) == len(sent)
        judge_studies(self.engine, NO_POLICIES)

    def study(self, *, images: int) -> tuple[str, list[str]]:
        """A study of CT images: its UID and those of its instances."""
        study, series = new_uid(), new_uid()
        datasets = [
            image(StudyInstanceUID=study, SeriesInstanceUID=series, InstanceNumber=str(n))
            for n in range(images)
        ]
        self.index(*(stage(self.store, ds) for ds in datasets))
        return study, [str(ds.SOPInstanceUID) for ds in datasets]

    def file(self, path: Path) -> str:
        """The object of a DICOM file, stored as it is; its SOP Instance UID."""
        content = path.read_bytes()
        parsed = parse_file_meta(content)
        offset = parsed.dataset_offset
        self.index(stage(self.store, content[offset:], head=content[:offset]))
        return parsed.meta.MediaStorageSOPInstanceUID

    def push(self, uid: str, to: str = "PEER") -> int:
        """The number of the delivery."""
        return plan_push(self.engine, uid, to, partitions=["main"]).pk

    def claim(self, to: str = "PEER", *, concurrency: int = 9, owner: str = "test") -> Any:
        """The claim on what is due for a destination, None where nothing is."""
        with transaction(self.engine) as connection:
            return leases.claim(
                connection, destination=to, owner=owner, lease=LEASE, concurrency=concurrency
            )

    def sending(
        self,
        port: int,
        claimed: leases.Claim,
        policy: RetryPolicy = POLICY,
        *,
        window: int = 1,
        prove: str | None = None,
        transforms: Transforms = AS_THEY_ARE,
    ) -> Sending:
        """One round of a claimed delivery."""
        destination = Destination(
            ae_title=claimed.destination,
            host="127.0.0.1",
            port=port,
            calling_ae="GANTRY",
            window=window,
            prove=prove,
            transforms=transforms,
        )
        return Sending(
            claim=claimed,
            destination=destination,
            engine=self.engine,
            store=self.store,
            timeouts=TIMEOUTS,
            policy=policy,
            observer=self,
        )

    def send(
        self,
        port: int,
        *,
        to: str = "PEER",
        policy: RetryPolicy = POLICY,
        window: int = 1,
        prove: str | None = None,
        transforms: Transforms = AS_THEY_ARE,
    ) -> leases.Finished:
        """Claim what is due for a destination and send one round of it."""
        claimed = self.claim(to)
        assert claimed is not None
        return self.sending(
            port, claimed, policy, window=window, prove=prove, transforms=transforms
        ).run()

    def send_web(
        self,
        base: str,
        *,
        to: str = "PEER",
        authorization: str | None = None,
        tls: OutgoingTLS | None = None,
        transforms: Transforms = AS_THEY_ARE,
    ) -> Sending:
        """Claim what is due for a destination and send one round of it over STOW-RS."""
        claimed = self.claim(to)
        assert claimed is not None
        place = WebPlace(base=base, authorization=authorization, tls=tls or OutgoingTLS())
        sending = Sending(
            claim=claimed,
            destination=WebDestination(ae_title=to, place=place, transforms=transforms),
            engine=self.engine,
            store=self.store,
            timeouts=TIMEOUTS,
            policy=POLICY,
            observer=self,
        )
        sending.run()
        return sending

    def send_place(
        self,
        place: Place,
        *,
        to: str = "PEER",
        prove: str | None = None,
        transforms: Transforms = AS_THEY_ARE,
    ) -> Sending:
        """Claim what is due for a destination and write one round of it as files."""
        claimed = self.claim(to)
        assert claimed is not None
        sending = Sending(
            claim=claimed,
            destination=PlaceDestination(
                ae_title=to, place=place, prove=prove, transforms=transforms
            ),
            engine=self.engine,
            store=self.store,
            timeouts=TIMEOUTS,
            policy=POLICY,
            observer=self,
        )
        sending.run()
        return sending

    def line(self, pk: int) -> lists.DeliveryLine:
        """A delivery as people see it."""
        with transaction(self.engine) as connection:
            (line,) = lists.list_deliveries(connection, lists.Selection(pks=[pk]), limit=2)
        return line

    def items(self, pk: int) -> dict[str, tuple[str, int | None, str | None]]:
        """State, status and reason of each item by SOP Instance UID."""
        found = rows(
            self.engine,
            "SELECT sop_instance_uid, state, status, reason FROM delivery_item"
            " WHERE delivery_pk = :pk",
            pk=pk,
        )
        return {uid: (state, status, reason) for uid, state, status, reason in found}

    def due_now(self) -> None:
        rows(self.engine, "UPDATE delivery SET next_attempt_at = now() RETURNING pk")


class AnsweringScp:
    """pynetdicom as a peer: answers by a function, remembers what it received."""

    def __init__(
        self,
        answer: Callable[[evt.Event], int],
        contexts: dict[str, list[str]],
        *,
        port: int = 0,
    ) -> None:
        self.received: list[tuple[str, str, bytes]] = []
        self._answer = answer
        ae = PeerAE("PEER")
        ae.maximum_associations = 50
        for uid, syntaxes in contexts.items():
            ae.add_supported_context(uid, syntaxes)
        self._server = ae.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received.append(
            (
                str(event.request.AffectedSOPInstanceUID),
                str(event.context.transfer_syntax),
                event.encoded_dataset(),
            )
        )
        return self._answer(event)

    def uids(self) -> list[str]:
        """Of the instances that arrived, in their order."""
        return [uid for uid, _, _ in self.received]

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
