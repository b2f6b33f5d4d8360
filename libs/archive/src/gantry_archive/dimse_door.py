"""Of the settings, what each DIMSE port needs: its limits, and who may call."""

from gantry_dimse.limits import ServerLimits
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.tls import TLSFiles
from gantry_runtime.services import DimseDoor
from gantry_runtime.settings import Settings


def server_limits(door: DimseDoor) -> ServerLimits:
    """The limits of a port's server, in one process."""
    return ServerLimits(
        max_pdu=door.max_pdu,
        max_pdu_sent=door.max_pdu_sent,
        acse_timeout=door.acse_timeout.total_seconds(),
        dimse_timeout=door.dimse_timeout.total_seconds(),
        network_timeout=door.network_timeout.total_seconds(),
        send_timeout=door.send_timeout.total_seconds(),
        # Those that are no association yet need room beside those that are.
        max_connections=door.max_associations + 64,
    )


def tls_files(settings: Settings) -> TLSFiles | None:
    """The files of the TLS port; None: there is none."""
    if settings.tls is None:
        return None
    password = settings.tls_key_password
    return TLSFiles(
        certificate=settings.tls.certificate,
        key=settings.tls.key,
        ca=settings.tls.ca,
        key_password=password.get_secret_value() if password else None,
    )


def partners_of(settings: Settings, door: DimseDoor, *, accept_unknown: bool) -> Partners:
    """The configured partners as a port treats them."""
    return Partners(
        own_titles=settings.ae_titles,
        callers=[
            Caller(
                ae_title=partner.ae_title,
                hosts=partner.hosts,
                partition=partner.partition,
                charset=partner.charset,
                certificate=partner.certificate,
                max_associations=partner.max_associations,
                transfer_syntaxes=partner.transfer_syntaxes,
            )
            for partner in settings.partners
        ],
        accept_unknown=accept_unknown,
        max_associations=door.max_associations_per_ae,
    )
