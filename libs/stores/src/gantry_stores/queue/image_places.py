"""How many images each study has, counted by all machines together, in the broker's Redis.

A study is a set of its images, each a number that follows from the SOP Instance UID, and a member
that says that the set was filled from the index.

    gantry:images:main:1.2.3     -  5577006791947779410  8674665223082153551

Nothing is lost with it: a set that is gone is filled anew.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

from gantry_stores.queue.broker_asked import BrokerAsked, PlacesAway, number_of

_KEY = "gantry:images:{}:{}"
_EXPIRY = timedelta(days=1)

# KEYS: the study. ARGV: the image, the limit, for how many milliseconds the study is remembered.
_RESERVE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 2 end
if redis.call('SCARD', KEYS[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
return 1
"""

# KEYS: the study. ARGV: for how many milliseconds, and its images. The second changes nothing.
_FILL = """
if redis.call('EXISTS', KEYS[1]) == 1 then return end
redis.call('SADD', KEYS[1], '-')
for i = 2, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
"""


class Place(Enum):
    """What becomes of asking for the place of an image."""

    FULL = 0
    TAKEN = 1
    KNOWN = 2
    """The image has had it before: it is sent again."""


class _Scripts(NamedTuple):
    reserve: Any
    fill: Any
    client: Any


class ImagePlaces(BrokerAsked[_Scripts]):
    """The places of images. Safe for many threads; connects when first asked, after a fork."""

    def reserve(
        self,
        partition: str,
        StudyInstanceUID: str,
        SOPInstanceUID: str,
        *,
        limit: int,
        images: Callable[[], Iterable[str]],
    ) -> Place:
        """A place among at most `limit`; one round trip, three for the first image of a study.

        `images` gives those that the study has, if nobody knows. Raises `PlacesAway`, and what
        `images` raises.
        """
        key = _KEY.format(partition, StudyInstanceUID)
        arguments = [number_of(SOPInstanceUID), limit, _milliseconds()]
        answer = int(self._ask(lambda scripts: scripts.reserve(keys=[key], args=arguments)))
        if answer < 0:
            filling = [_milliseconds(), *map(number_of, images())]
            self._ask(lambda scripts: scripts.fill(keys=[key], args=filling))
            answer = int(self._ask(lambda scripts: scripts.reserve(keys=[key], args=arguments)))
        if answer < 0:
            raise PlacesAway
        return Place(answer)

    def release(self, partition: str, StudyInstanceUID: str, SOPInstanceUID: str) -> None:
        """Give a place back that was taken and not used. Raises `PlacesAway`."""
        key = _KEY.format(partition, StudyInstanceUID)
        self._ask(lambda scripts: scripts.client.srem(key, number_of(SOPInstanceUID)))

    def _scripts_of(self, client: Any) -> _Scripts:
        return _Scripts(client.register_script(_RESERVE), client.register_script(_FILL), client)


def _milliseconds() -> int:
    return round(_EXPIRY.total_seconds() * 1000)
