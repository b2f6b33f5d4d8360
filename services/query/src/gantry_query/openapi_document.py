"""The OpenAPI document: made of the routes that there are, and what each kind of them takes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.routing import APIRoute

from gantry_domain.attributes import ATTRIBUTES, Level, Matching
from gantry_domain.corrections import CORRECTABLE
from gantry_domain.decisions import DecisionKind
from gantry_domain.deliveries import DeliveryState
from gantry_domain.query import at_or_above
from gantry_query.event_routes import EVENT_STREAM, MOST_EVENTS
from gantry_query.negotiation import DICOM, DICOM_JSON, JSON, MULTIPART, OCTET_STREAM
from gantry_query.parameters import FURTHEST_OFFSET, LARGEST_PAGE
from gantry_query.rendering_request import PICTURES

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "string", "enum": ["true", "false"]}
# As PS3.5 9.1 has it; more is let through.
_UID: Json = {
    "type": "string",
    "pattern": r"^[0-9]+(\.[0-9]+)*$",
    "maxLength": 64,
    "example": "1.2.3",
}
_PATH_SCHEMAS: dict[str, Json] = {
    "frames": {"type": "string", "pattern": "^[1-9][0-9]{0,3}(,[1-9][0-9]{0,3}){0,9}$"},
    "partition": {"type": "string", "minLength": 1},
    "path": {"type": "string", "minLength": 1},
    "number": {"type": "string", "pattern": "^[0-9]{1,18}$"},
    "destination": {"type": "string", "minLength": 1, "maxLength": 16},
    "subscriber": {"type": "string", "minLength": 1, "maxLength": 80},
}
_CONTROLS: dict[str, Json] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": LARGEST_PAGE},
    "offset": {"type": "integer", "minimum": 0, "maximum": FURTHEST_OFFSET},
    "includefield": _TEXT,
    "orderby": _TEXT,
    "fuzzymatching": _FLAG,
    "count": _FLAG,
}
_PICTURE: dict[str, Json] = {
    "window": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,5},[1-9][0-9]{0,4},(linear|linear-exact|sigmoid)$",
        "example": "40,400,linear",
    },
    "viewport": {
        "type": "string",
        "pattern": "^[1-9][0-9]{0,2},[1-9][0-9]{0,2}$",
        "example": "256,256",
    },
    "quality": {"type": "integer", "minimum": 1, "maximum": 100},
}
_WADO: dict[str, Json] = {
    "requestType": {"type": "string", "enum": ["WADO"]},
    "studyUID": _UID,
    "objectUID": _UID,
    "seriesUID": _UID,
    "contentType": {"type": "string", "enum": [*PICTURES, DICOM]},
    "frameNumber": {"type": "integer", "minimum": 1},
}
_EVENTS: dict[str, Json] = {
    "after": {"type": "string", "pattern": "^([0-9]{1,18}|latest)$"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS},
    "wait": {"type": "string", "pattern": "^[1-9][0-9]?s$", "example": "30s"},
}
_DELIVERIES: dict[str, Json] = {
    "state": {"type": "string", "enum": [state.value for state in DeliveryState]},
    "to": _TEXT,
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "before": {"type": "integer", "minimum": 1},
}
_HELD: dict[str, Json] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "before": {"type": "integer", "minimum": 1},
}
_REQUIRED = frozenset({"requestType", "studyUID", "objectUID"})

_FILES = (f'{MULTIPART}; type="{DICOM}"',)
_ANSWERS: dict[str, tuple[str, ...]] = {
    "search": (DICOM_JSON, JSON),
    "metadata": (DICOM_JSON, JSON),
    "store": (DICOM_JSON, JSON),
    "retrieve": (*_FILES, DICOM),
    "frames": (f'{MULTIPART}; type="{OCTET_STREAM}"', OCTET_STREAM),
    "bulk": (f'{MULTIPART}; type="{OCTET_STREAM}"', OCTET_STREAM),
    "rendered": (*PICTURES, MULTIPART),
    "thumbnail": (*PICTURES, MULTIPART),
    "uri": (*PICTURES, DICOM),
    "delete": (),
    "orders": (JSON,),
    "held": (JSON,),
    "decide": (JSON,),
    "events": (JSON, EVENT_STREAM),
    "push": (JSON,),
    "replay": (JSON,),
    "deliveries": (JSON,),
    "delivery": (JSON,),
    "cancel": (),
    "retry": (),
    "destinations": (JSON,),
    "destination": (),
    "subscribers": (JSON,),
    "subscriber": (),
    "tell_again": (),
}
_STATUSES = {
    "200": "what was asked for",
    "304": "the client has it already",
    "400": "a parameter makes no sense",
    "404": "there is no such thing",
    "406": "nothing of what the client accepts can be served",
    "503": "the archive cannot answer just now",
}
_OF_STORE = {
    "200": "all are stored",
    "202": "some are stored, or some with warnings",
    "400": "the body is not as it should be",
    "403": "strangers may not store",
    "404": "there is no such partition",
    "408": "the body came too slowly",
    "409": "none is stored",
    "413": "none is stored, for each is too large",
    "415": "the body is of another type",
    "503": "the archive cannot answer just now",
}
_OF_DELETE = {
    "204": "it is hidden, and purged later",
    "400": "a UID makes no sense",
    "404": "there is no such thing",
    "503": "the archive cannot answer just now",
}
_OF_ORDERS = {
    "200": "all are taken",
    "202": "some are taken",
    "400": "the body is no table of orders",
    "403": "orders are not taken from strangers",
    "404": "there is no such partition",
    "408": "the body came too slowly",
    "409": "none is taken",
    "413": "there are too many",
    "415": "the body is of another type",
    "503": "the archive cannot answer just now",
}
_OF_HELD = {code: _STATUSES[code] for code in ("200", "400", "404", "503")} | {
    "403": "this is for those who review"
}
_OF_DECIDE = _OF_HELD | {
    "409": "that makes no sense of this study, or not any more",
    "413": "the body is too large",
}
_OF_TELLING = {code: _STATUSES[code] for code in ("200", "400", "404", "503")}
_OF_STEERING = {
    "204": "it is done",
    "400": "something makes no sense",
    "403": "strangers may not",
    "404": "there is no such thing",
    "409": "not in the state that it is in",
    "503": "the archive cannot answer just now",
}
_OF_PUSH = {
    "202": "it is on its way",
    "400": "the body makes no sense",
    "403": "strangers may not have anything sent",
    "404": "there is no such partition",
    "409": "there is nothing to send, or nobody to send it to",
    "413": "the body is too large",
    "503": "the archive cannot answer just now",
}
_OF_REPLAY = _OF_PUSH | {
    "200": "it would be sent",
    "409": "nobody to send it to is called so, or no route",
}
_BODIES: dict[str, Json] = {
    "decide": {
        "type": "object",
        "required": ["kind", "reason"],
        "properties": {
            "kind": {"type": "string", "enum": [*DecisionKind, "undo"]},
            "reason": {"type": "string", "minLength": 1, "maxLength": 1000},
            "order": {"type": "string", "maxLength": 64},
            "attributes": {
                "type": "object",
                "properties": dict.fromkeys(CORRECTABLE, _TEXT),
                "additionalProperties": False,
            },
            "series": {"type": "array", "items": _UID},
            "to": {"type": "string", "maxLength": 64},
            "new": {"type": "boolean"},
        },
        "additionalProperties": False,
    },
    "push": {
        "type": "object",
        "required": ["uid", "to"],
        "properties": {"uid": _UID, "to": _TEXT},
    },
    "replay": {
        "type": "object",
        "required": ["since"],
        "properties": {
            "since": {"type": "string", "format": "date-time"},
            "until": {"type": "string", "format": "date-time"},
            "to": _TEXT,
            "route": _TEXT,
            "dry_run": {"type": "boolean"},
            "after": {"type": "string", "format": "uuid"},
        },
    },
    "destination": {
        "type": "object",
        "required": ["paused"],
        "properties": {"paused": {"type": "boolean"}, "drain": {"type": "boolean"}},
    },
    "subscriber": {
        "type": "object",
        "required": ["paused"],
        "properties": {"paused": {"type": "boolean"}},
    },
    "tell_again": {
        "type": "object",
        "required": ["after"],
        "properties": {"after": {"type": "integer", "minimum": 0}},
    },
}
_OF_BULK = {"206": "the range", "416": "the range lies outside"}


def openapi_document(routes: Mapping[str, Iterable[APIRoute]]) -> Json:
    """The document of the routes, by the prefix below which they lie."""
    paths: dict[str, Json] = {}
    for prefix, below in routes.items():
        for route in below:
            # `{path:path}` is Starlette's; OpenAPI has the name alone.
            path = f"{prefix}{route.path}".replace(":path}", "}")
            for method in sorted(route.methods or ()):
                paths.setdefault(path, {})[method.lower()] = _operation(route, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gantry DICOMweb",
            "version": "1",
            "description": "Search, retrieve and store by PS3.18; `docs/services/query.md`.",
        },
        "paths": paths,
    }


def _operation(route: APIRoute, path: str) -> Json:
    kind = route.name.split(" ", maxsplit=1)[0]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS.get(name, _UID)}
        for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": name in _REQUIRED, "schema": schema}
        for name, schema in _query(kind, path).items()
    ]
    content: Json = {media_type: {} for media_type in _ANSWERS[kind]}
    operation: Json = {
        "summary": route.name,
        "operationId": re.sub(r"\W+", "_", f"{route.name} {path}").strip("_"),
        "parameters": parameters,
        "responses": {
            status: {"description": text} | _content(status, content)
            for status, text in _statuses(kind).items()
        },
    }
    if kind == "store":
        body: Json = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {
            "required": True,
            "content": {f"{MULTIPART}": body, DICOM: body},
        }
    if kind == "orders":
        table: Json = {"schema": {"type": "string"}}
        operation["requestBody"] = {
            "required": True,
            "content": {"text/csv": table, JSON: {"schema": {"type": ["array", "object"]}}},
        }
    if kind in _BODIES:
        schema = _BODIES[kind]
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


def _statuses(kind: str) -> dict[str, str]:
    match kind:
        case "store":
            return _OF_STORE
        case "delete":
            return _OF_DELETE
        case "orders":
            return _OF_ORDERS
        case "push":
            return _OF_PUSH
        case "replay":
            return _OF_REPLAY
        case "held":
            return _OF_HELD
        case "decide":
            return _OF_DECIDE
        case "deliveries" | "delivery" | "destinations" | "subscribers":
            return _OF_TELLING
        case "cancel" | "retry" | "destination" | "subscriber" | "tell_again":
            return _OF_STEERING
        case "bulk":
            return _STATUSES | _OF_BULK
        case "events":
            return _STATUSES | {"410": "some events after this one are no longer kept"}
        case _:
            return _STATUSES


def _content(status: str, content: Json) -> Json:
    if status == "204":
        return {}
    answered = status in ("200", "202", "206", "409", "413")
    return {"content": content if answered else _error()}


def _error() -> Json:
    schema = {"type": "object", "required": ["error"], "properties": {"error": _TEXT}}
    return {JSON: {"schema": schema}}


def _query(kind: str, path: str) -> dict[str, Json]:
    match kind:
        case "search":
            return _CONTROLS | dict.fromkeys(_keywords(path), _TEXT)
        case "rendered":
            return _PICTURE
        case "thumbnail":
            return {"viewport": _PICTURE["viewport"]}
        case "uri":
            return _WADO
        case "events":
            return _EVENTS
        case "deliveries":
            return _DELIVERIES
        case "held" if path.endswith("/held"):
            return _HELD
        case _:
            return {}


def _keywords(path: str) -> Iterable[str]:
    level = {"studies": Level.STUDY, "series": Level.SERIES}.get(
        path.rsplit("/", maxsplit=1)[-1], Level.INSTANCE
    )
    return (
        attribute.keyword
        for attribute in ATTRIBUTES
        if isinstance(attribute.matching, Matching) and at_or_above(attribute.level, level)
    )
