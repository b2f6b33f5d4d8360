"""Which SOP classes are stored: those that we know, and of these what a configuration takes."""

from gantry_domain.sop_classes import STORAGE_CLASSES
from gantry_runtime.settings import Settings


def known_classes(settings: Settings) -> tuple[str, ...]:
    """Those that may lie in the store, and are sent: a class that is no longer taken is still."""
    return (*STORAGE_CLASSES, *settings.ingress.sop_classes)


def taken_classes(settings: Settings) -> tuple[str, ...]:
    """Those that are taken of others, whatever door they come through."""
    known, alone = known_classes(settings), settings.ingress.accept_classes
    return known if alone is None else tuple(uid for uid in known if uid in alone)
