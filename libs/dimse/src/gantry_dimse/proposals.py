"""Presentation contexts for what is to be sent: proposed, and what the peer made of them.

One context has one accepted syntax (PS3.8 9.3.3.2), so each stored syntax of a class gets a
context of its own, and one more offers the uncompressed syntaxes that everything can be turned to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gantry_domain.transfer_syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

MOST_CONTEXTS = 128
"""In one association: their identifiers are the odd numbers of one byte (PS3.8 9.3.2.2)."""

_FALLBACK = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A SOP class and the transfer syntaxes of which the peer may choose one.

    `as_scp`: we are the SCP of the class, and the peer its SCU (PS3.7 D.3.3.4).
    """

    SOPClassUID: str
    transfer_syntaxes: tuple[str, ...]
    as_scp: bool = False


@dataclass(frozen=True, slots=True)
class NegotiatedContext:
    """A presentation context that both sides agreed on."""

    id: int
    SOPClassUID: str
    TransferSyntaxUID: str


def plan_contexts(
    items: Iterable[tuple[str, str]], *, only: Sequence[str] = ()
) -> list[tuple[ProposedContext, ...]]:
    """Contexts for instances of the given (SOPClassUID, stored TransferSyntaxUID).

    :param only: the transfer syntaxes that are proposed at all, in this order; empty: any.
    :returns: one group of at most 128 contexts per association that is needed; all contexts of a
        class are in one group, in the order in which class and syntax first occur.
    """
    syntaxes: dict[str, dict[str, None]] = {}
    for SOPClassUID, transfer_syntax in items:
        syntaxes.setdefault(SOPClassUID, {})[transfer_syntax] = None
    groups: list[list[ProposedContext]] = []
    for SOPClassUID, stored in syntaxes.items():
        proposed = [syntax for syntax in only if syntax in stored] if only else list(stored)
        contexts = [ProposedContext(SOPClassUID, (syntax,)) for syntax in proposed]
        fallback = tuple(
            syntax for syntax in only or _FALLBACK if syntax in _FALLBACK and syntax not in proposed
        )
        if fallback:
            contexts.append(ProposedContext(SOPClassUID, fallback))
        if not groups or len(groups[-1]) + len(contexts) > MOST_CONTEXTS:
            groups.append([])
        groups[-1].extend(contexts)
    return [tuple(group) for group in groups]


class NegotiatedContexts:
    """What the peer accepted, by class and syntax."""

    def __init__(self, accepted: Sequence[NegotiatedContext]) -> None:
        self.accepted = tuple(accepted)
        self._by_syntax: dict[tuple[str, str], NegotiatedContext] = {}
        for context in accepted:
            self._by_syntax.setdefault((context.SOPClassUID, context.TransferSyntaxUID), context)

    def accepts(self, SOPClassUID: str, transfer_syntax: str) -> NegotiatedContext | None:
        """The context in which an instance can be sent as it is stored."""
        return self._by_syntax.get((SOPClassUID, transfer_syntax))

    def fallback(self, SOPClassUID: str) -> NegotiatedContext | None:
        """The context in which an instance of the class can be sent once it is re-encoded."""
        for syntax in _FALLBACK:
            if (context := self.accepts(SOPClassUID, syntax)) is not None:
                return context
        return None
