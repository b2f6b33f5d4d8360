"""Where what a peer accepts differs from what is stated of it."""

from collections.abc import Iterable, Iterator, Mapping

from gantry_domain.conformance.model import Role, Support
from gantry_domain.conformance.registry import class_name, syntax_name


def accepted_as_scp(supports: Iterable[Support]) -> dict[str, frozenset[str]]:
    """The transfer syntaxes of each class that is supported as an SCP."""
    return {
        each.uid: frozenset(each.transfer_syntaxes or ())
        for each in supports
        if each.role is Role.SCP and each.supported
    }


def differences(
    stated: Mapping[str, frozenset[str]], accepted: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    """One line for each class that differs: by class, its transfer syntaxes."""
    for uid in sorted(stated.keys() | accepted.keys()):
        name = f"{class_name(uid)} ({uid})"
        if uid not in accepted:
            yield f"{name} is stated and not accepted"
        elif uid not in stated:
            yield f"{name} is accepted and not stated"
        else:
            yield from _syntaxes(name, stated[uid], accepted[uid])


def _syntaxes(name: str, stated: frozenset[str], accepted: frozenset[str]) -> Iterator[str]:
    missing, more = stated - accepted, accepted - stated
    if missing:
        yield f"{name} is stated and not accepted in {_names(missing)}"
    if more:
        yield f"{name} is accepted and not stated in {_names(more)}"


def _names(uids: frozenset[str]) -> str:
    return ", ".join(syntax_name(uid) for uid in sorted(uids))
