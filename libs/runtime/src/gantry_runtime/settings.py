"""What a run is told: one YAML file, a few names of the environment, and nothing else."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    SecretStr,
)

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import ObjectPlace
from gantry_runtime.auth_section import Auth, Grant, parse_tokens
from gantry_runtime.configuration import read_yaml, validated
from gantry_runtime.embedded import EmbeddedPlaces, default_data_folder
from gantry_runtime.file_section import Configuration
from gantry_runtime.listen_section import TLSPlaces, reachable
from gantry_runtime.names import did_you_mean
from gantry_runtime.services import DimseDoor
from gantry_runtime.users import parse_passcodes
from gantry_runtime.values import split_host_and_port
from gantry_runtime.web_secrets import authorization_header, parse_web_secrets
from gantry_runtime.webhook_section import parse_webhook_secrets, webhook_keys

ENVIRONMENT = (
    "GANTRY_CONFIG",
    "GANTRY_DATA",
    "GANTRY_PORT_BASE",
    "GANTRY_DATABASE_PASSWORD",
    "GANTRY_BROKER_PASSWORD",
    "GANTRY_TLS_KEY_PASSWORD",
    "GANTRY_DIMSE_PASSCODES",
    "GANTRY_DIMSE_JWT_SECRET",
    "GANTRY_HTTP_TOKENS",
    "GANTRY_DICOMWEB_SECRETS",
    "GANTRY_WEBHOOK_SECRETS",
    "GANTRY_DEIDENTIFYING_KEY",
)


_SHORTEST_KEY = 32


class Ports(NamedTuple):
    """The TCP ports of one run: the default plus the run's port base."""

    dimse: int
    query_dimse: int
    worklist: int
    hl7: int
    http: int
    ingress_metrics: int
    worker_metrics: int
    query_metrics: int
    worklist_metrics: int


_DEFAULT_PORTS = Ports(
    dimse=11112,
    query_dimse=11113,
    worklist=11114,
    hl7=2575,
    http=8080,
    ingress_metrics=9101,
    worker_metrics=9102,
    query_metrics=9103,
    worklist_metrics=9104,
)


