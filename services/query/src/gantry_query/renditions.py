"""An instance in the form in which it is served: as stored, re-encoded, or decoded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gantry_archive.outgoing import Outgoing, outgoing
from gantry_domain.file_meta import encode_file_meta, parse_file_meta
from gantry_domain.reencode import explicit_little_endian
from gantry_domain.sources import WINDOW
from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN
from gantry_query import metrics
from gantry_query.decoding import Decoder
from gantry_query.negotiation import Form
from gantry_stores.index.search import StoredInstance
from gantry_stores.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Rendition:
    """A DICOM file (PS3.10) as it is sent. `size` is None where it is only known at the end."""

    TransferSyntaxUID: str
    size: int | None
    chunks: Iterator[bytes]


class Renditions:
    """Opens stored instances in the form wanted."""

    def __init__(self, store: ObjectStore, decoder: Decoder) -> None:
        self._store = store
        self.decoder = decoder

    def open(
        self, stored: StoredInstance, form: Form, *, encoding: str | None = None
    ) -> Rendition | None:
        """The rendition; None if it cannot be decoded, or encoded into `encoding`.

        Raises `ObjectNotFound`, `StoreUnavailable`.

        As stored it is the file byte for byte, but for corrections. Otherwise its file meta
        information names the new transfer syntax.
        """
        source = outgoing(stored.object, store=self._store)
        match form:
            case Form.AS_STORED:
                rendition = Rendition(stored.TransferSyntaxUID, source.size, source.chunks())
            case Form.REENCODED:
                chunks = _reencoded(stored, source)
                rendition = Rendition(EXPLICIT_VR_LITTLE_ENDIAN, None, chunks)
            case Form.DECODED:
                decoded = self.decoder.decode(source.chunks(), size=source.size)
                if decoded is None:
                    return None
                rendition = Rendition(EXPLICIT_VR_LITTLE_ENDIAN, None, decoded)
            case Form.ENCODED:
                assert encoding is not None
                chunks = source.chunks()
                encoded = self.decoder.encode(chunks, size=source.size, syntax=encoding)
                if encoded is None:
                    return None
                rendition = Rendition(encoding, None, encoded)
        metrics.INSTANCES.labels(form.value).inc()
        return rendition


def _reencoded(stored: StoredInstance, source: Outgoing) -> Iterator[bytes]:
    parsed = parse_file_meta(source.read(0, WINDOW))
    yield encode_file_meta(replace(parsed.meta, TransferSyntaxUID=EXPLICIT_VR_LITTLE_ENDIAN))
    yield from explicit_little_endian(
        source.read,
        size=source.size,
        dataset_offset=parsed.dataset_offset,
        transfer_syntax=stored.TransferSyntaxUID,
    )
