"""Where the embedded engines of a data folder are found: every process computes the same.

    DATA/postgres/            the database cluster          DATA/redis/      the dump of Redis
    DATA/run/p/.s.PGSQL.5432  the database's socket         DATA/run/r/s     the broker's socket
    DATA/secrets/database     its password, mode 0600       DATA/secrets/broker

A socket's path has at most 107 bytes (``sun_path`` of unix(7)). Where DATA is too long for that,
the ``run`` folder is ``/tmp/gantry-<uid>-<hash of DATA>`` instead; who makes it checks its owner.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gantry_domain.errors import ConfigurationError

USER = "gantry"
DATABASE = "gantry"
_LONGEST_SOCKET = "p/.s.PGSQL.5432.lock"
_SUN_PATH = 107


@dataclass(frozen=True, slots=True)
class EmbeddedPlaces:
    """The folders, sockets and password files of the engines embedded in one data folder."""

    data: Path

    @property
    def run(self) -> Path:
        """The parent of the socket folders."""
        inside = self.data / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET)) <= _SUN_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(f"/tmp/gantry-{os.getuid()}-{digest}")  # noqa: S108 (TMPDIR may differ between two shells; the maker checks the owner)

    @property
    def postgres_sockets(self) -> Path:
        """The folder of PostgreSQL's socket."""
        return self.run / "p"

    @property
    def redis_socket(self) -> Path:
        """The socket of Redis."""
        return self.run / "r" / "s"

    @property
    def database_password_file(self) -> Path:
        """The file with the password of the embedded database."""
        return self.data / "secrets" / "database"

    @property
    def broker_password_file(self) -> Path:
        """The file with the password of the embedded broker."""
        return self.data / "secrets" / "broker"

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of the database; ConfigurationError before its first start."""
        password = self._password(self.database_password_file)
        host = quote(str(self.postgres_sockets))
        return f"postgresql+psycopg://{USER}:{password}@/{DATABASE}?host={host}"

    @property
    def broker_url(self) -> str:
        """Celery's URL of the broker; ConfigurationError before its first start."""
        password = self._password(self.broker_password_file)
        return f"redis+socket://:{password}@{quote(str(self.redis_socket))}"

    def _password(self, file: Path) -> str:
        try:
            return file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            raise ConfigurationError(
                f"nothing was ever started in {self.data}: run ./gantry up, "
                "or name another folder in GANTRY_DATA"
            ) from None
        except PermissionError:
            raise ConfigurationError(f"{self.data} belongs to another user") from None


def default_data_folder(home: str | None, xdg_data_home: str | None, *, root: bool) -> Path:
    """Where images live unless GANTRY_DATA says otherwise; never inside the source tree."""
    if root:
        return Path("/var/lib/gantry")
    if xdg_data_home and Path(xdg_data_home).is_absolute():
        return Path(xdg_data_home) / "gantry"
    if home and Path(home).is_absolute():
        return Path(home) / ".local" / "share" / "gantry"
    raise ConfigurationError("there is no HOME to keep data in: name a folder in GANTRY_DATA")
