"""How much each sender brought today, counted by all machines together, in the broker's Redis.

    gantry:brought:main:CT01:20261122           instances 812   bytes 426311680
    gantry:brought:main:CT01:20261122:studies   {-, 5577006791947779410, ...}

Nothing is lost with it: what is gone is filled anew from the index.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum
from typing import Any, NamedTuple

from gantry_domain.policies.quota import Amounts
from gantry_stores.queue.broker_asked import BrokerAsked, PlacesAway, number_of

_KEY = "gantry:brought:{}:{}:{:%Y%m%d}"
_EXPIRY = round(timedelta(days=2).total_seconds() * 1000)
_NONE = -1

# KEYS: the counts, the studies. ARGV: the study; how many instances, studies and bytes there may be
# (-1: any number) before one is refused. -1: nobody knows; 0: refused; else instances, studies and
# bytes with this one, of whose bytes nobody knows yet.
_TAKE = """
if redis.call('EXISTS', KEYS[2]) == 0 then return {-1} end
local instances = tonumber(redis.call('HGET', KEYS[1], 'instances') or '0')
local bytes = tonumber(redis.call('HGET', KEYS[1], 'bytes') or '0')
local studies = redis.call('SCARD', KEYS[2]) - 1
local new = redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0
if new then studies = studies + 1 end
local over = function (value, most) return tonumber(most) >= 0 and value > tonumber(most) end
if over(instances + 1, ARGV[2]) then return {0} end
if new and over(studies, ARGV[3]) then return {0} end
if tonumber(ARGV[4]) >= 0 and bytes >= tonumber(ARGV[4]) then return {0} end
redis.call('HINCRBY', KEYS[1], 'instances', 1)
redis.call('SADD', KEYS[2], ARGV[1])
return {1, instances + 1, studies, bytes}
"""

# KEYS: likewise. ARGV: milliseconds, instances, bytes, and the studies. The second changes nothing.
_FILL = """
if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
redis.call('HSET', KEYS[1], 'instances', ARGV[2], 'bytes', ARGV[3])
redis.call('SADD', KEYS[2], '-')
for i = 4, #ARGV do redis.call('SADD', KEYS[2], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return {}
"""


@dataclass(frozen=True, slots=True)
class Brought:
    """What a sender brought in a day, by the index."""

    instances: int
    bytes: int
    studies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """With the object that was asked about; its own bytes are not in it."""

    instances: int
    studies: int
    bytes: int


class Over(Enum):
    """The answer where one is too many."""

    REFUSED = "refused"


class _Scripts(NamedTuple):
    take: Any
    fill: Any
    client: Any


class SenderCounts(BrokerAsked[_Scripts]):
    """The counts of senders. Safe for many threads; connects when first asked, after a fork."""

    def take(
        self,
        partition: str,
        calling_ae: str,
        day: date,
        StudyInstanceUID: str,
        *,
        most: Amounts,
        brought: Callable[[], Brought],
    ) -> Counted | Over:
        """Count an object that is about to come, unless it is one too many.

        `brought` gives what the sender brought today, if nobody knows. Raises `PlacesAway`, and
        what `brought` raises.
        """
        keys = _keys(partition, calling_ae, day)
        limits = [_NONE if each is None else each for each in _in_order(most)]
        arguments = [number_of(StudyInstanceUID), *limits]
        answer = self._ask(lambda scripts: scripts.take(keys=keys, args=arguments))
        if answer[0] == _NONE:
            known = brought()
            filling = [_EXPIRY, known.instances, known.bytes, *map(number_of, known.studies)]
            self._ask(lambda scripts: scripts.fill(keys=keys, args=filling))
            answer = self._ask(lambda scripts: scripts.take(keys=keys, args=arguments))
        match [int(each) for each in answer]:
            case [0]:
                return Over.REFUSED
            case [1, instances, studies, octets]:
                return Counted(instances, studies, octets)
        raise PlacesAway

    def add_bytes(self, partition: str, calling_ae: str, day: date, size: int) -> None:
        """The object came, with so many bytes. Raises `PlacesAway`."""
        counts, _ = _keys(partition, calling_ae, day)
        self._ask(lambda scripts: scripts.client.hincrby(counts, "bytes", size))

    def give_back(self, partition: str, calling_ae: str, day: date) -> None:
        """The object did not come. Its study stays counted. Raises `PlacesAway`."""
        counts, _ = _keys(partition, calling_ae, day)
        self._ask(lambda scripts: scripts.client.hincrby(counts, "instances", -1))

    def _scripts_of(self, client: Any) -> _Scripts:
        return _Scripts(client.register_script(_TAKE), client.register_script(_FILL), client)


def _keys(partition: str, calling_ae: str, day: date) -> list[str]:
    counts = _KEY.format(partition, calling_ae, day)
    return [counts, f"{counts}:studies"]


def _in_order(most: Amounts) -> Iterable[int | None]:
    return most.instances, most.studies, most.bytes
