"""What our DIMSE ports accept and what we propose: for the servers, and for what we say of them."""

from collections.abc import Collection, Iterator

from pynetdicom.presentation import PresentationContext, build_context

from gantry_archive.storable_classes import known_classes, taken_classes
from gantry_dimse.contexts import MESSAGE_SYNTAXES, SupportedContexts
from gantry_dimse.find_and_move import IDENTIFIER_SYNTAX
from gantry_dimse.notifying import NOTIFICATION_CONTEXTS
from gantry_dimse.proposals import ProposedContext, plan_contexts
from gantry_domain.commitment import STORAGE_COMMITMENT_PUSH
from gantry_domain.information_models import (
    INFORMATION_MODELS,
    MODALITY_PERFORMED_PROCEDURE_STEP,
    MODALITY_WORKLIST_FIND,
    STUDY_ROOT_FIND,
    STUDY_ROOT_MOVE,
    WORKLIST_CLASSES,
)
from gantry_domain.sop_classes import VERIFICATION
from gantry_domain.transfer_syntaxes import TRANSFER_SYNTAXES
from gantry_runtime.settings import Settings

# The options of extended negotiation in their order (PS3.4 C.5.1.1, C.5.2.1), all of which are
# granted to whom asks for them.
QUERY_OPTIONS = (
    "relational queries",
    "dates and times as one range",
    "names by what they mean (fuzzy)",
    "time zones",
)
RETRIEVAL_OPTIONS = ("relational retrievals",)


def granted(options: Collection[str]) -> bytes:
    """The service-class-application-information that grants these, a byte each."""
    return b"\1" * len(options)


def storage_contexts(settings: Settings) -> SupportedContexts:
    """What the front door accepts for itself."""
    return SupportedContexts(storage_classes=taken_classes(settings), others=[commitment_context()])


def commitment_context() -> PresentationContext:
    """Storage Commitment in both roles: a caller asks us, or reports on what we asked him."""
    context = build_context(STORAGE_COMMITMENT_PUSH, list(MESSAGE_SYNTAXES))
    context.scu_role = context.scp_role = True
    return context


def query_contexts(settings: Settings) -> SupportedContexts:
    """What the port of queries accepts."""
    return SupportedContexts(
        storage_classes=known_classes(settings),
        others=[
            build_context(uid, list(MESSAGE_SYNTAXES))
            for model in INFORMATION_MODELS
            for uid in model.classes
        ],
        retrieved_by=[model.get_class for model in INFORMATION_MODELS],
    )


def worklist_contexts() -> SupportedContexts:
    """What the port of the worklist accepts."""
    return SupportedContexts(
        storage_classes=(),
        others=[build_context(uid, list(MESSAGE_SYNTAXES)) for uid in WORKLIST_CLASSES],
    )


def proposed_contexts(settings: Settings) -> Iterator[ProposedContext]:
    """What we propose where we call: to send whatever may be stored, to test, and to pull."""
    stored = ((uid, syntax) for uid in known_classes(settings) for syntax in TRANSFER_SYNTAXES)
    for group in plan_contexts(stored):
        yield from group
    yield ProposedContext(VERIFICATION, MESSAGE_SYNTAXES)
    yield ProposedContext(STORAGE_COMMITMENT_PUSH, MESSAGE_SYNTAXES)
    for uid in (STUDY_ROOT_FIND, STUDY_ROOT_MOVE):
        yield ProposedContext(uid, (IDENTIFIER_SYNTAX,))
    if settings.worklist.polls:
        yield ProposedContext(MODALITY_WORKLIST_FIND, (IDENTIFIER_SYNTAX,))
    if settings.worklist.performed_to:
        yield ProposedContext(MODALITY_PERFORMED_PROCEDURE_STEP, MESSAGE_SYNTAXES)
    if any(partner.notify for partner in settings.partners):
        yield from NOTIFICATION_CONTEXTS
