"""Sends files as devices do: pynetdicom, which sends them as they are, and dcmtk's storescu."""

import io
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pynetdicom import _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from blackbox.datasets import Sample
from blackbox.peer_ae import PeerAE
from blackbox.sender import Sender

# Files go out as they are, without being decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True
_config.LOG_HANDLER_LEVEL = "none"

# A device of ours that is cut off at a bad moment waits for an answer that cannot come.
_LONGEST_ANSWER = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the archive said to one C-STORE; no status: it said nothing."""

    sample: Sample
    status: int | None
    comment: str = ""

    @property
    def success(self) -> bool:
        """Whether the archive has taken it."""
        return self.status == 0


def contexts_of(samples: Iterable[Sample]) -> list[PresentationContext]:
    """One presentation context for each class and syntax."""
    pairs = dict.fromkeys((sample.SOPClassUID, sample.TransferSyntaxUID) for sample in samples)
    return [build_context(abstract, [syntax]) for abstract, syntax in pairs]


def _no_delay(event: evt.Event) -> None:
    # pynetdicom leaves Nagle's algorithm on: 44 ms for each message
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def associate(
    port: int,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str = "CT01",
    called_ae: str = "GANTRY",
    patience: float = 60.0,
) -> Association:
    """An association, established or not."""
    ae = PeerAE(ae_title=calling_ae)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = patience
    ae.connection_timeout = 5
    return ae.associate(
        "127.0.0.1",
        port,
        contexts=list(contexts),
        ae_title=called_ae,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
        max_pdu=131072,
    )


@contextmanager
def association(
    port: int, samples: Sequence[Sample], *, calling_ae: str = "CT01", called_ae: str = "GANTRY"
) -> Iterator[Association]:
    """An established association that can carry `samples`."""
    assoc = associate(port, contexts_of(samples), calling_ae=calling_ae, called_ae=called_ae)
    assert assoc.is_established, "the association was not accepted"
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


def store(assoc: Association, sample: Sample) -> Answer:
    """One C-STORE."""
    try:
        status = assoc.send_c_store(sample.path)
    except (RuntimeError, OSError):  # the association went while we sent
        return Answer(sample, None)
    if "Status" not in status:
        return Answer(sample, None)
    return Answer(sample, int(status.Status), str(status.get("ErrorComment") or ""))


def send(port: int, samples: Sequence[Sample], *, calling_ae: str = "CT01") -> list[Answer]:
    """Sends files over one association; all in one context request."""
    with association(port, samples, calling_ae=calling_ae) as assoc:
        return [store(assoc, sample) for sample in samples]


def send_together(
    port: int, samples: Sequence[Sample], *, calling_ae: str = "CT01"
) -> list[Answer]:
    """Sends each file over an association of its own, all at the same moment."""
    start = threading.Barrier(len(samples))
    answers: list[Answer] = []

    def one(sample: Sample) -> None:
        with association(port, [sample], calling_ae=calling_ae) as assoc:
            start.wait(30)
            answers.append(store(assoc, sample))

    threads = [threading.Thread(target=one, args=(sample,)) for sample in samples]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(samples)
    return answers


@dataclass
class Modality(Sender):
    """A device that goes on sending: it calls again when it is cut off and repeats what failed.

    `acknowledged` holds the samples that were answered with Success; `refused` the other statuses.
    It makes an image each `pace` seconds, and leaves the machine to what is tested meanwhile.
    """

    port: int
    samples: Iterator[Sample]
    calling_ae: str = "CT01"
    per_association: int = 1000
    pace: float = 0.03
    acknowledged: list[Sample] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)
    cut_off: int = 0

    def _work(self) -> None:
        waiting = next(self.samples)
        while not self._stop.is_set():
            assoc = associate(
                self.port,
                contexts_of([waiting]),
                calling_ae=self.calling_ae,
                patience=_LONGEST_ANSWER,
            )
            sent = 0
            while assoc.is_established and sent < self.per_association:
                if self._stop.is_set():
                    break
                answer = store(assoc, waiting)
                if answer.status is None:
                    self.cut_off += 1
                    break
                sent += 1
                if answer.success:
                    self.acknowledged.append(answer.sample)
                    waiting = next(self.samples)
                    self._stop.wait(self.pace)
                else:
                    self.refused.append(answer)
                    self._stop.wait(0.1)
            if assoc.is_established:
                assoc.release()
            else:
                self._stop.wait(0.1)


_SENDING = re.compile(r"^I: Sending file: (.*)$")
_RESPONSE = re.compile(r"^[IWE]: Received Store Response \((.*)\)$")


# What storescu is told so that it proposes a compressed syntax; the others it proposes unasked.
_PROPOSE = {
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


def storescu(port: int, samples: Sequence[Sample], *, calling_ae: str) -> dict[Path, str]:
    """The answer to each file that dcmtk sent, such as ``Success``; others are absent."""
    groups: dict[str | None, list[str]] = {}
    for sample in samples:
        groups.setdefault(_PROPOSE.get(sample.TransferSyntaxUID), []).append(str(sample.path))
    answers: dict[Path, str] = {}
    for option, files in groups.items():
        command = ["storescu", "-v", "-nh", "-R", "-aet", calling_ae, "-aec", "GANTRY"]
        ended = subprocess.run(
            [*command, *([option] if option else []), "127.0.0.1", str(port), *files],
            env=os.environ | {"TCP_NODELAY": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=150,
            check=False,
        )
        answers |= _read(ended.stdout + ended.stderr)
    return answers


def _read(output: str) -> dict[Path, str]:
    answers: dict[Path, str] = {}
    sending: Path | None = None
    for line in output.splitlines():
        if found := _SENDING.match(line):
            sending = Path(found[1])
        elif (found := _RESPONSE.match(line)) and sending is not None:
            answers[sending] = found[1]
            sending = None
    return answers


def begin_store(assoc: Association, sample: Sample, fraction: float) -> None:
    """Sends the command and the first part of the data set of a C-STORE, and no more."""
    request = C_STORE()
    request.MessageID = 1
    request.Priority = 2
    request.AffectedSOPClassUID = sample.SOPClassUID
    request.AffectedSOPInstanceUID = sample.SOPInstanceUID
    request.DataSet = io.BytesIO(sample.dataset_bytes)
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    (context,) = assoc.accepted_contexts
    pdus = list(message.encode_msg(context.context_id, 16384))
    for pdu in pdus[: max(2, int(len(pdus) * fraction))]:
        assoc.dul.send_pdu(pdu)
