"""What a web server's answer to one instance of a STOW-RS request means for the sender.

Status and data set of PS3.18 10.5.3 and Annex I. What is said of the instance itself goes before
what the status says of the request.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gantry_domain.statuses import SUCCESS, TRANSFER_SYNTAX_NOT_SUPPORTED
from gantry_domain.store_responses import StoreResult, read_store_status

# Attributes of the data set (PS3.18 Annex I.2).
_FAILED = "00081198"
_REFERENCED = "00081199"
_OTHERS = "0008119A"
_SOP_INSTANCE = "00081155"
_WARNING_REASON, _FAILURE_REASON = "00081196", "00081197"

# RFC 9110 15.5, 15.6; RFC 6585 4; RFC 4918 11.5.
_UNSUPPORTED_MEDIA_TYPE = 415
_OVERLOADED = frozenset((429, 503))
_NOBODY_BEHIND = frozenset((502, 504))
_FULL = 507
# The request as such is not wanted, whatever instance is in it.
_NOT_HERE = frozenset((401, 403, 404, 405, 406, 407, 410, 421, 426, 501, 505, 511))


class AnswerScope(Enum):
    """Whom an answer is about."""

    INSTANCE = "instance"
    """The one that was sent."""
    SYNTAX = "syntax"
    """Its transfer syntax, which the server does not take."""
    SERVER = "server"
    """The server takes nothing, for now or until somebody puts it right."""


@dataclass(frozen=True, slots=True)
class StowAnswer:
    """What became of an instance. `code`: the status that the data set gives it; None: it gives
    none. `overloaded`: the server asks to be left alone for a while."""

    scope: AnswerScope
    result: StoreResult
    code: int | None
    reason: str
    overloaded: bool = False


def read_stow_answer(status: int, document: object, SOPInstanceUID: str) -> StowAnswer:
    """What an HTTP status and the data set of its body (DICOM JSON; None where it is none that can
    be read) say of an instance that was sent alone."""
    said = f"HTTP {status}"
    if status in _OVERLOADED or status == _FULL:
        return StowAnswer(AnswerScope.SERVER, StoreResult.FAILED, None, said, overloaded=True)
    if status in _NOT_HERE or status in _NOBODY_BEHIND or status < 200 or 300 <= status < 400:
        return StowAnswer(AnswerScope.SERVER, StoreResult.FAILED, None, said)
    found = _said_of(document, SOPInstanceUID) if isinstance(document, dict) else None
    if found is not None:
        return found
    if status == _UNSUPPORTED_MEDIA_TYPE:
        return StowAnswer(AnswerScope.SYNTAX, StoreResult.REFUSED, None, said)
    if status < 300:  # PS3.18 10.5.3.2: the instance is named; servers were seen that lost it
        reason = f"{said} without a word about the instance"
        return StowAnswer(AnswerScope.INSTANCE, StoreResult.FAILED, None, reason)
    result = StoreResult.FAILED if status >= 500 or status in (408, 425) else StoreResult.REFUSED
    return StowAnswer(AnswerScope.INSTANCE, result, None, said)


def _said_of(document: Mapping[str, Any], SOPInstanceUID: str) -> StowAnswer | None:
    for item in _items(document, _FAILED):
        if _first(item, _SOP_INSTANCE) == SOPInstanceUID:
            return _failure(item)
    for item in _items(document, _REFERENCED):
        if _first(item, _SOP_INSTANCE) == SOPInstanceUID:
            return _stored(item)
    # Of instances that the server could not name; ours was the only one.
    for item in _items(document, _OTHERS):
        return _failure(item)
    return None


def _stored(item: Mapping[str, Any]) -> StowAnswer:
    code = _first(item, _WARNING_REASON)
    if not isinstance(code, int) or code == SUCCESS.code:
        answer = read_store_status(SUCCESS.code)
        return StowAnswer(AnswerScope.INSTANCE, answer.result, answer.code, answer.reason)
    # It is stored, whatever else the code would mean.
    answer = read_store_status(code)
    return StowAnswer(AnswerScope.INSTANCE, StoreResult.WARNED, code, answer.reason)


def _failure(item: Mapping[str, Any]) -> StowAnswer:
    code = _first(item, _FAILURE_REASON)
    if not isinstance(code, int):
        reason = "refused without a reason"
        return StowAnswer(AnswerScope.INSTANCE, StoreResult.REFUSED, None, reason)
    if code == TRANSFER_SYNTAX_NOT_SUPPORTED.code:
        reason = f"{code:04X} {TRANSFER_SYNTAX_NOT_SUPPORTED.name}"
        return StowAnswer(AnswerScope.SYNTAX, StoreResult.REFUSED, code, reason)
    answer = read_store_status(code)
    # "Failed" with a code of success or a warning is a contradiction: no promise that it is there.
    contradicts = answer.result is StoreResult.WARNED or code == SUCCESS.code
    result = StoreResult.REFUSED if contradicts else answer.result
    return StowAnswer(AnswerScope.INSTANCE, result, code, answer.reason)


def _items(document: Mapping[str, Any], tag: str) -> Iterator[Mapping[str, Any]]:
    element = document.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def _first(item: Mapping[str, Any], tag: str) -> object:
    element = item.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value[0] if isinstance(value, list) and value else None
