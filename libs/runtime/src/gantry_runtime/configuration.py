"""Reads a YAML file into a frozen model; what is wrong with it becomes one clear line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

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
    path, owner = _place(model, detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = owner.model_fields if owner else ()
        return f"{path}: unknown key{did_you_mean(str(detail['loc'][-1]), known)}"
    if detail["type"] == "missing":
        return f"{path}: is required"
    context = detail.get("ctx", {})
    if detail["type"].startswith("union_tag"):
        path += "." + str(context["discriminator"]).strip("'")
        if detail["type"] == "union_tag_not_found":
            return f"{path}: is required"
        return f"{path}: must be one of {context['expected_tags']}"
    message = detail["msg"].removeprefix("Value error, ")
    for said, clearer in _CLEARER.items():
        message = message.replace(said, clearer)
    return f"{path}: {message}" if path else message


def _place(
    model: type[BaseModel], loc: tuple[int | str, ...]
) -> tuple[str, type[BaseModel] | None]:
    """The path of a key as it is written in the file, and the model that the key belongs to.

    In `loc` a member of a union is preceded by its tag, which is no key.
    """
    text = ""
    owner: type[BaseModel] | None = model
    inside: list[type[BaseModel]] = [model]
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        if len(inside) > 1:
            tagged = [each for each in inside if _has_tag(each, part)]
            if tagged:
                inside = tagged
                continue
        owner = inside[0] if inside else None
        text += f".{part}" if text else part
        field = owner.model_fields.get(part) if owner else None
        inside = _models_in(field.annotation) if field else []
    return text, owner


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
