"""The stored form of a header: DICOM JSON, UTF-8, compressed. The codec's number is kept beside.

Codec 1 is one Zstandard frame with its content size, over the JSON of orjson.
"""

import threading
from typing import Any

import orjson
import zstandard

from gantry_domain.errors import PermanentError

CODEC = 1
LARGEST_HEADER = 64 * 2**20  # bytes of JSON; what is read back must not be able to fill memory
_LEVEL = 3

_of_thread = threading.local()


class UnreadableHeader(PermanentError):
    """A stored header of an unknown codec, damaged, or larger than any that is written."""


def encode_header(attributes: dict[str, Any]) -> bytes:
    """The stored form of `attributes`, the DICOM JSON model of one object."""
    return compress_header(orjson.dumps(attributes))


def compress_header(json: bytes) -> bytes:
    """The stored form of a header's JSON text."""
    # A compressor serves one thread at a time, and making one costs as much as using it.
    compressor = getattr(_of_thread, "compressor", None)
    if compressor is None:
        compressor = _of_thread.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    data: bytes = compressor.compress(json)
    return data


def header_json(codec: int, data: bytes) -> bytes:
    """The JSON text of a stored header. Raises `UnreadableHeader`."""
    if codec != CODEC:
        raise UnreadableHeader(f"a header of codec {codec} is not understood")
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size > LARGEST_HEADER:
            raise UnreadableHeader(f"a header of {size} bytes is larger than any that is written")
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise UnreadableHeader("a stored header is damaged") from error


def decode_header(codec: int, data: bytes) -> dict[str, Any]:
    """The attributes of a stored header. Raises `UnreadableHeader`."""
    try:
        attributes: dict[str, Any] = orjson.loads(header_json(codec, data))
    except orjson.JSONDecodeError as error:
        raise UnreadableHeader("a stored header is damaged") from error
    return attributes
