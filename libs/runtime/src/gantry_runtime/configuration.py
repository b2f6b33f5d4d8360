"""Reads a YAML file into a frozen model; what is wrong with it becomes one clear line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gantry_domain.errors import ConfigurationError
from gantry_runtime.names import did_you_mean

_LARGEST_FILE = 4 * 2**20

_CLEARER = {
    "Input should be": "must be",
    "Tuple should": "must",
    "a valid tuple": "a list",
    "a valid string": "text (in quotes where YAML reads it otherwise)",
    "a valid dictionary or instance of": "a mapping for",
}

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML that refuses a key written twice, of which PyYAML silently keeps the last."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} is written twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(file: Path) -> Mapping[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping.

    :raises ConfigurationError: it cannot be read, is no YAML, or is no mapping.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigurationError(f"{file}: is larger than {_LARGEST_FILE} bytes")
    try:
        document = yaml.load(content, _StrictLoader)  # noqa: S506 (derived from SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigurationError(f"{file}: {place}{error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is no YAML text") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"{file}: must be a mapping of keys to values")
    return document


def validated(model: type[Model], document: Mapping[str, Any], file: Path | None) -> Model:
    """The document as a model.

    :raises ConfigurationError: the first thing that is wrong, by file and full path of the key.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        line = _describe(model, details[0])
        if len(details) > 1:
            line += f" (and {len(details) - 1} more)"
        raise ConfigurationError(f"{file}: {line}" if file else line) from None


def _describe(model: type[BaseModel], detail: ErrorDetails) -> str:
    path = _path(detail["loc"])
    if detail["type"] == "extra_forbidden":
        owner = _model_at(model, detail["loc"][:-1])
        known = owner.model_fields if owner else ()
        return f"{path}: unknown key{did_you_mean(str(detail['loc'][-1]), known)}"
    if detail["type"] == "missing":
        return f"{path}: is required"
    message = detail["msg"].removeprefix("Value error, ")
    for said, clearer in _CLEARER.items():
        message = message.replace(said, clearer)
    return f"{path}: {message}" if path else message


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _model_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        current = _model_in(current.model_fields[part].annotation)
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
