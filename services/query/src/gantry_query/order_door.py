"""What orders over HTTP need to know of the settings."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gantry_runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class OrderDoor:
    """`zone`: in which times are told; `open`: whether whoever gets through may send orders."""

    zone: ZoneInfo
    open: bool


def order_door(settings: Settings) -> OrderDoor:
    """Open to clients that sign in, and on this machine alone to any."""
    alone = settings.listen.loopback and not settings.http.trusted_proxies
    alone = alone and not settings.http.public_url
    return OrderDoor(settings.zone, settings.web_clients_sign_in or alone)
