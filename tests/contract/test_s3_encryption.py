"""Encryption that the S3 server does: asked for with each object, refused where it is not done."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from gantry_domain.errors import ConfigurationError
from gantry_domain.object_place import Bucket
from gantry_stores.objects import prepare_store
from gantry_stores.objects.s3 import S3Store
from gantry_testkit.s3_server import S3Server

MiB = 2**20
PLAIN = b"what a thief of disks would look for"


def put(bucket: Bucket, key: str, size: int) -> bytes:
    """An object that begins and ends with PLAIN."""
    content = PLAIN + os.urandom(size) + PLAIN
    writer = S3Store(bucket).create(key)
    for start in range(0, len(content), 4 * MiB):
        writer.write([content[start : start + 4 * MiB]])
    writer.commit()
    return content


@pytest.mark.parametrize("size", [1000, 9 * MiB], ids=["put at once", "put in parts"])
def test_objects_are_encrypted_where_they_lie(
    make_bucket: Callable[..., Bucket], s3_server: S3Server, size: int
) -> None:
    bucket = make_bucket(encryption="aws:kms", kms_key=s3_server.kms_key)
    prepare_store(bucket)
    content = put(bucket, f"secret-{size}", size)
    told = s3_server.client().head_object(Bucket=bucket.name, Key=f"secret-{size}")
    assert told["ServerSideEncryption"] == "aws:kms"
    assert told["SSEKMSKeyId"] == s3_server.kms_key
    store = S3Store(bucket)
    assert store.read(f"secret-{size}") == content
    assert store.read(f"secret-{size}", len(content) - len(PLAIN)) == PLAIN
    at_rest = s3_server.at_rest(f"secret-{size}")
    assert len(at_rest) >= len(content)
    assert PLAIN not in at_rest


def test_the_same_look_finds_what_is_not_encrypted(
    make_bucket: Callable[..., Bucket], s3_server: S3Server
) -> None:
    put(make_bucket(), "open", 1000)
    assert PLAIN in s3_server.at_rest("open")


def test_a_bucket_that_we_make_encrypts_too(
    make_bucket: Callable[..., Bucket], s3_server: S3Server
) -> None:
    bucket = make_bucket(
        name=s3_server.unused_name(),
        create=True,
        encryption="aws:kms",
        kms_key=s3_server.kms_key,
    )
    prepare_store(bucket)
    assert put(bucket, "made", 10) == S3Store(bucket).read("made")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encryption": "AES256"}, r"does not encrypt by AES256 when asked to"),
        ({"encryption": "aws:kms", "kms_key": "nobodys"}, r"with encryption aws:kms: "),
    ],
)
def test_a_server_that_does_not_encrypt_is_refused(
    make_bucket: Callable[..., Bucket], s3_server: S3Server, fields: dict[str, Any], said: str
) -> None:
    bucket = make_bucket(**fields)
    with pytest.raises(ConfigurationError, match=said) as caught:
        prepare_store(bucket)
    assert len(str(caught.value).splitlines()) == 1
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=bucket.name)
