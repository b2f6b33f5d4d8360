"""Table E.1-1 of PS3.15, from the lists that dicom-anonymizer makes of the standard.

The lists alone: to import the package brings all of pydicom.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType

from gantry_domain.deidentification.profile import Action

_EDITION = "dicomfields_2026c"
_REFERENCED_STUDY_SEQUENCE = 0x00081110  # optional, and never without items (PS3.3 C.7.2.1)
_PLAIN_TAG = 2  # numbers; those of a mask are curves and overlays, which are removed as groups

# Where the table leaves a choice by the type of the attribute, a value stays where one must be. It
# has one list more, of sequences of references: they stay, and their UIDs are replaced one by one.
_LISTS = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "X_Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.DUMMY,
    "Z_D_TAGS": Action.DUMMY,
    "X_D_TAGS": Action.REMOVE_OR_DUMMY,
    "X_Z_D_TAGS": Action.REMOVE_OR_DUMMY,
    "U_TAGS": Action.UID,
}


@cache
def profile_actions() -> dict[int, Action]:
    """What the basic profile wants of each attribute that the table names."""
    return dict(_actions(_table())) | {_REFERENCED_STUDY_SEQUENCE: Action.REMOVE}


def _actions(table: ModuleType) -> Iterator[tuple[int, Action]]:
    for name, action in _LISTS.items():
        for tag in getattr(table, name):
            if len(tag) == _PLAIN_TAG:
                yield tag[0] << 16 | tag[1], action


def _table() -> ModuleType:
    package = find_spec("dicomanonymizer")
    assert package is not None
    assert package.submodule_search_locations
    folder = f"{package.submodule_search_locations[0]}/dicom_anonymization_databases"
    spec = spec_from_file_location(f"{__name__}.{_EDITION}", f"{folder}/{_EDITION}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
