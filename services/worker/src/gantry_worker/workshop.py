"""What the tasks of one pool process work with, opened after the fork when first needed."""

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from sqlalchemy.engine import Engine

from gantry_archive.caution import CarefulIndexer
from gantry_archive.reading import ReadingRules, reading_rules
from gantry_archive.rejudging import order_feed
from gantry_domain.object_place import Bucket
from gantry_domain.policies.rules import PolicySet
from gantry_runtime.settings import Settings
from gantry_stores.index.database import make_engine
from gantry_stores.index.evidence import OrderFeed
from gantry_stores.objects import ObjectStore, open_store
from gantry_stores.queue.application import make_celery
from gantry_worker.broker import Broker

_READERS = 8


@dataclass
class Workshop:
    """Stores and broker of one process. `stopping` ends what waits."""

    settings: Settings
    stopping: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def store(self) -> ObjectStore:
        """The object store. Raises `StoreUnavailable`, and is tried again next time."""
        return open_store(self.settings.objects_place)

    @cached_property
    def engine(self) -> Engine:
        """The index; the sweep holds its lock on one connection and works on another."""
        return make_engine(
            self.settings.database_url,
            pool_size=3,
            # Together with the task's patience within the time after which a message comes again.
            statement_timeout=timedelta(seconds=15),
            lock_timeout=timedelta(seconds=8),
            application_name="gantry-worker",
        )

    @cached_property
    def indexer(self) -> CarefulIndexer:
        """What indexes, with the store and the index of this process. Raises as `store` does."""
        return CarefulIndexer(
            store=self.store,
            engine=self.engine,
            rules=self.rules,
            stopping=self.stopping,
            readers=self._readers(),
        )

    def _readers(self) -> Executor | None:
        """Where each header costs a way to a server and back, several are read at once."""
        if isinstance(self.settings.objects_place, Bucket):
            return ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        return None

    @cached_property
    def broker(self) -> Broker:
        """The broker, apart from the connection through which tasks come."""
        return Broker(make_celery(self.settings.broker_url))

    @cached_property
    def rules(self) -> ReadingRules:
        """What the configuration says of senders."""
        return reading_rules(self.settings.partners)

    @cached_property
    def policies(self) -> PolicySet:
        """What the configuration says of studies."""
        return self.settings.policy_set

    @cached_property
    def feed(self) -> OrderFeed:
        """Where orders come in."""
        return order_feed(self.settings)
