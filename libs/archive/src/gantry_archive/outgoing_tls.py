"""Of the settings, how partners are called over TLS."""

from pathlib import Path

from gantry_dimse.outgoing_tls import OutgoingTLS
from gantry_runtime.partners import Partner
from gantry_runtime.settings import Settings


def outgoing_tls(settings: Settings, partner: Partner) -> OutgoingTLS | None:
    """How a partner is called over TLS; None: it is called without."""
    return tls_to(settings, name=partner.tls_name) if partner.tls else None


def tls_to(settings: Settings, *, name: str | None = None) -> OutgoingTLS:
    """How anyone is called over TLS; `name`: whom the certificate has to be for, None: the host."""
    password = settings.tls_key_password

    def place(file: str | None) -> Path | None:
        return None if file is None else settings.folder / Path(file).expanduser()

    return OutgoingTLS(
        ca=place(settings.forward.tls_ca),
        certificate=place(settings.forward.tls_certificate),
        key=place(settings.forward.tls_key),
        key_password=password.get_secret_value() if password else None,
        name=name,
    )


def check_outgoing_tls(settings: Settings) -> None:
    """Raises `ConfigurationError` for files that are no use, if anyone is called over TLS."""
    urls = [partner.dicomweb or "" for partner in settings.partners]
    urls += [webhook.url for webhook in settings.webhooks]
    secure = any(url.startswith("https:") for url in urls)
    secure |= any(receiver.tls for receiver in settings.hl7.receivers)
    if secure or any(partner.tls for partner in settings.partners):
        tls_to(settings).context()  # the files are the same for all
