"""Answers to STOW-RS requests: whose fault, and whether it is worth another try."""

from typing import Any

import pytest

from gantry_domain.store_responses import StoreResult
from gantry_domain.stow_answers import AnswerScope, read_stow_answer

UID = "1.2.3"


def item(uid: str | None = UID, **codes: int) -> dict[str, Any]:
    tags = {"warning": "00081196", "failure": "00081197"}
    found: dict[str, Any] = {tags[name]: {"vr": "US", "Value": [c]} for name, c in codes.items()}
    if uid is not None:
        found["00081155"] = {"vr": "UI", "Value": [uid]}
    return found


def document(tag: str, *items: dict[str, Any]) -> dict[str, Any]:
    return {tag: {"vr": "SQ", "Value": list(items)}}


REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


@pytest.mark.parametrize(
    ("status", "said", "result", "code"),
    [
        (200, document(REFERENCED, item()), StoreResult.ACCEPTED, 0),
        # "OK" alone is no word that it is there.
        (200, None, StoreResult.FAILED, None),
        (200, {}, StoreResult.FAILED, None),
        (204, None, StoreResult.FAILED, None),
        (202, document(REFERENCED, item(warning=0xB000)), StoreResult.WARNED, 0xB000),
        # It has it, whatever the code.
        (202, document(REFERENCED, item(warning=0xA700)), StoreResult.WARNED, 0xA700),
        (202, None, StoreResult.FAILED, None),
        (202, document(REFERENCED, item("9.9")), StoreResult.FAILED, None),
        (409, document(FAILED, item(failure=0xA700)), StoreResult.FAILED, 0xA700),
        (409, document(FAILED, item(failure=0x0110)), StoreResult.FAILED, 0x0110),
        (409, document(FAILED, item(failure=0xA900)), StoreResult.REFUSED, 0xA900),
        (409, document(FAILED, item(failure=0x0111)), StoreResult.ACCEPTED, 0x0111),
        (200, document(FAILED, item(failure=0x0000)), StoreResult.REFUSED, 0x0000),
        (200, document(FAILED, item(failure=0xB000)), StoreResult.REFUSED, 0xB000),
        (200, document(FAILED, item()), StoreResult.REFUSED, None),
        (200, document(OTHERS, item(None, failure=0xC000)), StoreResult.REFUSED, 0xC000),
        (400, None, StoreResult.REFUSED, None),
        (413, [], StoreResult.REFUSED, None),
        (409, {FAILED: {"Value": "text"}}, StoreResult.REFUSED, None),
        (408, None, StoreResult.FAILED, None),
        (500, None, StoreResult.FAILED, None),
        (500, document(FAILED, item(failure=0xC000)), StoreResult.REFUSED, 0xC000),
    ],
)
def test_what_is_said_of_an_instance(
    status: int, said: object, result: StoreResult, code: int | None
) -> None:
    answer = read_stow_answer(status, said, UID)
    assert (answer.scope, answer.result, answer.code) == (AnswerScope.INSTANCE, result, code)
    assert answer.reason


@pytest.mark.parametrize(
    ("status", "said"), [(415, None), (409, document(FAILED, item(failure=0xC122)))]
)
def test_a_syntax_that_is_not_taken(status: int, said: object) -> None:
    assert read_stow_answer(status, said, UID).scope is AnswerScope.SYNTAX


@pytest.mark.parametrize("status", [100, 302, 401, 403, 404, 405, 429, 501, 502, 503, 504, 507])
def test_what_is_no_instances_fault(status: int) -> None:
    answer = read_stow_answer(status, document(FAILED, item(failure=0xC000)), UID)
    assert (answer.scope, answer.result) == (AnswerScope.SERVER, StoreResult.FAILED)
    assert answer.overloaded is (status in (429, 503, 507))
