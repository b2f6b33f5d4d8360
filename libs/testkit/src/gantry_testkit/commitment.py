"""A device that asks for storage commitment, by pynetdicom, and hears what became of it."""

from collections.abc import Callable, Iterable
from typing import Any

from pydicom import Dataset
from pynetdicom import build_context, evt

from gantry_domain.commitment import COMMITMENT_INSTANCE, STORAGE_COMMITMENT_PUSH
from gantry_testkit.peer_ae import PeerAE

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
