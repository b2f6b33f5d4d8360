"""What the handlers of requests work with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.engine import Engine
from starlette.requests import Request

from gantry_archive.deciding import Decider
from gantry_domain.entries import DEFAULT_PARTITION
from gantry_domain.sight import Sight
from gantry_query.access import sees_held
from gantry_query.addresses import PublicAddress
from gantry_query.delivery_door import DeliveryDoor
from gantry_query.event_feed import EventFeed
from gantry_query.failures import NotHere
from gantry_query.order_door import OrderDoor
from gantry_query.reception import StoreDoor
from gantry_query.renditions import Renditions
from gantry_query.streams import Threads
from gantry_stores.objects import ObjectStore

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The index and the store of this process, and the threads in which they are asked.

    Questions to the index and transfers have threads of their own: neither keeps the other waiting.
    """

    engine: Engine
    store: ObjectStore
    renditions: Renditions
    address: PublicAddress
    partitions: frozenset[str]
    questions: Threads
    transfers: Threads
    door: StoreDoor
    feed: EventFeed
    orders: OrderDoor
    decider: Decider
    deliveries: DeliveryDoor
    deletes: bool = False
    """Whether clients may delete."""

    def partition(self, request: Request) -> str:
        """The partition that a request is about. Raises `NotHere`."""
        partition = request.path_params.get("partition", DEFAULT_PARTITION)
        if partition not in self.partitions:
            raise NotHere("partition")
        return str(partition)

    def sight(self, request: Request) -> Sight:
        """What the caller may see, of the partition that a request is about. Raises `NotHere`."""
        return Sight(self.partition(request), held=sees_held(request))

    async def ask(self, question: Callable[[], Result]) -> Result:
        """The answer of the index."""
        return await self.questions.run(question)
