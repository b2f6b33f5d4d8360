"""The application profiles of media that are made and read here (PS3.11): the one table."""

from collections.abc import Mapping

from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN

_EXPLICIT = EXPLICIT_VR_LITTLE_ENDIAN
_JPEG = ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")

DEFAULT_PROFILE = "STD-GEN-CD"

PROFILES: Mapping[str, tuple[str, ...]] = {
    DEFAULT_PROFILE: (_EXPLICIT,),
    "STD-GEN-USB-JPEG": (_EXPLICIT, *_JPEG),
    "STD-GEN-USB-J2K": (_EXPLICIT, *_JPEG_2000),
}
"""The transfer syntaxes of each (PS3.11 Tables D.3-1 and J.3-1)."""
