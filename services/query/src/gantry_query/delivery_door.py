"""What deliveries over HTTP need to know of the settings."""

from dataclasses import dataclass

from gantry_domain.routes import Route
from gantry_runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class DeliveryDoor:
    """`destinations`: the partners that can be sent to; `open`: whether whoever gets through may
    have something sent; `routes`: by what time ranges can be sent again; `subscribers`: who is told
    of events."""

    destinations: tuple[str, ...] = ()
    open: bool = False
    routes: tuple[Route, ...] = ()
    subscribers: tuple[str, ...] = ()


def delivery_door(settings: Settings) -> DeliveryDoor:
    """Open to clients that sign in, and on this machine alone to any."""
    alone = settings.listen.loopback and not settings.http.trusted_proxies
    alone = alone and not settings.http.public_url
    return DeliveryDoor(
        tuple(partner.ae_title for partner in settings.partners if partner.takes_deliveries),
        settings.web_clients_sign_in or alone,
        settings.route_table,
        settings.subscribers,
    )
