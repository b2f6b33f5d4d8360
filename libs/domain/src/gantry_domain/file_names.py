"""The names of files that instances become outside: they say which instance, and never whose.

    <Study Instance UID>/<Series Instance UID>/<SOP Instance UID>.dcm

The same instance has the same name each time, so what is written again replaces itself.
"""

import hashlib
import re

# PS3.5 9.1, but for leading zeros: they do no harm in a name.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST_UID = 64
_DIGITS = 32


def instance_file_name(
    StudyInstanceUID: str, SeriesInstanceUID: str, SOPInstanceUID: str, *, suffix: str = ".dcm"
) -> str:
    """The path of an instance, divided by `/`; safe on any file system and in any store."""
    folder = series_folder_name(StudyInstanceUID, SeriesInstanceUID)
    return f"{folder}/{_segment(SOPInstanceUID)}{suffix}"


def series_folder_name(StudyInstanceUID: str, SeriesInstanceUID: str) -> str:
    """The path of the folder of a series."""
    return f"{_segment(StudyInstanceUID)}/{_segment(SeriesInstanceUID)}"


def _segment(uid: str) -> str:
    """The UID, or, for what is none, a name made from it."""
    if len(uid) <= _LONGEST_UID and _UID.fullmatch(uid):
        return uid
    return f"uid-{hashlib.sha256(uid.encode()).hexdigest()[:_DIGITS]}"
