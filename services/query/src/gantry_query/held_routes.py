"""The queue of what is held, for those who review: studies, their orders beside them, decisions.

    GET  /held                       what is held or refused, newest first; limit, before
    GET  /held/STUDY                 the study beside its orders, key by key, and what was decided
    POST /held/STUDY/decisions       {"kind": "release", "reason": "..."}: decide, or undo the last

Answers hold the patient's values, for a person has to compare them. Where nobody signs in to the
web door nobody is a reviewer: `gantry held` is the same at the command line.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gantry_archive.reviewing import review
from gantry_domain.decisions import DecisionKind
from gantry_domain.policies.findings import StudyFinding, VerdictKind
from gantry_domain.policies.major_keys import MAJOR_KEYS
from gantry_domain.policies.side_by_side import Candidate
from gantry_domain.query import BadQuery
from gantry_domain.uids import new_uid
from gantry_query.access import caller_of, sees_held
from gantry_query.archive import Archive
from gantry_query.failures import NotHere
from gantry_query.negotiation import JSON
from gantry_stores.index.database import transaction
from gantry_stores.index.decisions import DecisionLine
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.index.not_accepted import StudyNotAccepted, studies_not_accepted

MOST_STUDIES = 1000
_USUAL_STUDIES = 100
_LARGEST_NUMBER = 2**63 - 1
_LARGEST_BODY = 64 * 2**10
_LONGEST_VALUE = 256
_MOST_SERIES = 1000
_MOVE = "move"
_UNDO = "undo"

Document = dict[str, object]


class Decision(BaseModel):
    """What a person decides."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    kind: Literal["link", "accept", "release", "refuse", "correct", "move", "undo"]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    order: Annotated[str, Field(max_length=64)] = ""
    """Of a link: the accession number or the Study Instance UID of the order."""
    attributes: dict[str, Annotated[str, Field(max_length=_LONGEST_VALUE)]] = Field(
        default_factory=dict
    )
    """Of a correction: new values by keyword."""
    series: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=_MOST_SERIES)
    ] = Field(default_factory=list)
    """Of a move: the Series Instance UIDs."""
    to: Annotated[str, Field(max_length=64)] = ""
    """Of a move: the Study Instance UID of the study that is to have them."""
    new: bool = False
    """Of a move: there is no such study yet; without `to` its UID is made."""


def held_router(archive: Archive) -> APIRouter:
    """The three resources."""
    router = APIRouter()
    router.add_api_route("", _list_handler(archive), name="held")
    router.add_api_route("/{study}", _show_handler(archive), name="held study")
    router.add_api_route(
        "/{study}/decisions", _decision_handler(archive), methods=["POST"], name="decide"
    )
    return router


def _list_handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        partition = _partition(archive, request)
        limit = _number(request, "limit", most=MOST_STUDIES) or _USUAL_STUDIES
        before = _number(request, "before", most=_LARGEST_NUMBER)

        def look() -> list[StudyNotAccepted]:
            with transaction(archive.engine) as connection:
                kinds = (VerdictKind.HELD, VerdictKind.REFUSED)
                return studies_not_accepted(
                    connection, kinds, limit=limit + 1, partition=partition, before=before
                )

        found = await archive.ask(look)
        page: Document = {"studies": [_listed(study) for study in found[:limit]]}
        if len(found) > limit:
            page["next"] = found[limit - 1].number
        return _answer(page)

    return handle


