"""The parameters of the configuration as a list: name, default, what is set, range and meaning.

Values that tell of the site, such as addresses and names of files, are not shown: only whether
they are set.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from gantry_runtime.file_section import Configuration
from gantry_runtime.values import parse_duration, parse_largest_pdu, parse_size

_SIZES = (parse_size, parse_largest_pdu)
# Texts that a peer has to know anyway.
_SHOWN = frozenset({"ae_titles", "timezone", "listen.address"})
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_BINARY = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True, slots=True)
class ConfigurationParameter:
    """One key of the file, by its path: texts for people."""

    name: str
    default: str
    value: str
    allowed: str
    meaning: str


def parameters(configuration: Configuration) -> Iterator[ConfigurationParameter]:
    """All keys, in the order of the sections."""
    yield from _of_section(configuration, Configuration, "")


def _of_section(
    section: BaseModel, kind: type[BaseModel], path: str
) -> Iterator[ConfigurationParameter]:
    for name, field in kind.model_fields.items():
        value, where = getattr(section, name), f"{path}{name}"
        if isinstance(value, BaseModel):
            yield from _of_section(value, type(value), f"{where}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown = _Shown(
            size=_is_size(field.annotation, field.metadata),
            text=where in _SHOWN or _is_choice(field.annotation),
        )
        yield ConfigurationParameter(
            where,
            "(required)" if field.is_required() else shown.of(default),
            shown.of(value),
            _allowed(field),
            _meaning(kind, name),
        )


@dataclass(frozen=True, slots=True)
class _Shown:
    """How the values of one key are shown: numbers as sizes, texts as they are or not at all."""

    size: bool
    text: bool

    def of(self, value: Any) -> str:
        """A value as text for people."""
        if value is None:
            return "not set"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, timedelta):
            return _duration(value)
        if isinstance(value, int):
            return _bytes(value) if self.size else str(value)
        if isinstance(value, str):
            return value if self.text else "set"
        if isinstance(value, BaseModel):
            return "set"
        if self.text:
            return ", ".join(value)
        return f"{len(value)} entries" if value else "none"


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for each, unit in _UNITS:
        if seconds >= each and seconds % each == 0:
            return f"{seconds / each:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _bytes(value: int) -> str:
    for each, unit in _BINARY:
        if value >= each and value % each == 0:
            return f"{value // each} {unit}"
    return str(value)


def _is_size(annotation: Any, metadata: Any) -> bool:
    if any(isinstance(each, BeforeValidator) and each.func in _SIZES for each in metadata):
        return True
    return any(
        _is_size(get_args(each)[0], each.__metadata__)
        for each in get_args(annotation)
        if get_origin(each) is Annotated
    )


def _is_choice(annotation: Any) -> bool:
    return get_origin(annotation) is Literal or any(map(_is_choice, get_args(annotation)))


def _allowed(field: FieldInfo) -> str:
    said = list(_constraints(field.annotation, field.metadata))
    return ", ".join(dict.fromkeys(said))


def _constraints(annotation: Any, metadata: Any) -> Iterator[str]:
    for each in metadata:
        match each:
            case Ge(ge=bound):
                yield f"at least {bound}"
            case Le(le=bound):
                yield f"at most {bound}"
            case BeforeValidator(func=func) if func is parse_duration:
                yield "a duration"
            case BeforeValidator(func=func) if func in _SIZES:
                yield "a size"
            case FieldInfo():
                yield from _constraints(None, each.metadata)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        yield "yes or no"
    elif origin is Literal:
        yield " or ".join(map(str, arguments))
    elif origin is Annotated:
        yield from _constraints(arguments[0], annotation.__metadata__)
    elif origin not in (tuple, dict):
        for argument in arguments:
            yield from _constraints(argument, ())


def _meaning(kind: type[BaseModel], name: str) -> str:
    for owner in kind.__mro__:
        if issubclass(owner, BaseModel) and name in owner.__annotations__:
            return _for_people(_docstrings(owner).get(name, ""))
    return ""


def _for_people(text: str) -> str:
    """Without what is Python's."""
    return text.replace("; None:", "; not set:").replace("None:", "Not set:").replace("`", "")


@cache
def _docstrings(kind: type) -> Mapping[str, str]:
    """The strings below the fields of a class, which Python does not keep."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found
