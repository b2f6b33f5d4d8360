"""Errors as HTTP answers: small JSON that names what is wrong, and nothing of a patient."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gantry_archive.deciding import NotDecided
from gantry_domain.errors import PermanentError, TransientError
from gantry_domain.query import BadQuery
from gantry_query.multipart_reading import BrokenMultipart
from gantry_query.negotiation import NotAcceptable
from gantry_query.reception import TooSlow
from gantry_runtime.logs import get_logger
from gantry_stores.objects import ObjectNotFound

log = get_logger(__name__)

RETRY_AFTER = 5  # seconds


class NotHere(PermanentError):
    """What was asked for is not in the archive, or not to be seen."""

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no such {what}")


def answer(request: Request, error: Exception) -> Response:
    """The answer that tells of a failure."""
    match error:
        case BadQuery(parameter=parameter):
            return _error(400, str(error), parameter=parameter)
        case BrokenMultipart():
            return _error(400, str(error))
        case NotDecided():
            return _error(409, str(error))
        case NotHere():
            return _error(404, str(error))
        case NotAcceptable(available=available):
            return _error(406, str(error), available=available)
        case TooSlow():
            return _error(408, str(error), headers={"Connection": "close"})
        case HTTPException(status_code=status, detail=detail, headers=headers):
            return _error(status, str(detail), headers=dict(headers or {}))
        case TransientError():
            log.warning("request_not_served", route=route_of(request), error=type(error).__name__)
            retry = {"Retry-After": str(RETRY_AFTER)}
            return _error(503, "the archive cannot answer just now", headers=retry)
        case ObjectNotFound():
            # The index knows what the store has lost; operators must hear of it.
            log.error("object_missing", key=error.key)
            return _error(500, "the archive has lost this object")
        case _:
            log.error("request_failed", route=route_of(request), exc_info=error)
            return _error(500, "the request could not be served")


def route_of(request: Request) -> str:
    """The path template of the request's route: no UID is in it."""
    return str(getattr(request.scope.get("route"), "path", "none"))


def _error(
    status: int, text: str, *, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    headers = {"Vary": "Accept", **(headers or {})}
    return JSONResponse({"error": text, **more}, status, headers)
