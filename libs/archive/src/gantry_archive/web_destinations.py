"""The partners that are sent to over DICOMweb, and all that can be sent to in whichever way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import time
from urllib.parse import quote

import orjson

from gantry_archive.destinations import Destination, destinations, is_time
from gantry_archive.outgoing_tls import tls_to
from gantry_archive.place_destinations import PlaceDestination, place_destinations
from gantry_archive.transforms import AS_THEY_ARE, Transforms, transforms_of
from gantry_archive.web_connection import WebAnswer, WebConnection, WebPlace
from gantry_dimse.pacing import Pacer
from gantry_dimse.peer_errors import PeerBrokeProtocol, Unreachable
from gantry_dimse.requesting import Timeouts
from gantry_domain.day_times import DaySpan
from gantry_domain.errors import TransientError
from gantry_runtime.settings import Settings

_SOP_INSTANCE = "00080018"
_PAGE = 500
# RFC 9110 15.5, 15.6; RFC 6585 4: it is not the server of the address, or that has no time.
AWAY = frozenset((429, 502, 503, 504))


class SearchFailed(TransientError):
    """A DICOMweb server answered a search with something else than what it found."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the destination answered a search with HTTP {status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDestination:
    """A partner that takes instances over STOW-RS (PS3.18 10.5). The other fields are as those of
    `Destination`."""

    ae_title: str
    place: WebPlace
    prove: str | None = None
    pacer: Pacer | None = None
    send_between: tuple[DaySpan, ...] = ()
    transforms: Transforms = AS_THEY_ARE

    def connection(self, timeouts: Timeouts) -> WebConnection:
        """A connection that is made with the first request."""
        return WebConnection(self.place, timeouts=timeouts, pacer=self.pacer)

    def takes_routed(self, now: time) -> bool:
        """See `Destination`."""
        return is_time(self.send_between, now)

    def probe(self, timeouts: Timeouts) -> None:
        """Return if somebody answers there. Raises `Unreachable` or an `AssociationLost`."""
        connection = self.connection(timeouts)
        try:
            answer = connection.request("OPTIONS", "/studies")
        finally:
            connection.close()
        if answer.status in AWAY:
            raise Unreachable(self.place.base, f"HTTP {answer.status}")

    def find_instances(
        self, StudyInstanceUID: str, series: Iterable[str], *, timeouts: Timeouts
    ) -> set[str]:
        """The instances of these series that it finds (QIDO-RS, PS3.18 10.6).

        Raises what a request raises, or `SearchFailed`.
        """
        found: set[str] = set()
        connection = self.connection(timeouts)
        try:
            for uid in series:
                found |= _instances(connection, StudyInstanceUID, uid)
        finally:
            connection.close()
        return found


AnyDestination = Destination | WebDestination | PlaceDestination


def sendable(settings: Settings) -> dict[str, AnyDestination]:
    """The partners that deliveries go to, by AE title: over DIMSE, over DICOMweb, or as files."""
    found: dict[str, AnyDestination] = {
        **destinations(settings),
        **place_destinations(settings),
    }
    for partner in settings.partners:
        if partner.dicomweb is None:
            continue
        found[partner.ae_title] = WebDestination(
            ae_title=partner.ae_title,
            place=WebPlace(
                base=partner.dicomweb,
                authorization=settings.web_authorization(partner.ae_title),
                tls=tls_to(settings, name=partner.tls_name),
            ),
            prove=partner.prove,
            pacer=None if partner.rate is None else Pacer(partner.rate),
            send_between=partner.day_spans,
            transforms=transforms_of(settings, partner),
        )
    return found


def _instances(connection: WebConnection, study: str, series: str) -> set[str]:
    found: set[str] = set()
    path = f"/studies/{quote(study)}/series/{quote(series)}/instances"
    offset = 0
    while True:
        answer = connection.request(
            "GET", f"{path}?includefield={_SOP_INSTANCE}&limit={_PAGE}&offset={offset}"
        )
        page = _page(answer)
        new = {uid for item in page if (uid := _uid(item)) is not None} - found
        found |= new
        offset += len(page)
        # A server that knows no pages answers with the same again.
        if not new:
            return found


def _page(answer: WebAnswer) -> Sequence[object]:
    if answer.status in (204, 404):  # nothing, said in either way
        return ()
    if answer.status != 200:
        raise SearchFailed(answer.status)
    try:
        page = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise PeerBrokeProtocol("what it found is no JSON") from error
    return page if isinstance(page, list) else ()


def _uid(item: object) -> str | None:
    element = item.get(_SOP_INSTANCE) if isinstance(item, dict) else None
    value = element.get("Value") if isinstance(element, dict) else None
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else None
