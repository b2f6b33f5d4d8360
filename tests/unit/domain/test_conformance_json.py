"""A conformance statement survives its JSON form, and what is no statement is named."""

from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry_domain.conformance import model
from gantry_domain.conformance.json_form import UnreadableStatement, from_json, to_json
from gantry_domain.conformance.model import Origin, Statement

_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    # Lone surrogates are no text, and JSON cannot carry them.
    str: st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    int: st.integers(-(2**31), 2**31),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
}


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is tuple:
        return st.lists(_values(get_args(hint)[0]), max_size=2).map(tuple)
    if get_args(hint):
        return st.one_of(*map(_values, get_args(hint)))
    if is_dataclass(hint):
        return st.builds(
            hint, **{name: _values(kind) for name, kind in get_type_hints(hint).items()}
        )
    return _PLAIN[hint] if hint in _PLAIN else st.sampled_from(list(hint))


@settings(max_examples=20, deadline=None)
@given(_values(Statement))
def test_a_statement_survives(statement: Statement) -> None:
    assert from_json(to_json(statement)) == statement


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "no JSON"),
        (b"[]", "no statement of ours"),
        (b'{"format": "gantry-conformance-1", "origin": "own"}', "lacks product"),
        (b'{"format": "gantry-conformance-1", "product": 1, "origin": "own"}', "product is no str"),
        (b'{"format": "gantry-conformance-1", "product": "", "origin": "x"}', "origin is none of"),
        (
            b'{"format": "gantry-conformance-1", "product": "", "origin": "own", "keys": [{}]}',
            r"keys\[0\] lacks",
        ),
        (
            b'{"format": "gantry-conformance-1", "product": "", "origin": "own", "x": 1}',
            "a member x",
        ),
    ],
)
def test_what_is_no_statement_is_named(content: bytes, said: str) -> None:
    with pytest.raises(UnreadableStatement, match=said):
        from_json(content)


def test_what_is_not_stated_is_not_what_is_stated_as_nothing() -> None:
    silent = Statement(product="", origin=Origin.READ)
    none = Statement(product="", origin=Origin.READ, character_sets=())
    assert from_json(to_json(silent)).character_sets is None
    assert from_json(to_json(none)).character_sets == ()
    assert "character_sets" not in orjson.loads(to_json(silent))
    assert model.Support(uid="1", name="").transfer_syntaxes is None
