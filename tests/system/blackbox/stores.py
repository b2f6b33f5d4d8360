"""The object stores that a run can have, looked at past every service: a folder, or a bucket."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import boto3
import httpx
from botocore.config import Config

from blackbox.s3_proxy import Proxy


class Store(Protocol):
    """Where a run keeps its objects."""

    config: str
    """The line of the configuration that names it; empty for the default."""
    names: Mapping[str, str]
    """What must be in the environment to use it."""

    def keys(self) -> dict[UUID, str]:
        """The keys of all objects, by identifier."""

    def content(self, key: str) -> bytes:
        """A whole file."""

    def begun(self) -> set[str]:
        """What is being written, or was left half written: some bytes of each are there."""

    def away(self) -> Any:
        """A context manager: while its body runs the store cannot be used."""

    def shared(self) -> "Store":
        """The same store, for another run."""

    def close(self) -> None:
        """Nothing is kept."""


class FolderStore:
    """A folder."""

    def __init__(self, folder: Path, *, config: str = "") -> None:
        self.folder = folder
        self.config = config
        self.names: Mapping[str, str] = {}

    def keys(self) -> dict[UUID, str]:
        """Nothing else may lie there but hidden files."""
        found = (self.folder / "objects").rglob("*.dcm")
        return {UUID(file.stem): str(file.relative_to(self.folder)) for file in found}

    def content(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def begun(self) -> set[str]:
        return {str(file) for file in self.folder.glob(".tmp/*") if _size(file)}

    @contextmanager
    def away(self) -> Iterator[None]:
        away = self.folder.with_name("away")
        self.folder.rename(away)
        try:
            yield
        finally:
            away.rename(self.folder)

    def shared(self) -> "FolderStore":
        return FolderStore(self.folder, config=f"objects: {self.folder}\n")

    def close(self) -> None:
        """The run removes it."""


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


class BucketStore:
    """Part of a bucket, reached by the run through a proxy that can be told to fail."""

    def __init__(self, *, endpoint: str, bucket: str, names: Mapping[str, str]) -> None:
        self.bucket, self.prefix = bucket, "run/"
        self.names = names
        self.proxy = Proxy(httpx.URL(endpoint).port or 80)
        self.config = (
            f"objects: {{url: 's3://{bucket}/run', timeout: 5s,"
            f" endpoint: 'http://127.0.0.1:{self.proxy.port}'}}\n"
        )
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=names["AWS_DEFAULT_REGION"],
            aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )

    def keys(self) -> dict[UUID, str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}objects/"
        )
        found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {UUID(Path(key).stem): key.removeprefix(self.prefix) for key in found}

    def content(self, key: str) -> bytes:
        answer = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)
        content: bytes = answer["Body"].read()
        return content

    def begun(self) -> set[str]:
        uploads = self._client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return {upload["UploadId"] for upload in uploads if self._parts(upload)}

    def _parts(self, upload: Mapping[str, str]) -> list[object]:
        try:
            found = self._client.list_parts(
                Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        except self._client.exceptions.NoSuchUpload:
            return []
        return list(found.get("Parts", []))

    @contextmanager
    def away(self) -> Iterator[None]:
        with self.proxy.busy():
            yield

    def shared(self) -> "BucketStore":
        return self

    def close(self) -> None:
        self.proxy.close()
        self._client.close()


NewStore = Callable[[], Store | None]
"""Makes the store of a run, as the tests were told to; None is a folder in the run's own."""
