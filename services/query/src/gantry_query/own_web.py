"""What the web door serves, for the conformance statement: read off its OpenAPI document."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from gantry_archive.own_statement import own_statement
from gantry_domain.conformance.model import Property, Statement, WebTransaction
from gantry_query.archive import Archive
from gantry_query.openapi_document import Json, openapi_document
from gantry_query.web import PREFIXES, dicomweb_routes
from gantry_runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class _Described:
    """As much of an `Archive` as decides which routes there are: none of them is called."""

    deletes: bool
    door: None = None


def whole_statement(settings: Settings) -> Statement:
    """Our conformance statement with what the web door serves."""
    routes = dicomweb_routes(cast("Archive", _Described(settings.delete.enabled)))
    document = openapi_document({PREFIXES[0]: routes})
    return own_statement(settings, web=web_transactions(document))


def web_transactions(document: Json) -> Iterator[WebTransaction]:
    """The operations of an OpenAPI document."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            media_types: dict[str, None] = {}
            for response in operation["responses"].values():
                media_types.update(dict.fromkeys(response.get("content", ())))
            yield WebTransaction(
                name=operation["summary"],
                method=method.upper(),
                path=path,
                media_types=tuple(media_types),
                statuses=tuple(
                    Property(name=status, value=response["description"])
                    for status, response in operation["responses"].items()
                ),
            )
