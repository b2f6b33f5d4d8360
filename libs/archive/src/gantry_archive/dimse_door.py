"""Of the settings, what each DIMSE port needs: its limits, its TLS, and who may call."""

import socket
from pathlib import Path

from gantry_dimse.limits import ServerLimits
from gantry_dimse.partners import Caller, Partners
from gantry_dimse.tls import ServerTLS, TLSFiles, check_tls_files
from gantry_dimse.user_identity import TokenKey, UserIdentities
from gantry_domain.errors import ConfigurationError
from gantry_runtime.listening import listen
from gantry_runtime.logs import get_logger
from gantry_runtime.services import DimseDoor
from gantry_runtime.settings import Settings

log = get_logger(__name__)

_PENDING_PER_HOST = 32


def server_limits(door: DimseDoor) -> ServerLimits:
    """The limits of a port's server, in one process."""
    return ServerLimits(
        max_pdu=door.max_pdu,
        max_pdu_sent=door.max_pdu_sent,
        acse_timeout=door.acse_timeout.total_seconds(),
        dimse_timeout=door.dimse_timeout.total_seconds(),
        network_timeout=door.network_timeout.total_seconds(),
        minimum_rate=door.minimum_rate,
        send_timeout=door.send_timeout.total_seconds(),
        # Those that are no association yet need room beside those that are; one host gets half.
        max_connections=door.max_associations + 2 * _PENDING_PER_HOST,
        max_pending_per_host=_PENDING_PER_HOST,
    )


def user_identities(settings: Settings) -> UserIdentities:
    """The users that callers may prove to be. Raises `ConfigurationError`."""
    section, secret = settings.user_identity, settings.dimse_jwt_secret
    public_key = None
    if section.jwt_key is not None:
        file = settings.folder / Path(section.jwt_key).expanduser()
        try:
            public_key = file.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{file}: cannot be read as a public key") from error
    token_key = None
    if public_key is not None or secret is not None:
        token_key = TokenKey(
            secret=secret.get_secret_value() if secret else None,
            public_key=public_key,
            issuer=section.jwt_issuer,
            audience=section.jwt_audience,
        )
    return UserIdentities(
        passcodes={
            name: passcode.get_secret_value() for name, passcode in settings.dimse_passcodes.items()
        },
        token_key=token_key,
        required=section.required,
    )


def listen_tls(settings: Settings, port: int | None, purpose: str) -> socket.socket | None:
    """The listening socket of a port for TLS, where there is one.

    Raises `ConfigurationError`, also for files that are no use: here too, for it is then one line.
    """
    files = _tls_files(settings)
    if port is None or files is None:
        return None
    check_tls_files(files)
    return listen(settings.listen.address, port, purpose)


def server_tls(settings: Settings) -> ServerTLS | None:
    """The TLS of a DIMSE port. Raises `ConfigurationError`."""
    files = _tls_files(settings)
    return ServerTLS(files, on_refused=_tell_refused) if files else None


def _tls_files(settings: Settings) -> TLSFiles | None:
    if settings.tls is None:
        return None
    password = settings.tls_key_password
    return TLSFiles(
        certificate=settings.tls.certificate,
        key=settings.tls.key,
        ca=settings.tls.ca,
        key_password=password.get_secret_value() if password else None,
    )


def _tell_refused(error: ConfigurationError) -> None:
    log.error("tls_files_refused", reason=str(error))


def partners_of(settings: Settings, door: DimseDoor, *, accept_unknown: bool) -> Partners:
    """The configured partners as a port treats them."""
    # Those who are asked for commitment report to the title that asked them.
    asking = [
        partner.calling_ae
        for partner in settings.partners
        if partner.calling_ae is not None and partner.prove == "commitment"
    ]
    return Partners(
        own_titles=[*settings.ae_titles, *asking],
        callers=[
            Caller(
                ae_title=partner.ae_title,
                hosts=partner.hosts,
                partition=partner.partition,
                charset=partner.charset,
                certificate=partner.certificate,
                may=partner.rights,
                sees_held=partner.sees == "held",
                max_associations=partner.max_associations,
                transfer_syntaxes=partner.transfer_syntaxes,
                storage_classes=(
                    None if partner.accept_classes is None else frozenset(partner.accept_classes)
                ),
            )
            for partner in settings.partners
        ],
        accept_unknown=accept_unknown,
        max_associations=door.max_associations_per_ae,
        max_associations_per_host=door.max_associations_per_host,
    )
