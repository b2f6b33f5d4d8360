"""What the configuration says of folders and buckets: the object store, and where we send to."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from gantry_domain.object_place import Bucket, Encryption, ObjectPlace
from gantry_runtime.section import Section
from gantry_runtime.values import Duration, WebAddress, parse_duration

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
# The names that Amazon allows; the prefix is one that all our keys can follow.
_URL = re.compile(rf"s3://([a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])(?:/({_SEGMENT}(?:/{_SEGMENT})*))?/?")


def _bucket_url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError(f"{value!r} is not s3://bucket or s3://bucket/prefix")
    return value


def _some_path(value: str) -> str:
    if not value.strip() or "://" in value:
        raise ValueError("write the path of a folder")
    return value


def _from_text(value: Any) -> Any:
    """A text alone is a folder, or a bucket that needs no more words."""
    if isinstance(value, str):
        return {"url" if "://" in value else "folder": value}
    return value


FolderPath = Annotated[str, AfterValidator(_some_path)]
"""Relative ones begin at the folder of the configuration."""

BucketUrl = Annotated[str, AfterValidator(_bucket_url)]
"""``s3://bucket`` or ``s3://bucket/prefix``."""


class BucketServer(Section):
    """How a bucket is reached. Credentials come from the environment, or the pod's identity."""

    endpoint: WebAddress | None = None
    """The URL of the server; None: Amazon's."""
    region: str | None = None
    """None: that of the environment."""
    path_style: bool | None = None
    """None: the bucket is in the path where an endpoint is given, else in the host's name."""
    ca_file: str | None = None
    """The certificates of the authority that signs the server's; None: those of the system."""
    timeout: Duration = parse_duration("20s")
    """For one request."""
    encryption: Encryption | None = None
    """Ask for it with each object, and refuse a bucket of ours where that is not done."""
    kms_key: str | None = None

    @model_validator(mode="after")
    def _key_of_its_kind(self) -> Self:
        if self.kms_key is not None and self.encryption != "aws:kms":
            raise ValueError("kms_key belongs to the encryption aws:kms")
        return self

    def bucket(
        self,
        url: str,
        *,
        create: bool = False,
        versioning: bool = False,
        profile: str | None = None,
        base: Path | None = None,
    ) -> Bucket:
        """The bucket of this URL there; relative paths begin at `base`."""
        found = _URL.fullmatch(url)
        assert found is not None
        return Bucket(
            name=found[1],
            prefix=found[2] or "",
            endpoint=self.endpoint,
            region=self.region,
            path_style=self.endpoint is not None if self.path_style is None else self.path_style,
            ca_file=(base or Path()) / Path(self.ca_file).expanduser() if self.ca_file else None,
            timeout=self.timeout.total_seconds(),
            create=create,
            versioning=versioning,
            encryption=self.encryption,
            kms_key=self.kms_key,
            profile=profile,
        )


class Objects(BucketServer):
    """The object store: a folder, or a bucket and its server."""

    folder: FolderPath | None = None
    url: BucketUrl | None = None
    create: bool = False
    """Make the bucket at the start if there is none."""
    versioning: bool = False
    """Refuse a bucket that does not keep old versions."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.folder is None) == (self.url is None):
            raise ValueError("write either a folder or the url of a bucket")
        if self.folder is not None and self.model_fields_set != {"folder"}:
            raise ValueError("a folder needs no other keys")
        return self

    def resolved(self, base: Path) -> Self:
        """The same with absolute paths; relative ones begin at `base`."""
        paths = {
            name: str(base / Path(value).expanduser())
            for name in ("folder", "ca_file")
            if (value := getattr(self, name)) is not None
        }
        return self.model_copy(update=paths)

    def place(self) -> ObjectPlace:
        """Where the objects are."""
        if self.url is None:
            assert self.folder is not None
            return Path(self.folder)
        return self.bucket(self.url, create=self.create, versioning=self.versioning)


class PartnerBucket(BucketServer):
    """A bucket that we send to. It has to be there."""

    url: BucketUrl
    profile: str | None = None
    """Whose credentials are used, of the profiles in the files of AWS; None: the same as ours."""


ObjectsOrText = Annotated[Objects, BeforeValidator(_from_text)]


def _url_alone(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


PartnerBucketOrText = Annotated[PartnerBucket, BeforeValidator(_url_alone)]
