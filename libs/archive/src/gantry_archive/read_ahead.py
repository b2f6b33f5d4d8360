"""Opens the instances that are to be sent next while one is being sent.

Of each at most `AHEAD_BYTES` are in memory before its turn: small objects whole, of others the
beginning; the rest streams from the store when it is sent.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

from gantry_archive.outbound import NotSendable, Prepare, prepared
from gantry_dimse.proposals import NegotiatedContext, NegotiatedContexts
from gantry_domain.errors import TransientError, UnreadableObject
from gantry_stores.index.search import StoredInstance
from gantry_stores.objects import ObjectNotFound, ObjectStore

AHEAD = 4
"""Instances that are opened before their turn."""

AHEAD_BYTES = 1 << 20

Unsendable = NotSendable | ObjectNotFound | UnreadableObject | TransientError
"""Why an instance cannot be sent: it is gone, or in no form that fits; or the store is away."""


@dataclass(slots=True)
class Opened:
    """An instance that is ready to be sent, or the reason why it cannot be.

    Either `context` and `chunks` are there, or `failure`. To be closed in the end.
    """

    instance: StoredInstance
    context: NegotiatedContext | None = None
    chunks: Iterable[bytes] = ()
    failure: Unsendable | None = None
    _resources: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Give back what it holds."""
        self._resources.close()


class ReadAhead:
    """Instances one after the other, each opened in good time by the threads of `readers`.

    They come in their order. Used by one thread.
    """

    def __init__(
        self,
        instances: Iterator[StoredInstance],
        contexts: NegotiatedContexts,
        *,
        store: ObjectStore,
        readers: Executor,
        prepare: Prepare = prepared,
    ) -> None:
        """`instances` are asked for by the readers, one at a time; `contexts` of the peer."""
        self._instances = instances
        self._contexts = contexts
        self._store = store
        self._readers = readers
        self._prepare = prepare
        self._one_asks = threading.Lock()
        self._ended = False
        # In order: those that nobody has taken yet, and of them those that no reader works at.
        self._waiting: deque[Future[Opened | None]] = deque()
        self._unfilled: deque[Future[Opened | None]] = deque()

    def next(self) -> Future[Opened | None]:
        """The next one; None if there is none. It may be an error of the index."""
        while len(self._waiting) < AHEAD:
            place: Future[Opened | None] = Future()
            self._waiting.append(place)
            self._unfilled.append(place)
            self._readers.submit(self._open_next).add_done_callback(self._done)
        return self._waiting.popleft()

    def give_back(self) -> Iterator[StoredInstance]:
        """Stop, and return the instances that were not taken; waits for what is being opened."""
        wait(self._waiting)
        left = []
        for future in self._waiting:
            if not future.exception() and (opened := future.result()) is not None:
                opened.close()
                left.append(opened.instance)
        self._waiting.clear()
        return chain(left, self._instances)

    def close(self) -> None:
        """Stop; what was opened is closed without waiting for it."""
        self._ended = True
        for future in self._waiting:
            future.add_done_callback(close_opened)
        self._waiting.clear()

    def _open_next(self) -> None:
        # Who gets the instance gets its place too, whichever reader was the first to begin.
        with self._one_asks:
            place = self._unfilled.popleft()
            try:
                instance = None if self._ended else next(self._instances, None)
            # The door of the reader: what the index raises is for who takes the place.
            except Exception as error:  # noqa: BLE001
                place.set_exception(error)
                return
        try:
            place.set_result(None if instance is None else self._open(instance))
        # Likewise what the store raises.
        except Exception as error:  # noqa: BLE001
            place.set_exception(error)

    def _done(self, reading: Future[None]) -> None:
        if reading.cancelled():  # the readers end
            with self._one_asks:
                self._unfilled.popleft().set_result(None)

    def _open(self, instance: StoredInstance) -> Opened:
        resources = ExitStack()
        try:
            ready = resources.enter_context(
                self._prepare(instance.object, self._contexts, store=self._store)
            )
            chunks = iter(ready.chunks)
            beginning = []
            size = 0
            for chunk in chunks:
                beginning.append(chunk)
                size += len(chunk)
                if size >= AHEAD_BYTES:
                    break
        except (NotSendable, ObjectNotFound, UnreadableObject, TransientError) as error:
            resources.close()
            return Opened(instance, failure=error)
        except BaseException:  # nothing is left open, whatever it was
            resources.close()
            raise
        return Opened(instance, ready.context, chain(beginning, chunks), _resources=resources)


def close_opened(future: Future[Opened | None]) -> None:
    """Close what a future turns out to be, which nobody waits for any more."""
    if not future.cancelled() and not future.exception() and (opened := future.result()):
        opened.close()
