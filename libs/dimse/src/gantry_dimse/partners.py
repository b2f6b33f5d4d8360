"""Who may call, and what is known of them: decided on titles and addresses alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from gantry_dimse.limits import Terms
from gantry_dimse.observer import Peer, PeerCertificate
from gantry_domain.sight import Sight
from gantry_domain.statuses import (
    CALLED_AE_NOT_RECOGNIZED,
    CALLING_AE_NOT_RECOGNIZED,
    Rejection,
)

OTHER = "other"
MAIN_PARTITION = "main"


@dataclass(frozen=True, slots=True)
class Caller:
    """A configured partner: its title, the networks it may call from (None: any), its partition.

    `charset`: the character set of its texts, as a value of (0008,0005). `certificate`: it has to
    show one with one of these, a name or a SHA-256 fingerprint; None: it needs none. `may`: the
    services that it may use, of `store`, `find`, `move` and `get`; None: all.
    `sees_held`: studies that are held out of sight, too. `max_associations`,
    `transfer_syntaxes` and `storage_classes`: see `Terms`.
    """

    ae_title: str
    hosts: tuple[IPv4Network | IPv6Network, ...] | None
    partition: str
    charset: str | None = None
    certificate: tuple[str, ...] | None = None
    may: frozenset[str] | None = None
    sees_held: bool = False
    max_associations: int | None = None
    transfer_syntaxes: tuple[str, ...] | None = None
    storage_classes: frozenset[str] | None = None


class Partners:
    """The configured partners, found by their title; case does not count, for devices differ."""

    def __init__(
        self,
        *,
        own_titles: Sequence[str],
        callers: Sequence[Caller],
        accept_unknown: bool,
        max_associations: int | None = None,
        max_associations_per_host: int | None = None,
    ) -> None:
        """`max_associations`: of each caller that has no limit of its own; None: no limit.

        `max_associations_per_host`: of each host, whoever calls from there; None: no limit.
        """
        self._own_titles = {title.casefold() for title in own_titles}
        self._callers = {caller.ae_title.casefold(): caller for caller in callers}
        self._accept_unknown = accept_unknown
        self._max_associations = max_associations
        self._max_associations_per_host = max_associations_per_host

    def admit(self, peer: Peer) -> Rejection | None:
        """None, or how an association is rejected (PS3.8 Table 9-21)."""
        if peer.called_ae.casefold() not in self._own_titles:
            return CALLED_AE_NOT_RECOGNIZED
        caller = self._caller(peer)
        if caller is None:
            accepted = self._accept_unknown and peer.calling_ae != ""
            return None if accepted else CALLING_AE_NOT_RECOGNIZED
        if caller.hosts is not None and not within(peer.host, caller.hosts):
            return CALLING_AE_NOT_RECOGNIZED
        if caller.certificate is not None and not _shows(peer.certificate, caller.certificate):
            return CALLING_AE_NOT_RECOGNIZED
        return None

    def terms(self, peer: Peer) -> Terms:
        """What this caller gets."""
        caller = self._caller(peer)
        most = None if caller is None else caller.max_associations
        return Terms(
            max_associations=self._max_associations if most is None else most,
            max_associations_per_host=self._max_associations_per_host,
            transfer_syntaxes=None if caller is None else caller.transfer_syntaxes,
            storage_classes=None if caller is None else caller.storage_classes,
        )

    def may(self, calling_ae: str, service: str) -> bool:
        """Whether whoever was admitted under this title may use a service: `store`, `find`, ..."""
        caller = self._callers.get(calling_ae.casefold())
        return caller is None or caller.may is None or service in caller.may

    def label(self, calling_ae: str) -> str:
        """The partner's title for a metric, `other` for a stranger's."""
        caller = self._callers.get(calling_ae.casefold())
        return OTHER if caller is None else caller.ae_title

    def partition(self, calling_ae: str) -> str:
        """The partition that this partner sends to."""
        caller = self._callers.get(calling_ae.casefold())
        return MAIN_PARTITION if caller is None else caller.partition

    def sight(self, calling_ae: str) -> Sight:
        """What whoever was admitted under this title may see."""
        caller = self._callers.get(calling_ae.casefold())
        return Sight(self.partition(calling_ae), held=caller is not None and caller.sees_held)

    def charset(self, calling_ae: str) -> str | None:
        """The character set that this partner is configured with."""
        caller = self._callers.get(calling_ae.casefold())
        return None if caller is None else caller.charset

    def _caller(self, peer: Peer) -> Caller | None:
        return self._callers.get(peer.calling_ae.casefold())


def _shows(shown: PeerCertificate | None, wanted: Sequence[str]) -> bool:
    if shown is None:
        return False
    # Fingerprints are written with colons and in either case.
    return any(
        each.casefold() in shown.names or each.replace(":", "").lower() == shown.fingerprint
        for each in wanted
    )


def within(host: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether an address lies in one of the networks; of IPv4 also where IPv6 carries it."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
