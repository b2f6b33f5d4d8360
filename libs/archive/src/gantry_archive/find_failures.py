"""The door of a C-FIND: whatever fails becomes its final answer (PS3.4 C.4.1.1.4)."""

from collections.abc import Generator

from gantry_dimse.operations import Answer
from gantry_domain.dictionary import KEYWORDS
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.query import BadQuery
from gantry_domain.statuses import (
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    OUT_OF_RESOURCES_TO_FIND,
    UNABLE_TO_PROCESS,
)
from gantry_runtime.logs import get_logger

log = get_logger(__name__)

FindAnswers = Generator[Answer | None, None, None]


def failures_answered(answers: FindAnswers, *, service: str) -> FindAnswers:
    """The answers, and for what is raised in place of one the final answer.

    `service` begins the names of the events that are logged.
    """
    try:
        yield from answers
    except BadQuery as error:
        tag = KEYWORDS.get(error.parameter)
        yield Answer(
            IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
            error_comment=str(error),
            offending=() if tag is None else (tag,),
        )
    except TransientError as error:
        log.warning(f"{service}_put_off", error=type(error).__name__)
        comment = "the index does not answer in time: try again later"
        yield Answer(OUT_OF_RESOURCES_TO_FIND, error_comment=comment)
    except PermanentError as error:
        log.error(f"{service}_refused", error=type(error).__name__, reason=str(error))
        yield Answer(UNABLE_TO_PROCESS, error_comment="the index refuses this question")
    # The door of the operation: the peer gets an answer, whatever failed.
    except Exception:
        log.exception(f"{service}_failed")
        yield Answer(UNABLE_TO_PROCESS, error_comment="an error of the archive: see its log")
