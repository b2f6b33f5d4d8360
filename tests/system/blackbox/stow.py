"""Stores over HTTP as clients do (STOW-RS, PS3.18 10.5), one instance for each request."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from blackbox.datasets import Sample


@dataclass
class Uploader:
    """A client that goes on storing and repeats what failed; see `scu.Modality`.

    `acknowledged` holds the samples that were answered with 200; `refused` the other statuses.
    """

    url: str
    samples: Iterator[Sample]
    acknowledged: list[Sample] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _failed: list[Exception] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self) -> "Uploader":
        """Begins to store."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Finishes what it is storing. Every request must have had an answer."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(90)
        assert not self._thread.is_alive(), "the client hangs"
        assert not self._failed, self._failed

    def _work(self) -> None:
        try:
            with httpx.Client(timeout=60, headers={"Content-Type": "application/dicom"}) as client:
                while not self._stop.is_set():
                    self._store(client, next(self.samples))
        except httpx.HTTPError as error:  # told by who stops us
            self._failed.append(error)

    def _store(self, client: httpx.Client, sample: Sample) -> None:
        while not self._stop.is_set():
            status = client.post(self.url, content=sample.path.read_bytes()).status_code
            if status == 200:
                self.acknowledged.append(sample)
                return
            self.refused.append(status)
            self._stop.wait(0.1)
