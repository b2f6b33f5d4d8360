"""A large object that is uploaded to S3 part by part; hidden until it is complete.

Each part may be sent again, and none is kept once it is there.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gantry_stores.objects.protocol import ObjectExists, ObjectLost
from gantry_stores.objects.s3_clients import BOTO_ERRORS, failure_of

_SMALLEST = 8 * 2**20
_SAME_SIZE = 2000

MARK = "gantry-writer"
"""The metadata that tells whose writer an object is from."""


def part_size(number: int) -> int:
    """The least size of the part of this number, from 1.

    Parts grow, for an upload has at most 10,000: so an object may have 496 GiB.
    """
    return int(_SMALLEST * 2 ** ((number - 1) // _SAME_SIZE))


class PartUpload:
    """One upload in parts, used by one thread. Each call may be made again after it failed."""

    def __init__(
        self,
        client: Any,
        *,
        bucket: str,
        key: str,
        mark: str,
        encryption: Mapping[str, str],
        replaces: bool = False,
    ) -> None:
        self._client = client
        self._encryption = encryption
        self._place = {"Bucket": bucket, "Key": key}
        self._mark = mark
        self._replaces = replaces
        self._id: str | None = None
        self._parts: list[dict[str, object]] = []
        self._size = 0
        self._completing = False

    @property
    def next_part(self) -> int:
        """The number of the part that comes next."""
        return len(self._parts) + 1

    def append(self, part: bytearray) -> None:
        """Upload the next part. Raises `StoreFull`, `StoreUnavailable`, `ObjectLost`."""
        try:
            if self._id is None:
                begun = self._client.create_multipart_upload(
                    **self._place, **self._encryption, Metadata={MARK: self._mark}
                )
                self._id = begun["UploadId"]
            answer = self._client.upload_part(
                **self._place, UploadId=self._id, PartNumber=self.next_part, Body=part
            )
        except BOTO_ERRORS as error:
            failure = failure_of(error)
            if failure.code == "NoSuchUpload":
                raise ObjectLost("the object store forgot what was uploaded") from error
            raise failure.named("writing an object") from error
        self._parts.append({"PartNumber": self.next_part, "ETag": answer["ETag"]})
        self._size += len(part)

    def complete(self) -> None:
        """Make the object visible, whole.

        Raises `ObjectExists`, `ObjectLost`, `StoreFull`, `StoreUnavailable`.
        """
        # Some servers do not heed If-None-Match here. Keys are never given twice, so what this
        # look leaves open is no more than a safeguard less.
        if self._is_ours():
            return
        try:
            self._completing = True
            self._client.complete_multipart_upload(
                **self._place,
                UploadId=self._id,
                MultipartUpload={"Parts": self._parts},
                **({} if self._replaces else {"IfNoneMatch": "*"}),
            )
        except BOTO_ERRORS as error:
            failure = failure_of(error)
            if failure.code == "PreconditionFailed":
                raise ObjectExists(self._place["Key"]) from error
            if failure.code in {"NoSuchUpload", "InvalidPart"} and not self._is_ours():
                raise ObjectLost("the object store forgot what was uploaded") from error
            if failure.code != "NoSuchUpload":
                raise failure.named("committing an object") from error
        if not self._is_ours():
            raise ObjectLost("the object store does not show what was uploaded")

    def withdraw(self) -> None:
        """Leave nothing behind. Raises what boto3 raises."""
        if self._id is None:
            return
        with suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(**self._place, UploadId=self._id)
        if (
            self._completing
            and not self._replaces
            and self._found_mark() == (self._mark, self._size)
        ):
            self._client.delete_object(**self._place)

    def _is_ours(self) -> bool:
        """Whether the object is there, from us and whole. Raises `ObjectExists` if another is that
        may not be replaced."""
        try:
            found = self._found_mark()
        except BOTO_ERRORS as error:
            raise failure_of(error).named("committing an object") from error
        if found is None:
            return False
        if found == (self._mark, self._size):
            return True
        if not self._replaces:
            raise ObjectExists(self._place["Key"])
        return False

    def _found_mark(self) -> tuple[str | None, int] | None:
        try:
            found = self._client.head_object(**self._place)
        except self._client.exceptions.ClientError as error:
            if failure_of(error).status == 404:
                return None
            raise
        return found["Metadata"].get(MARK), found["ContentLength"]
