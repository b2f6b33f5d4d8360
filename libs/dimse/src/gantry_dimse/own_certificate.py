"""Who we are by the certificate that we show, as those see it whom we show it."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from gantry_dimse.observer import PeerCertificate
from gantry_domain.errors import ConfigurationError


def certificate_in(file: Path) -> PeerCertificate:
    """The first certificate of a PEM file. Raises `ConfigurationError`."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: cannot be read as a certificate") from error
    names = {
        str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    }
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    else:
        names.update(extension.value.get_values_for_type(x509.DNSName))
        names.update(extension.value.get_values_for_type(x509.UniformResourceIdentifier))
    return PeerCertificate(
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        names=frozenset(name.casefold() for name in names),
    )
