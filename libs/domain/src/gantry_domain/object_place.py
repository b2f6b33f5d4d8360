"""Where the objects are kept: a folder of this machine, or a bucket of an S3 server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Encryption = Literal["AES256", "aws:kms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and how its server is reached. The credentials are not here: see the store."""

    name: str
    prefix: str = ""
    """The part of the bucket that is ours, without slashes at its ends; empty: all of it."""
    endpoint: str | None = None
    """The URL of the server; None: that of Amazon in the region."""
    region: str | None = None
    """None: what the environment says, else us-east-1."""
    path_style: bool = True
    """Whether the bucket is named in the path, or else in the name of the host."""
    ca_file: Path | None = None
    """The PEM certificates of the authority that signs the server's; None: those of the system."""
    timeout: float
    """Seconds for one request."""
    create: bool = False
    """Make the bucket at the start if it is not there."""
    versioning: bool = False
    """The bucket must keep old versions."""
    encryption: Encryption | None = None
    """How each object is encrypted by the server."""
    profile: str | None = None
    """Whose credentials are used, of those in the files of AWS; None: the usual ones."""
    kms_key: str | None = None
    """The key of `aws:kms`; None: the account's own."""

    def __str__(self) -> str:
        return f"s3://{self.name}" + (f"/{self.prefix}" if self.prefix else "")


ObjectPlace = Path | Bucket
