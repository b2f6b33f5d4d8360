"""The presentation contexts that an acceptor supports, looked up by what is proposed.

All storage classes with all transfer syntaxes are some 15,000 pairs. pynetdicom copies its table
of them for each connection, which takes longer than many an association lives; here each entry is
made once, when it is first proposed, and then shared, for the negotiation only reads it.
"""

from collections.abc import Collection, Iterable

from pynetdicom.presentation import PresentationContext, build_context

from gantry_domain.sop_classes import STORAGE_CLASSES, VERIFICATION
from gantry_domain.transfer_syntaxes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

MESSAGE_SYNTAXES = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""Those of messages without pixel data, in our order."""


class SupportedContexts:
    """Abstract syntaxes with their transfer syntaxes in our order, which decides (PS3.8 9.3.3.2).

    Safe for use by many threads.
    """

    def __init__(
        self,
        *,
        storage_classes: Iterable[str] = STORAGE_CLASSES,
        transfer_syntaxes: Iterable[str] = TRANSFER_SYNTAXES,
        others: Iterable[PresentationContext] = (),
        retrieved_by: Iterable[str] = (),
    ) -> None:
        """Verification is always supported. `others` are contexts of other services.

        `retrieved_by`: the SOP classes of C-GET. Where there are any, the storage classes are for
        the requests that we send to the peer, and supported only beside one of them.
        """
        self._retrieved_by = frozenset(retrieved_by)
        self.storage_classes = frozenset(storage_classes)
        self._transfer_syntaxes = list(transfer_syntaxes)
        self._others: dict[str, PresentationContext] = {
            str(context.abstract_syntax): context for context in others
        }
        self._others[VERIFICATION] = build_context(VERIFICATION, list(MESSAGE_SYNTAXES))
        self._made: dict[tuple[str, tuple[str, ...]], PresentationContext] = {}

    def syntaxes(self, abstract_syntax: str) -> tuple[str, ...] | None:
        """Those that are supported for an abstract syntax, in our order; None: it is not."""
        if abstract_syntax in self._others:
            return tuple(map(str, self._others[abstract_syntax].transfer_syntax))
        return tuple(self._transfer_syntaxes) if abstract_syntax in self.storage_classes else None

    def stored(self, storage_classes: Collection[str] | None) -> frozenset[str]:
        """The storage classes of a caller of whom those alone are taken; None: all.

        What it takes of us, by C-GET, is its own affair.
        """
        if storage_classes is None or self._retrieved_by:
            return self.storage_classes
        return self.storage_classes.intersection(storage_classes)

    def supporting(
        self,
        abstract_syntaxes: Iterable[str],
        transfer_syntaxes: Iterable[str] | None = None,
        *,
        storage_classes: Collection[str] | None = None,
    ) -> list[PresentationContext]:
        """The supported contexts among these abstract syntaxes, each once.

        `transfer_syntaxes`: those of storage classes, in place of ours. `storage_classes`: see
        `stored`.
        """
        order = tuple(self._transfer_syntaxes if transfer_syntaxes is None else transfer_syntaxes)
        proposed = dict.fromkeys(abstract_syntaxes)
        stored = self.stored(storage_classes)
        if self._retrieved_by and self._retrieved_by.isdisjoint(proposed):
            stored = frozenset()
        return [
            context
            for abstract_syntax in proposed
            if (context := self._context(abstract_syntax, order, stored)) is not None
        ]

    def _context(
        self, abstract_syntax: str, order: tuple[str, ...], stored: frozenset[str]
    ) -> PresentationContext | None:
        if abstract_syntax in self._others:
            return self._others[abstract_syntax]
        if abstract_syntax not in stored:
            return None
        made = self._made.get((abstract_syntax, order))
        if made is None:
            made = build_context(abstract_syntax, list(order))
            if self._retrieved_by:  # the requestor is to be the SCP, PS3.4 C.5.3.1.1
                made.scu_role, made.scp_role = False, True
            self._made[abstract_syntax, order] = made
        return made
