"""The clients of an S3 server, and what their errors mean.

obstore moves the objects; boto3 makes and checks buckets and uploads large objects in parts, which
obstore could neither repeat nor withdraw. Both take their credentials from one chain, boto3's: the
usual AWS variables and files, or the identity of the pod or machine.
"""

import os
import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

import boto3
import botocore.exceptions
import obstore.exceptions
from botocore.config import Config
from obstore.store import S3Store as ObstoreS3

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import Bucket
from gantry_stores.objects.protocol import StoreFull, StoreUnavailable

if TYPE_CHECKING:  # they exist in stubs alone
    from obstore.store import ClientConfig, S3Config, S3Credential

OBSTORE_ERRORS = (obstore.exceptions.BaseError, OSError, ValueError)
BOTO_ERRORS = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)

_CONNECT_SECONDS = 5.0
_READ_RETRIES = 2
# The chain refreshes what expires at least ten minutes before it does.
_CREDENTIALS_SECONDS = 300
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"})

# As obstore writes it: "Server returned non-2xx status code: 503 Service Unavailable: <xml>".
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class S3Failure:
    """What is known of a request that failed: nothing where no answer came."""

    status: int | None
    code: str

    @property
    def refused(self) -> bool:
        """Whether the server said that it did nothing. Else the request may have been done."""
        return self.status is not None and self.status < 500

    @property
    def no_bucket(self) -> bool:
        """Whether there is no bucket, rather than no object."""
        return self.code == "NoSuchBucket"

    def named(self, doing: str) -> StoreFull | StoreUnavailable:
        """The named failure; its text holds neither address nor key."""
        if self.status is None:
            return StoreUnavailable(f"the object store does not answer ({doing})")
        said = f"{self.status} {self.code}".strip()
        if self.status == 507 or self.code in _FULL:
            return StoreFull(f"the object store is full ({said}, {doing})")
        return StoreUnavailable(f"the object store cannot be used ({said}, {doing})")


def failure_of(error: BaseException) -> S3Failure:
    """What an error of obstore or boto3 tells."""
    if isinstance(error, botocore.exceptions.ClientError):
        answer = cast("dict[str, Any]", error.response)
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return S3Failure(status, str(answer.get("Error", {}).get("Code", "")))
    if isinstance(error, botocore.exceptions.NoCredentialsError):
        return S3Failure(401, "NoCredentials")
    if isinstance(error, botocore.exceptions.CredentialRetrievalError):
        return S3Failure(401, "CredentialsAway")
    text = str(error)
    status_match, code = _STATUS.search(text), _CODE.search(text)
    return S3Failure(int(status_match[1]) if status_match else None, code[1] if code else "")


class S3Clients:
    """The clients for one bucket; each is made when first used. Made after a fork.

    Raises `ConfigurationError` where the file of the authority cannot be read, or there is no
    such profile.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._session_lock = threading.Lock()
        try:
            self._session = boto3.Session(profile_name=bucket.profile)
        except botocore.exceptions.ProfileNotFound as error:
            raise ConfigurationError(
                f"{bucket}: there is no profile {bucket.profile} in the files of AWS"
            ) from error
        self._authority = _read(bucket.ca_file) if bucket.ca_file else b""

    def writer(self) -> ObstoreS3:
        """The client that puts and deletes. It never repeats a request: who writes does."""
        with self._lock:
            return self._writer

    def reader(self) -> ObstoreS3:
        """The client that reads and lists. It repeats what failed, a few times."""
        with self._lock:
            return self._reader

    def boto(self) -> Any:
        """boto3's client, which never repeats a request either."""
        with self._lock:
            return self._boto

    @cached_property
    def _writer(self) -> ObstoreS3:
        return self._obstore(retries=0)

    @cached_property
    def _reader(self) -> ObstoreS3:
        return self._obstore(retries=_READ_RETRIES)

    @property
    def region(self) -> str:
        """The region of the settings, or of the environment."""
        named = self._bucket.region or os.environ.get("AWS_REGION") or self._session.region_name
        return named or "us-east-1"

    @cached_property
    def _boto(self) -> Any:
        bucket = self._bucket
        return self._session.client(
            "s3",
            endpoint_url=bucket.endpoint,
            region_name=self.region,
            verify=str(bucket.ca_file) if bucket.ca_file else None,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=bucket.timeout,
                retries={"mode": "standard", "total_max_attempts": 1},
                s3={"addressing_style": "path" if bucket.path_style else "virtual"},
                # Servers that are not Amazon's do not know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=64,
            ),
        )

    def _obstore(self, *, retries: int) -> ObstoreS3:
        bucket = self._bucket
        plain = bucket.endpoint is not None and bucket.endpoint.startswith("http:")
        options: ClientConfig = {
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
            "timeout": timedelta(seconds=bucket.timeout),
        }
        if self._authority:
            options["root_certificate"] = self._authority
        config: S3Config = {
            "region": self.region,
            "virtual_hosted_style_request": not bucket.path_style,
            # One at a time: few servers but Amazon's delete in bulk without a hitch.
            "disable_bulk_delete": True,
            # TLS already keeps the bytes as they are.
            "unsigned_payload": not plain,
        }
        if bucket.endpoint:
            config["endpoint"] = _endpoint(bucket, bucket.endpoint)
        if bucket.encryption:
            config["server_side_encryption"] = bucket.encryption
        if bucket.kms_key:
            config["sse_kms_key_id"] = bucket.kms_key
        return ObstoreS3(
            bucket.name,
            prefix=bucket.prefix or None,
            config=config,
            client_options=options,
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=bucket.timeout),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=1),
                    "base": 2,
                },
            },
            credential_provider=self._credentials,
        )

    def _credentials(self) -> "S3Credential":
        with self._session_lock:
            found = self._session.get_credentials()
            if found is None:
                raise ConfigurationError("there are no credentials for the object store")
            frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token or None,
            "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_SECONDS),
        }


def encryption_arguments(bucket: Bucket) -> dict[str, str]:
    """With which boto3 asks for the encryption of what it puts; empty where none is wanted."""
    arguments = {}
    if bucket.encryption:
        arguments["ServerSideEncryption"] = str(bucket.encryption)
    if bucket.kms_key:
        arguments["SSEKMSKeyId"] = bucket.kms_key
    return arguments


def _endpoint(bucket: Bucket, endpoint: str) -> str:
    """As obstore wants it: with the bucket in the name of the host, if it shall be there."""
    if bucket.path_style:
        return endpoint
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=f"{bucket.name}.{parts.netloc}"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
