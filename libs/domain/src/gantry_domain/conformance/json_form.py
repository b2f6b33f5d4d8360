"""A statement as JSON and back; what equals its default is left out."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import orjson

from gantry_domain.conformance.model import Statement
from gantry_domain.errors import PermanentError

FORMAT = "gantry-conformance-1"


class UnreadableStatement(PermanentError):
    """What was given is no statement that can be read."""


def to_json(statement: Statement) -> bytes:
    """The statement as JSON, indented."""
    document = {"format": FORMAT} | _plain(statement)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def from_json(content: bytes) -> Statement:
    """The statement that `to_json` wrote. Raises `UnreadableStatement` with the place."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise UnreadableStatement(f"no JSON: {error}") from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise UnreadableStatement(f'no statement of ours: "format" is not "{FORMAT}"')
    statement: Statement = _typed(document, Statement, "statement")
    return statement


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {
            field.name: _plain(item)
            for field in fields(value)
            if (item := getattr(value, field.name)) != field.default or field.default is MISSING
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(value: Any, wanted: Any, place: str) -> Any:
    if get_origin(wanted) is UnionType:
        if value is None:
            return None
        (wanted,) = (each for each in get_args(wanted) if each is not NoneType)
    if get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise UnreadableStatement(f"{place} is no list")
        kind = get_args(wanted)[0]
        return tuple(_typed(item, kind, f"{place}[{n}]") for n, item in enumerate(value))
    if is_dataclass(wanted):
        return _made(value, wanted, place)
    if issubclass(wanted, Enum):
        try:
            return wanted(value)
        except ValueError as error:
            raise UnreadableStatement(f"{place} is none of {', '.join(wanted)}") from error
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise UnreadableStatement(f"{place} is no {wanted.__name__}")
    return value


def _made(value: Any, wanted: Any, place: str) -> Any:
    if not isinstance(value, Mapping):
        raise UnreadableStatement(f"{place} is no object")
    hints = _hints(wanted)
    unknown = value.keys() - hints.keys()
    if unknown:
        raise UnreadableStatement(f"{place} has a member {min(unknown)} that means nothing")
    required = {field.name for field in fields(wanted) if field.default is MISSING}
    if required - value.keys():
        raise UnreadableStatement(f"{place} lacks {min(required - value.keys())}")
    return wanted(
        **{name: _typed(item, hints[name], f"{place}.{name}") for name, item in value.items()}
    )
