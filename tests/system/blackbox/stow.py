"""Stores over HTTP as clients do (STOW-RS, PS3.18 10.5), one instance for each request."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from blackbox.datasets import Sample
from blackbox.sender import Sender


@dataclass
class Uploader(Sender):
    """A client that goes on storing and repeats what failed; see `scu.Modality`.

    `acknowledged` holds the samples that were answered with 200; `refused` the other statuses.
    """

    url: str
    samples: Iterator[Sample]
    acknowledged: list[Sample] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    _failed: list[Exception] = field(default_factory=list)

    def stop(self) -> None:
        """Finishes what it is storing. Every request must have had an answer."""
        super().stop()
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