def _with_password(url: str, password: SecretStr | None, scheme: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    secret = f":{quote(password.get_secret_value(), safe='')}" if password else ""
    netloc = f"{user}{secret}@{host}" if at or secret else host
    # urlunsplit drops the empty authority of scheme:///path.
    return f"{scheme}://{netloc}{urlunsplit(('', '', parts.path, parts.query, ''))}"


class Settings(Configuration):
    """The configuration together with what the environment says."""

    data: Path
    """The folder of the embedded default, absolute."""
    port_base: int = 0
    """Added to every default port."""
    database_password: SecretStr | None = None
    broker_password: SecretStr | None = None
    tls_key_password: SecretStr | None = None
    dimse_passcodes: dict[str, SecretStr] = Field(default_factory=dict)
    """By user name."""
    dimse_jwt_secret: SecretStr | None = None
    http_tokens: dict[str, tuple[SecretStr, ...]] = Field(default_factory=dict)
    """By the name of the web client."""
    dicomweb_secrets: dict[str, SecretStr] = Field(default_factory=dict)
    """By the AE title of the partner: a bearer token, or user:password."""
    webhook_secrets: dict[str, tuple[SecretStr, ...]] = Field(default_factory=dict)
    """By the name of the webhook."""
    deidentifying_secret: SecretStr | None = None
    folder: Path = Path()
    """The folder of the file, from which paths in it are read."""

    @property
    def ports(self) -> Ports:
        """The ports of this run."""
        return Ports(*(port + self.port_base for port in _DEFAULT_PORTS))

    @property
    def strangers_may_query(self) -> bool:
        """Whether callers may query and retrieve whose AE title is not among the partners."""
        answer = self.unknown_partners.query
        return self.listen.loopback if answer is None else answer == "accept"

    @property
    def strangers_may_use_worklist(self) -> bool:
        """Whether callers may ask for the worklist, and tell what they performed, likewise."""
        answer = self.unknown_partners.worklist
        return self.listen.loopback if answer is None else answer == "accept"

    def limits_in_cluster(self, door: DimseDoor) -> bool:
        """Whether callers of this port have limits, and these hold over all machines."""
        limited = (
            door.max_associations_per_ae is not None
            or door.max_associations_per_host is not None
            or any(partner.max_associations is not None for partner in self.partners)
        )
        wanted = self.broker is not None if door.cluster_limits is None else door.cluster_limits
        return limited and wanted

    @property
    def query_place(self) -> tuple[str, int]:
        """Where the front door finds the port of queries."""
        return self._place(self.ingress.front_door.query, self.ports.query_dimse)

    @property
    def worklist_place(self) -> tuple[str, int]:
        """Where the front door finds the port of the worklist."""
        return self._place(self.ingress.front_door.worklist, self.ports.worklist)

    def _place(self, configured: str | None, port: int) -> tuple[str, int]:
        if configured is not None:
            return split_host_and_port(configured)
        return reachable(self.listen.address), port

    @property
    def front_door_key(self) -> bytes:
        """By which our services know each other: as secret as the passwords that they share."""
        password = self.database_password
        shared = self.broker_url, password.get_secret_value() if password else ""
        return hashlib.sha256("\n".join(("front door", *shared)).encode()).digest()

    @property
    def web_clients(self) -> Mapping[str, Grant]:
        """What each client of the web door may do that can say who it is.

        :raises ConfigurationError: clients and tokens do not fit together.
        """
        return (self.auth or Auth(kind="none")).granted(self.http_tokens)

    def web_authorization(self, ae_title: str) -> str | None:
        """The Authorization header for the DICOMweb server of a partner: never log it."""
        secret = self.dicomweb_secrets.get(ae_title)
        return None if secret is None else authorization_header(secret)

    def webhook_keys(self, name: str) -> tuple[bytes, ...]:
        """By which what a webhook is told is signed.

        :raises ConfigurationError: it has no secret.
        """
        return webhook_keys(self.webhook_secrets, name)

    @property
    def deidentifying_key(self) -> bytes:
        """What pseudonyms and moved dates hang on."""
        assert self.deidentifying_secret is not None  # load_settings sees to it
        return self.deidentifying_secret.get_secret_value().encode()

    @property
    def embedded(self) -> EmbeddedPlaces:
        """Where the embedded engines of this data folder are."""
        return EmbeddedPlaces(self.data)

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the index, with its password: never log it."""
        if self.database is None:
            return self.embedded.database_url
        return _with_password(self.database, self.database_password, "postgresql+psycopg")

    @property
    def broker_url(self) -> str:
        """Celery's URL of the broker, with its password: never log it."""
        if self.broker is None:
            return self.embedded.broker_url
        return _with_password(self.broker, self.broker_password, urlsplit(self.broker).scheme)

    @property
    def objects_place(self) -> ObjectPlace:
        """Where the objects are: an absolute folder, or a bucket."""
        return self.data / "objects" if self.objects is None else self.objects.place()

    @property
    def spool(self) -> Path | None:
        """Where bulk data wait, absolute; None: where the system has temporary files."""
        if self.http.spool is not None:
            return self.folder / Path(self.http.spool).expanduser()
        # Embedded, the data folder has the room: /tmp may be memory.
        return self.data / "spool" if self.objects is None else None

    @property
    def tls(self) -> TLSPlaces | None:
        """Where the TLS files of the DIMSE ports are, if one of them is for TLS."""
        return self.listen.tls_places(self.folder)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of windows, messages and "today"."""
        return ZoneInfo(self.timezone)


def _check_names(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith("GANTRY_") and name not in ENVIRONMENT:
            hint = did_you_mean(name, ENVIRONMENT)
            raise ConfigurationError(f"{name} in the environment means nothing{hint}")


def _port_base(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) % 100 or int(text) > 20_000:
        raise ConfigurationError(
            f"GANTRY_PORT_BASE is {text!r}: it must be a multiple of 100 from 0 to 20000"
        )
    return int(text)


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment and the file that it names.

    :raises ConfigurationError: one line with the file, the full path of the key and what is wrong.
    """
    _check_names(environ)
    file = Path(environ["GANTRY_CONFIG"]).absolute() if environ.get("GANTRY_CONFIG") else None
    document = read_yaml(file) if file else {}
    configuration = validated(Configuration, document, file)
    objects = configuration.objects
    if objects is not None and file is not None:
        objects = objects.resolved(file.parent)
    if environ.get("GANTRY_DATA"):
        data = Path(environ["GANTRY_DATA"]).expanduser().absolute()
    else:
        data = default_data_folder(
            environ.get("HOME"), environ.get("XDG_DATA_HOME"), root=os.geteuid() == 0
        )
    passwords = {
        key: SecretStr(environ[name])
        for key, name in (
            ("database_password", "GANTRY_DATABASE_PASSWORD"),
            ("broker_password", "GANTRY_BROKER_PASSWORD"),
            ("tls_key_password", "GANTRY_TLS_KEY_PASSWORD"),
            ("dimse_jwt_secret", "GANTRY_DIMSE_JWT_SECRET"),
            ("deidentifying_secret", "GANTRY_DEIDENTIFYING_KEY"),
        )
        if environ.get(name)
    }
    passcodes = environ.get("GANTRY_DIMSE_PASSCODES")
    if configuration.user_identity.required and not (
        passcodes or passwords.get("dimse_jwt_secret") or configuration.user_identity.jwt_key
    ):
        raise ConfigurationError(
            f"{file}: user_identity.required: nobody could prove anything: set "
            "GANTRY_DIMSE_PASSCODES, GANTRY_DIMSE_JWT_SECRET or user_identity.jwt_key"
        )
    key = passwords.get("deidentifying_secret")
    hiding = [partner.ae_title for partner in configuration.partners if partner.deidentify]
    if hiding and (key is None or len(key.get_secret_value()) < _SHORTEST_KEY):
        raise ConfigurationError(
            f"{file}: deidentify of {hiding[0]} needs GANTRY_DEIDENTIFYING_KEY: at least "
            f"{_SHORTEST_KEY} characters that nobody can guess, and that stay the same"
        )
    tokens = environ.get("GANTRY_HTTP_TOKENS")
    values = {name: getattr(configuration, name) for name in Configuration.model_fields}
    return Settings.model_validate(
        values
        | passwords
        | {
            "objects": objects,
            # Symbolic links resolved, so that two names of one folder are one run.
            "data": data.resolve(),
            "dimse_passcodes": parse_passcodes(passcodes) if passcodes else {},
            "http_tokens": parse_tokens(tokens) if tokens else {},
            "dicomweb_secrets": parse_web_secrets(
                environ.get("GANTRY_DICOMWEB_SECRETS") or "{}", configuration.partners
            ),
            "webhook_secrets": parse_webhook_secrets(
                environ.get("GANTRY_WEBHOOK_SECRETS") or "{}", configuration.webhooks
            ),
            "folder": file.parent if file else Path(),
            "port_base": _port_base(environ.get("GANTRY_PORT_BASE") or "0"),
        }
    )
