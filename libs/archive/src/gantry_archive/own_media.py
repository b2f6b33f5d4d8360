"""What our own statement says of media: the profiles that are made, and those that are read."""

from collections.abc import Iterator

from gantry_domain.conformance.model import MediaProfile, MediaRole
from gantry_domain.media_profiles import PROFILES


def media_profiles() -> Iterator[MediaProfile]:
    """Each profile in each role. Who reads takes every syntax that is stored, so these too."""
    for role, activity in (
        (MediaRole.CREATOR, "Export (gantry export --dicomdir)"),
        (MediaRole.READER, "Import (gantry import)"),
    ):
        for name, syntaxes in PROFILES.items():
            yield MediaProfile(name=name, role=role, activity=activity, transfer_syntaxes=syntaxes)
