"""What the configuration says of listeners: the address, the ports for TLS, proxies before them."""

from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from gantry_runtime.section import Section
from gantry_runtime.values import IPAddress, Network

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared with, not bound)


def reachable(address: str) -> str:
    """Where to call a listener of this machine that is bound to `address`."""
    return _ANY.get(address, address)


class TLSPlaces(NamedTuple):
    """The PEM files of the TLS ports, absolute."""

    certificate: Path
    key: Path
    ca: Path | None


class Listen(Section):
    """Where the listeners are bound."""

    address: IPAddress = "127.0.0.1"
    tls_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of the front door over TLS, taken as it is written; None: there is none."""
    query_tls_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of query and retrieve over TLS, likewise."""
    hl7_tls_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of HL7 over TLS, likewise."""
    tls_certificate: str | None = None
    """The certificate of all with the chain, PEM."""
    tls_key: str | None = None
    """The key, PEM; a password is in GANTRY_TLS_KEY_PASSWORD."""
    tls_ca: str | None = None
    """Who signs the certificates that callers then have to show, PEM; None: they need none."""
    proxies: Annotated[tuple[Network, ...], Field(strict=False)] = ()
    """Load balancers that say by the PROXY protocol who calls the front door; they have to."""

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        ports = {
            "tls_port": self.tls_port,
            "query_tls_port": self.query_tls_port,
            "hl7_tls_port": self.hl7_tls_port,
        }
        wanted = [name for name, port in ports.items() if port is not None]
        if wanted and not (self.tls_certificate and self.tls_key):
            raise ValueError(f"{wanted[0]} needs tls_certificate and tls_key")
        if not wanted and (self.tls_certificate or self.tls_key or self.tls_ca):
            raise ValueError(
                "the TLS files are of no use without tls_port, such as 2762, query_tls_port or "
                "hl7_tls_port"
            )
        for first, second in combinations(wanted, 2):
            if ports[first] == ports[second]:
                raise ValueError(f"{first} and {second} are one port")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the listeners."""
        return ip_address(self.address).is_loopback

    def tls_places(self, folder: Path) -> TLSPlaces | None:
        """The files, seen from the folder of the configuration; None without a port for TLS."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TLSPlaces(
            folder / Path(self.tls_certificate).expanduser(),
            folder / Path(self.tls_key).expanduser(),
            None if self.tls_ca is None else folder / Path(self.tls_ca).expanduser(),
        )