def _number(request: Request, name: str, *, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise BadQuery(name, f"it is a number from 1 to {most}")
    return int(text)


def _show_handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        partition = _partition(archive, request)

        def look() -> Document:
            study = _find(archive, request.path_params["study"], partition)
            with transaction(archive.engine) as connection:
                candidates, lines = review(connection, study)
            return _shown(archive, study, candidates, lines)

        return _answer(await archive.ask(look))

    return handle


def _decision_handler(archive: Archive) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        partition = _partition(archive, request)
        asked = await _read(request)
        by = caller_of(request)

        def decide() -> Document:
            study = _find(archive, request.path_params["study"], partition)
            decider = archive.decider
            uid = study.StudyInstanceUID
            if asked.kind == _UNDO:
                decider.undo_last(study, by=by, reason=asked.reason)
            elif asked.kind == _MOVE:
                uid = asked.to or (new_uid() if asked.new else "")
                decider.move(
                    study,
                    series=asked.series,
                    to=uid,
                    new=asked.new,
                    by=by,
                    reason=asked.reason,
                )
            else:
                kind = DecisionKind(asked.kind)
                decider.decide(
                    study,
                    kind,
                    order=asked.order,
                    corrected=asked.attributes,
                    by=by,
                    reason=asked.reason,
                )
            left = _found(archive, uid, partition)
            if not left:  # all its series were another's, and are again
                return {"StudyInstanceUID": uid, "verdict": None, "visible": False}
            return {"StudyInstanceUID": uid, "verdict": left[0].verdict, "visible": left[0].visible}

        return _answer(await archive.ask(decide))

    return handle


def _partition(archive: Archive, request: Request) -> str:
    """The partition that a reviewer asks about. Raises `NotHere`, 403 for anybody else."""
    if not sees_held(request):
        raise HTTPException(403, "this is for those who review")
    return archive.partition(request)


def _find(archive: Archive, StudyInstanceUID: str, partition: str) -> JudgedStudy:
    found = _found(archive, StudyInstanceUID, partition)
    if not found:
        raise NotHere("study")
    return found[0]


def _found(archive: Archive, StudyInstanceUID: str, partition: str) -> list[JudgedStudy]:
    with transaction(archive.engine) as connection:
        return find_judged(
            connection, StudyInstanceUID, partition=partition, feed=archive.decider.feed
        )


async def _read(request: Request) -> Decision:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise HTTPException(413, "a decision is smaller")
    try:
        return Decision.model_validate_json(body)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
        raise HTTPException(400, f"this is no decision: {wrong or 'no JSON object'}") from error


def _listed(study: StudyNotAccepted) -> Document:
    return {
        "StudyInstanceUID": study.StudyInstanceUID,
        "verdict": study.verdict,
        "visible": study.visible,
        "ModalitiesInStudy": study.ModalitiesInStudy,
        "instances": study.instances,
        "last_received_at": study.last_received_at,
        "findings": [_finding(finding) for finding in study.findings],
    }


def _finding(finding: StudyFinding) -> Document:
    return {
        "rule": finding.rule,
        "code": finding.code,
        "severity": finding.severity,
        "detail": finding.detail,
    }


def _shown(
    archive: Archive, study: JudgedStudy, candidates: list[Candidate], lines: list[DecisionLine]
) -> Document:
    policies = archive.decider.policies
    verdict = policies.judge(study.evidence, was_visible=study.visible)
    evidence = study.evidence
    return {
        "StudyInstanceUID": study.StudyInstanceUID,
        "verdict": study.verdict,
        "visible": study.visible,
        "findings": [_finding(finding) for finding in verdict.findings],
        "AccessionNumber": evidence.AccessionNumber,
        **{key: getattr(evidence, key) for key in MAJOR_KEYS},
        "orders": [_candidate(each) for each in candidates],
        "decisions": [_line(line) for line in lines],
    }


def _candidate(candidate: Candidate) -> Document:
    order = candidate.order
    return {
        "StudyInstanceUID": order.StudyInstanceUID,
        "AccessionNumber": order.AccessionNumber,
        **{key: getattr(order.keys, key) for key in MAJOR_KEYS},
        "why": candidate.why,
        "compared": {key: said.value for key, said in candidate.agreements.items()},
    }


def _line(line: DecisionLine) -> Document:
    made, undone = line.decision, line.undone
    document: Document = {
        "id": made.id,
        "kind": made.kind,
        "at": made.decided_at,
        "by": made.decided_by,
        "reason": made.reason,
    }
    if made.order_uid:
        document["order"] = made.order_uid
    if made.corrected:
        document["attributes"] = dict(made.corrected)
    if made.series:
        document |= {"series": sorted(made.series)}
        document |= {"from": made.moved_from, "to": made.StudyInstanceUID}
    if undone is not None:
        document["undone"] = {
            "at": undone.undone_at,
            "by": undone.undone_by,
            "reason": undone.reason,
        }
    return document


def _answer(document: Document) -> Response:
    # Patient data: for the one who asked, and kept by nobody.
    headers = {"Cache-Control": "private, no-store", "Vary": "Authorization"}
    return Response(orjson.dumps(document), headers=headers, media_type=JSON)
