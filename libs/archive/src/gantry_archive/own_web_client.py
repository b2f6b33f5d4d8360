"""What we ask of DICOMweb servers, for the conformance statement: as user agent (PS3.2 N.5.3.2)."""

from collections.abc import Iterator

from gantry_archive.web_destinations import AWAY
from gantry_domain.conformance.model import Property, WebRole, WebTransaction
from gantry_domain.store_responses import StoreResult
from gantry_domain.stow_answers import AnswerScope, read_stow_answer

# Of PS3.18 8.5 and 10.5.3.1, and others that servers and proxies were seen to answer.
_STORE_CODES = (200, 202, 400, 401, 403, 404, 405, 408, 409, 413, 415, 429, 500, 502, 503, 504, 507)
_OTHERS = "other status codes"

_BY_DATA_SET = (
    "the data set names the instance: its Failure Reason or Warning Reason counts as the status of "
    "a C-STORE would; without a word about it the instance is sent again later"
)


def web_client_transactions() -> Iterator[WebTransaction]:
    """The requests that we make of partners with `dicomweb`."""
    yield WebTransaction(
        name="Store (STOW-RS)",
        method="POST",
        path="{partner}/studies",
        media_types=('multipart/related; type="application/dicom"',),
        role=WebRole.USER_AGENT,
        statuses=(
            *(Property(name=str(code), value=store_behaviour(code)) for code in _STORE_CODES),
            Property(name=_OTHERS, value="4xx as 400, 5xx as 500, 3xx as 401"),
        ),
    )
    yield WebTransaction(
        name="Search for instances (QIDO-RS)",
        method="GET",
        path="{partner}/studies/{study}/series/{series}/instances",
        media_types=("application/dicom+json",),
        role=WebRole.USER_AGENT,
        statuses=(
            Property(
                name="200", value="what it finds is proved to be there; the next page follows"
            ),
            Property(name="204", value="nothing more is there"),
            Property(name="404", value="nothing more is there"),
            Property(name=_OTHERS, value="it is asked again later"),
        ),
    )
    away = ", ".join(map(str, sorted(AWAY)))
    yield WebTransaction(
        name="Is anybody there",
        method="OPTIONS",
        path="{partner}/studies",
        role=WebRole.USER_AGENT,
        statuses=(
            Property(name=away, value="it is away still, and tried again with growing delays"),
            Property(name=_OTHERS, value="it is there, and what waits is sent"),
        ),
    )


def store_behaviour(code: int) -> str:
    """What follows from a status of a Store, where the data set of the answer says nothing else."""
    answer = read_stow_answer(code, None, "")
    match answer.scope:
        case AnswerScope.SERVER if answer.overloaded:
            return (
                "nothing more is sent now; with Retry-After nothing before, at most an hour, else "
                "with growing delays"
            )
        case AnswerScope.SERVER:
            return "as if nobody were there: all is sent later, with growing delays"
        case AnswerScope.SYNTAX:
            return "the instance is sent in Explicit VR Little Endian, else counts as refused"
        case AnswerScope.INSTANCE if code < 300:
            return _BY_DATA_SET
        case AnswerScope.INSTANCE if answer.result is StoreResult.FAILED:
            return "the instance is sent again later, with growing delays"
        case _:
            return "the instance is not sent again; the delivery shows the status"
