"""The registries of PS3.6, from the tables that pydicom keeps: attributes and UIDs.

The tables alone: to import the package brings numpy and each decoder that is installed, which takes
a process longer than everything else that it imports.
"""

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType


def _table(name: str) -> ModuleType:
    package = find_spec("pydicom")
    assert package is not None
    assert package.submodule_search_locations
    path = f"{package.submodule_search_locations[0]}/{name}.py"
    spec = spec_from_file_location(f"{__name__}.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_attributes = _table("_dicom_dict")

UIDS: dict[str, tuple[str, str, str, str, str]] = _table("_uid_dict").UID_dictionary
"""UID to name, kind, note, "Retired" or nothing, keyword (PS3.6 Annex A)."""

VRS: dict[int, str] = {
    tag: entry[0] for tag, entry in _attributes.DicomDictionary.items() if entry[0] != "NONE"
}
"""Tag to VR (PS3.6 clauses 6 to 9), without the repeating groups."""

KEYWORDS: dict[str, int] = {
    entry[4]: tag for tag, entry in _attributes.DicomDictionary.items() if entry[4]
}
"""Keyword to tag."""

_REPEATING = {mask.upper(): entry[0] for mask, entry in _attributes.RepeatersDictionary.items()}


def repeating_vr(tag: int) -> str | None:
    """The VR of an element of a repeating group (PS3.5 7.6), such as 60xx,3000; None for others."""
    digits = f"{tag:08X}"
    for mask, vr in _REPEATING.items():
        if all(wanted in ("X", digit) for wanted, digit in zip(mask, digits, strict=True)):
            return str(vr)
    return None
