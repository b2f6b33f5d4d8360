"""Makes the bucket if asked to, and refuses one that cannot be used as the configuration says.

Used once, at the start, with boto3 alone: whoever starts the services must not use obstore.
"""

import uuid
from contextlib import suppress
from typing import Any

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import Bucket
from gantry_stores.objects.s3_clients import (
    BOTO_ERRORS,
    S3Clients,
    encryption_arguments,
    failure_of,
)

_FORGET_UPLOADS_DAYS = 2
_RULE = "gantry-incomplete-uploads"
_WHY = {
    "InvalidAccessKeyId": "the server does not know the access key",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "NoCredentials": "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "CredentialsAway": "who hands out the pod's credentials does not, or does not answer",
}


def prepare_bucket(bucket: Bucket) -> None:
    """Make sure that there is a bucket, as it must be, and that it can be used.

    Raises `ConfigurationError`: one line that says what it refuses.
    """
    clients = S3Clients(bucket)
    try:
        _Preparation(bucket, clients).run()
    except BOTO_ERRORS as error:
        raise ConfigurationError(f"{bucket}: {_why(error)}") from error


class _Preparation:
    def __init__(self, bucket: Bucket, clients: S3Clients) -> None:
        self._bucket = bucket
        self._region = clients.region
        self._client: Any = clients.boto()

    def run(self) -> None:
        if not self._exists():
            if not self._bucket.create:
                raise ConfigurationError(
                    f"{self._bucket}: there is no such bucket; make it, or write `create: true`"
                )
            self._create()
        self._check_settings()
        self._check_use()

    def _exists(self) -> bool:
        try:
            self._client.head_bucket(Bucket=self._bucket.name)
        except BOTO_ERRORS as error:
            if failure_of(error).status == 404:
                return False
            # An answer to HEAD has no body: what follows tells more than "403".
            if failure_of(error).status is None:
                raise
        return True

    def _create(self) -> None:
        bucket = self._bucket
        place = {"LocationConstraint": self._region}
        # Amazon's first region refuses its own name here, and other servers know no regions.
        elsewhere = bucket.endpoint is None and self._region != "us-east-1"
        # Another process may have made it just now.
        with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(
                Bucket=bucket.name,
                **({"CreateBucketConfiguration": place} if elsewhere else {}),
            )
        if bucket.versioning:
            self._client.put_bucket_versioning(
                Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
            )
        if bucket.encryption:
            self._encrypt_by_default()
        self._client.put_bucket_lifecycle_configuration(
            Bucket=bucket.name,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": _RULE,
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {
                            "DaysAfterInitiation": _FORGET_UPLOADS_DAYS
                        },
                    }
                ]
            },
        )

    def _check_settings(self) -> None:
        bucket = self._bucket
        if bucket.versioning:
            answer = self._client.get_bucket_versioning(Bucket=bucket.name)
            if answer.get("Status") != "Enabled":
                raise ConfigurationError(
                    f"{bucket}: the bucket keeps no versions; switch that on, or leave out "
                    "objects.versioning"
                )

    def _encrypt_by_default(self) -> None:
        """For what others put into our bucket: each put of ours asks for it by itself."""
        try:
            self._client.put_bucket_encryption(
                Bucket=self._bucket.name,
                ServerSideEncryptionConfiguration={"Rules": [_encryption_rule(self._bucket)]},
            )
        except BOTO_ERRORS as error:
            # Some servers encrypt what they are asked to, and have no such default.
            if failure_of(error).status not in {400, 405, 501}:
                raise

    def _check_use(self) -> None:
        """Write, list, read and delete a small object."""
        name, prefix = self._bucket.name, self._bucket.prefix
        key = f"{prefix}/probe/{uuid.uuid4().hex}" if prefix else f"probe/{uuid.uuid4().hex}"
        self._put_probe(key)
        try:
            listed = self._allowed(
                "list", lambda: self._client.list_objects_v2(Bucket=name, Prefix=key)
            )
            answer = self._allowed("read", lambda: self._client.get_object(Bucket=name, Key=key))
            read = self._allowed("read", answer["Body"].read)
        finally:
            self._allowed("delete from", lambda: self._client.delete_object(Bucket=name, Key=key))
        if read != b"1" or [found["Key"] for found in listed.get("Contents", [])] != [key]:
            raise ConfigurationError(f"{self._bucket}: it does not return what was written")
        encrypted = answer.get("ServerSideEncryption")
        if self._bucket.encryption not in {None, encrypted}:
            raise self._unencrypted("it takes no notice")

    def _put_probe(self, key: str) -> None:
        encryption = encryption_arguments(self._bucket)

        try:
            self._client.put_object(Bucket=self._bucket.name, Key=key, Body=b"1", **encryption)
        except BOTO_ERRORS as error:
            if encryption and failure_of(error).status in {400, 501}:
                raise self._unencrypted(_why(error)) from error
            how = f" with encryption {self._bucket.encryption}" if encryption else ""
            raise ConfigurationError(
                f"{self._bucket}: we cannot write to it{how}: {_why(error)}"
            ) from error

    def _unencrypted(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._bucket}: its server does not encrypt by {self._bucket.encryption} when asked "
            f"to ({why}); see to that, or leave out objects.encryption"
        )

    def _allowed(self, doing: str, attempt: Any) -> Any:
        try:
            return attempt()
        except BOTO_ERRORS as error:
            raise ConfigurationError(
                f"{self._bucket}: we cannot {doing} it: {_why(error)}"
            ) from error


def _encryption_rule(bucket: Bucket) -> dict[str, dict[str, str]]:
    rule = {"SSEAlgorithm": str(bucket.encryption)}
    if bucket.kms_key:
        rule["KMSMasterKeyID"] = bucket.kms_key
    return {"ApplyServerSideEncryptionByDefault": rule}


def _why(error: BaseException) -> str:
    failure = failure_of(error)
    if failure.code in _WHY:
        return _WHY[failure.code]
    if failure.status is None:
        return f"the server does not answer ({type(error).__name__})"
    return f"the server answers {failure.status} {failure.code}".strip()
