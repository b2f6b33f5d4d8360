"""The transfer syntaxes that Gantry stores, in the order in which it accepts them: the one table.

The acceptor chooses (PS3.8 9.3.3.2), so the order is ours: what every reader understands first,
then what loses nothing, then what is costly or retired, what has lost pixels last.
"""

from dataclasses import dataclass
from enum import Enum

from gantry_domain.dictionary import UIDS

IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPIP_REFERENCED_DEFLATE = "1.2.840.10008.1.2.4.95"
JPIP_HTJ2K_REFERENCED_DEFLATE = "1.2.840.10008.1.2.4.205"

# Syntaxes whose whole data set is deflated (PS3.5 A.5).
DEFLATED = frozenset(
    {
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        JPIP_REFERENCED_DEFLATE,
        JPIP_HTJ2K_REFERENCED_DEFLATE,
    }
)


class PixelEncoding(Enum):
    """How a syntax holds pixel data (PS3.5 A.4, 8.2)."""

    NATIVE = "native"
    LOSSLESS = "lossless"
    LOSSY = "lossy"
    REFERENCED = "referenced"


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """One transfer syntax of PS3.5 Annex A."""

    uid: str
    name: str
    pixels: PixelEncoding

    @property
    def encapsulated(self) -> bool:
        """Whether pixel data are fragments in items (PS3.5 A.4)."""
        return self.pixels in (PixelEncoding.LOSSLESS, PixelEncoding.LOSSY)


_LOSSLESS = """
    1.2.840.10008.1.2.1.98 1.2.840.10008.1.2.5
    1.2.840.10008.1.2.4.70 1.2.840.10008.1.2.4.57 1.2.840.10008.1.2.4.58
    1.2.840.10008.1.2.4.65 1.2.840.10008.1.2.4.66 1.2.840.10008.1.2.4.80
    1.2.840.10008.1.2.4.90 1.2.840.10008.1.2.4.92 1.2.840.10008.1.2.4.201
    1.2.840.10008.1.2.4.202 1.2.840.10008.1.2.4.110 1.2.840.10008.1.2.4.111
    1.2.840.10008.1.2.8.1
""".split()

_LOSSY = """
    1.2.840.10008.1.2.4.50 1.2.840.10008.1.2.4.51 1.2.840.10008.1.2.4.52
    1.2.840.10008.1.2.4.53 1.2.840.10008.1.2.4.54 1.2.840.10008.1.2.4.55
    1.2.840.10008.1.2.4.56 1.2.840.10008.1.2.4.59 1.2.840.10008.1.2.4.60
    1.2.840.10008.1.2.4.61 1.2.840.10008.1.2.4.62 1.2.840.10008.1.2.4.63
    1.2.840.10008.1.2.4.64 1.2.840.10008.1.2.4.81 1.2.840.10008.1.2.4.91
    1.2.840.10008.1.2.4.93 1.2.840.10008.1.2.4.203 1.2.840.10008.1.2.4.112
    1.2.840.10008.1.2.4.100 1.2.840.10008.1.2.4.100.1 1.2.840.10008.1.2.4.101
    1.2.840.10008.1.2.4.101.1 1.2.840.10008.1.2.4.102 1.2.840.10008.1.2.4.102.1
    1.2.840.10008.1.2.4.103 1.2.840.10008.1.2.4.103.1 1.2.840.10008.1.2.4.104
    1.2.840.10008.1.2.4.104.1 1.2.840.10008.1.2.4.105 1.2.840.10008.1.2.4.105.1
    1.2.840.10008.1.2.4.106 1.2.840.10008.1.2.4.106.1 1.2.840.10008.1.2.4.107
    1.2.840.10008.1.2.4.108
""".split()

_REFERENCED = """
    1.2.840.10008.1.2.4.94 1.2.840.10008.1.2.4.95 1.2.840.10008.1.2.4.204
    1.2.840.10008.1.2.4.205
""".split()


# Registered after the dictionary of the pydicom in use was made.
_NEWER = {
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}


def _table() -> dict[str, TransferSyntax]:
    ordered = [
        (EXPLICIT_VR_LITTLE_ENDIAN, PixelEncoding.NATIVE),
        (IMPLICIT_VR_LITTLE_ENDIAN, PixelEncoding.NATIVE),
        *((uid, PixelEncoding.LOSSLESS) for uid in _LOSSLESS),
        (DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, PixelEncoding.NATIVE),
        (EXPLICIT_VR_BIG_ENDIAN, PixelEncoding.NATIVE),
        *((uid, PixelEncoding.LOSSY) for uid in _LOSSY),
        *((uid, PixelEncoding.REFERENCED) for uid in _REFERENCED),
    ]
    names = _NEWER | {uid: entry[0] for uid, entry in UIDS.items()}
    return {uid: TransferSyntax(uid, names[uid], pixels) for uid, pixels in ordered}


# In our order of preference.
TRANSFER_SYNTAXES: dict[str, TransferSyntax] = _table()
