"""The query that asks an archive which instances of a series it has, and its answers."""

from collections.abc import Mapping

from gantry_domain.data_set_json import UnreadableDataSet, read_data_set
from gantry_domain.identifier_encoding import encode_data_set
from gantry_domain.json_model import Element

_LEVEL, _STUDY, _SERIES, _INSTANCE = "00080052", "0020000D", "0020000E", "00080018"


def instances_of_series(
    StudyInstanceUID: str, SeriesInstanceUID: str, *, transfer_syntax: str
) -> bytes:
    """The identifier of a C-FIND of the Study Root at the level IMAGE (PS3.4 C.6.2)."""
    document: dict[str, Element] = {
        _INSTANCE: {"vr": "UI"},
        _LEVEL: {"vr": "CS", "Value": ["IMAGE"]},
        _STUDY: {"vr": "UI", "Value": [StudyInstanceUID]},
        _SERIES: {"vr": "UI", "Value": [SeriesInstanceUID]},
    }
    return encode_data_set(document, transfer_syntax=transfer_syntax)


def found_instance(encoded: bytes, *, transfer_syntax: str) -> str | None:
    """The SOP Instance UID of an answer; None where it says none, or cannot be read."""
    try:
        elements: Mapping[str, Element] = read_data_set(encoded, transfer_syntax=transfer_syntax)
    except UnreadableDataSet:
        return None
    values = elements.get(_INSTANCE, {}).get("Value", [])
    return values[0] if values and isinstance(values[0], str) else None
