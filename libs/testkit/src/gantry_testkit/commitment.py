"""Both sides of storage commitment by pynetdicom: who asks and hears, who keeps and reports."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from pydicom import Dataset
from pynetdicom import build_context, build_role, evt

from gantry_domain.commitment import COMMITMENT_INSTANCE, STORAGE_COMMITMENT_PUSH
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.stored import CT_IMAGE

Pair = tuple[str, str]
"""SOP class and SOP instance."""


def action_information(TransactionUID: str, pairs: Iterable[Pair]) -> Dataset:
    """What an N-ACTION says."""
    ds = Dataset()
    ds.TransactionUID = TransactionUID
    ds.ReferencedSOPSequence = [_item(pair) for pair in pairs]
    return ds


def _item(pair: Pair) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = pair
    return item


class Told:
    """One report: its event type, who calls, and what it says of each instance."""

    def __init__(self, event: evt.Event) -> None:
        information: Dataset = event.event_information
        self.event_type = int(event.event_type)
        self.calling_ae = str(event.assoc.requestor.ae_title)
        self.TransactionUID = str(information.TransactionUID)
        self.retrieve_ae = str(information.RetrieveAETitle)
        self.committed = [
            str(item.ReferencedSOPInstanceUID)
            for item in information.get("ReferencedSOPSequence", [])
        ]
        self.failed = {
            str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
            for item in information.get("FailedSOPSequence", [])
        }


class Requester:
    """Asks, and listens for reports. `answer`: the status with which it takes them."""

    def __init__(self, ae_title: str = "MODALITY", *, port: int = 0, listen: bool = True) -> None:
        self.ae_title = ae_title
        self.told: list[Told] = []
        self.answer: Callable[[], int] = lambda: 0x0000
        self.port = port
        self._server: Any = None
        if listen:
            self.listen()

    def listen(self) -> None:
        """Take reports over new associations from now on."""
        ae = PeerAE(self.ae_title)
        ae.add_supported_context(STORAGE_COMMITMENT_PUSH, scu_role=True, scp_role=True)
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[self._handler()]
        )
        self.port = self._server.server_address[1]

    def _handler(self) -> tuple[Any, Any]:
        return evt.EVT_N_EVENT_REPORT, self._hear

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        self.told.append(Told(event))
        return self.answer(), None

    def ask(
        self,
        port: int,
        information: Dataset,
        *,
        until: Callable[[], object] = lambda: None,
        action: int = 1,
        instance: str = COMMITMENT_INSTANCE,
        called_ae: str = "GANTRY",
    ) -> int:
        """Send a request: its status. The association lasts until `until` returns."""
        ae = PeerAE(self.ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        assoc = ae.associate(
            "127.0.0.1",
            port,
            contexts=[build_context(STORAGE_COMMITMENT_PUSH)],
            ae_title=called_ae,
            evt_handlers=[self._handler()],
        )
        assert assoc.is_established
        status, _reply = assoc.send_n_action(
            information, action, STORAGE_COMMITMENT_PUSH, instance, msg_id=1
        )
        until()
        assoc.release()
        return int(status.Status)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None


class Keeper:
    """An archive that takes CT images and says what it keeps: not what is in `loses`.

    `reports`: how, `new` (to `port_of_asker`), `same` or `never`.
    """

    def __init__(self, reports: str, *, port_of_asker: int = 0) -> None:
        self.reports = reports
        self.port_of_asker = port_of_asker
        self.loses: set[str] = set()
        self.received: list[str] = []
        self.asked: list[Dataset] = []
        self.answers: list[int] = []
        self._threads: list[threading.Thread] = []
        ae = PeerAE("PEER")
        ae.add_supported_context(CT_IMAGE)
        ae.add_supported_context(STORAGE_COMMITMENT_PUSH)
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._act)],
        )
        self.port: int = self._server.server_address[1]

    def _store(self, event: evt.Event) -> int:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _act(self, event: evt.Event) -> tuple[int, None]:
        information: Dataset = event.action_information
        self.asked.append(information)
        if self.reports != "never":
            report = self.report_on(information)
            tell = self._tell_there if self.reports == "new" else self._tell_here
            thread = threading.Thread(target=tell, args=(report, event.assoc))
            self._threads.append(thread)
            thread.start()
        return 0x0000, None

    def report_on(self, information: Dataset) -> Dataset:
        """What it would report."""
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        kept, lost = [], []
        for item in information.ReferencedSOPSequence:
            if item.ReferencedSOPInstanceUID in self.loses:
                item.FailureReason = 0x0112
                lost.append(item)
            else:
                kept.append(item)
        self.loses = set()
        if lost:
            report.FailedSOPSequence = lost
        if kept:
            report.ReferencedSOPSequence = kept
        return report

    def _tell_here(self, report: Dataset, assoc: Any) -> None:
        self._send(report, assoc)

    def _tell_there(self, report: Dataset, _assoc: Any) -> None:
        self.tell(report)

    def tell(self, report: Dataset, *, event_type: int | None = None) -> None:
        """Report over an association of its own, in the role of the SCP."""
        ae = PeerAE("PEER")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
        assoc = ae.associate(
            "127.0.0.1",
            self.port_of_asker,
            contexts=[build_context(STORAGE_COMMITMENT_PUSH)],
            ae_title="GANTRY",
            ext_neg=[build_role(STORAGE_COMMITMENT_PUSH, scp_role=True)],
        )
        assert assoc.is_established
        self._send(report, assoc, event_type)
        assoc.release()

    def _send(self, report: Dataset, assoc: Any, event_type: int | None = None) -> None:
        kind = event_type or (2 if "FailedSOPSequence" in report else 1)
        status, _reply = assoc.send_n_event_report(
            report, kind, STORAGE_COMMITMENT_PUSH, COMMITMENT_INSTANCE
        )
        self.answers.append(int(status.Status))

    def close(self) -> None:
        """Listen no more, once what was to be told is told."""
        for thread in self._threads:
            thread.join(30)
        self._server.shutdown()
