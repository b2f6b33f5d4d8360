"""Two or three statements side by side: what works together, what does not, and what to change.

Who asks and who answers is the roles of PS3.4: a modality sends, asks for its worklist, reports its
steps and asks for commitment; the PACS takes and commits, the RIS has the worklist and takes steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gantry_domain.conformance.model import (
    Origin,
    QueryKey,
    Role,
    Statement,
    Support,
)
from gantry_domain.conformance.registry import (
    Service,
    class_name,
    service_of,
    syntax_name,
)
from gantry_domain.transfer_syntaxes import IMPLICIT_VR_LITTLE_ENDIAN


class Verdict(StrEnum):
    """What a comparison comes to."""

    COMPATIBLE = "Compatible"
    NOT_NEEDED = "Not Needed"
    INCOMPATIBLE = "Incompatible"
    NOT_STATED = "Not Stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One SOP class between its user and its provider.

    `change`: what would make it work, and on which side; empty where it does.
    """

    service: Service
    uid: str
    user: str
    provider: str
    verdict: Verdict
    reason: str
    change: str = ""
    common: tuple[str, ...] = ()
    """The transfer syntaxes that both have."""

    @property
    def name(self) -> str:
        """The name of the class."""
        return class_name(self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedKey:
    """One key of a query between who asks and who answers."""

    service: str
    tag: str
    keyword: str
    user: str
    provider: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole."""

    systems: tuple[str, ...]
    classes: tuple[Compared, ...]
    keys: tuple[ComparedKey, ...]

    def count(self, verdict: Verdict) -> int:
        """How many classes came to this."""
        return sum(each.verdict is verdict for each in self.classes)

    @property
    def summary(self) -> str:
        """All of it in a sentence."""
        counts = ", ".join(
            f"{self.count(verdict)} {verdict.value}" for verdict in Verdict if self.count(verdict)
        )
        if self.count(Verdict.INCOMPATIBLE):
            end = "something has to change before they work together"
        elif self.count(Verdict.NOT_STATED):
            end = (
                "nothing contradicts, but the statements are silent where it matters: ask or probe"
            )
        elif self.count(Verdict.COMPATIBLE):
            end = "all that is needed works together, by what is stated"
        else:
            end = "there is nothing that one needs of another"
        return f"{' and '.join(self.systems)}: {counts or 'no classes'}; {end}."


# Of the services that a RIS provides, if there is one.
_OF_RIS = frozenset({Service.WORKLIST, Service.PERFORMED_STEP})


def compare(modality: Statement, pacs: Statement, ris: Statement | None = None) -> Comparison:
    """Compare what a modality needs with what a PACS, and a RIS, provide.

    Looked at are the classes that the modality speaks of as a user, and those images that the PACS
    may send back to it. Of a modality that was probed its use is not known.
    """
    classes: list[Compared] = []
    for uid in _in_order(_spoken_of(modality)):
        provider = ris if ris is not None and service_of(uid) in _OF_RIS else pacs
        classes.append(_compared(uid, modality, provider))
    sends_back = _class_of(pacs, Role.SCU) & _class_of(modality, Role.SCP)
    classes += [
        _compared(uid, pacs, modality)
        for uid in _in_order(sends_back)
        if service_of(uid) is Service.STORAGE
    ]
    keys = tuple(_keys(modality, pacs, ris or pacs))
    systems = [modality, pacs, *([ris] if ris else [])]
    return Comparison(tuple(each.product for each in systems), tuple(classes), keys)


def _spoken_of(modality: Statement) -> Iterator[str]:
    """The classes that it speaks of as a user. A probe finds none: then those that it takes."""
    probed = modality.origin is Origin.PROBED
    for each in modality.supports():
        if each.role is not Role.SCP or (probed and each.supported):
            yield each.uid


def _class_of(statement: Statement, role: Role) -> set[str]:
    return {each.uid for each in statement.supports() if each.supported and each.role is role}


def _in_order(uids: Iterable[str]) -> list[str]:
    order = list(Service)
    return sorted(set(uids), key=lambda uid: (order.index(service_of(uid)), uid))


def _said(statement: Statement, uid: str, role: Role) -> list[Support]:
    """What a statement says of a class in a role; without roles it speaks of the usual one."""
    return [each for each in statement.supports() if each.uid == uid and each.role in (role, None)]


def _compared(uid: str, user: Statement, provider: Statement) -> Compared:
    verdict, reason, change, common = _decided(uid, user, provider)
    return Compared(
        service=service_of(uid),
        uid=uid,
        user=user.product,
        provider=provider.product,
        verdict=verdict,
        reason=reason,
        change=change,
        common=common,
    )


_Decision = tuple[Verdict, str, str, tuple[str, ...]]


def _decided(uid: str, user: Statement, provider: Statement) -> _Decision:
    asks, answers = _said(user, uid, Role.SCU), _said(provider, uid, Role.SCP)
    if not asks and user.origin is Origin.PROBED:
        reason = f"a probe does not tell whether {user.product} uses it, only that it takes it"
        return Verdict.NOT_STATED, reason, f"read the statement of {user.product}", ()
    if not any(each.supported for each in asks):
        said = "says that it does not use it" if asks else "does not list it as an SCU"
        return Verdict.NOT_NEEDED, f"{user.product} {said}", "", ()
    if not answers and not _speaks_of(provider, uid):
        reason = f"{provider.product} states no class of this service as an SCP"
        return Verdict.NOT_STATED, reason, f"ask the vendor of {provider.product}, or probe it", ()
    if not any(each.supported for each in answers):
        said = "says that it does not provide it" if answers else "does not list it as an SCP"
        change = f"enable it at {provider.product}, or let {user.product} use another class"
        return Verdict.INCOMPATIBLE, f"{provider.product} {said}", change, ()
    return _by_syntaxes(user, provider, _syntaxes(asks), _syntaxes(answers))


def _by_syntaxes(
    user: Statement,
    provider: Statement,
    proposed: Sequence[str] | None,
    accepted: Sequence[str] | None,
) -> _Decision:
    silent = [
        system.product
        for system, syntaxes in ((user, proposed), (provider, accepted))
        if syntaxes is None
    ]
    if proposed is None or accepted is None:
        who = " and ".join(silent)
        reason = f"both support it; the transfer syntaxes of {who} are not stated"
        return Verdict.NOT_STATED, reason, f"ask the vendor of {who}, or probe it", ()
    common = tuple(uid for uid in proposed if uid in accepted)
    if common:
        others = [syntax_name(uid) for uid in proposed if uid not in accepted]
        reason = f"both have {', '.join(map(syntax_name, common))}"
        if others:
            reason += f"; {provider.product} does not take {', '.join(others)}"
        return Verdict.COMPATIBLE, reason, "", common
    reason = (
        f"{user.product} proposes {_names(proposed)}, {provider.product} takes {_names(accepted)}"
    )
    if IMPLICIT_VR_LITTLE_ENDIAN not in proposed:
        change = f"let {user.product} propose Implicit VR Little Endian too (PS3.5 10.1)"
    else:
        change = f"let {provider.product} take one of them: {_names(proposed)}"
    return Verdict.INCOMPATIBLE, reason, change, ()


def _names(uids: Sequence[str]) -> str:
    return ", ".join(map(syntax_name, uids)) or "none"


def _speaks_of(statement: Statement, uid: str) -> bool:
    """Whether a statement lists the classes of this service as an SCP: who lists some, lists all.

    What was made by a program, ours or a probe, is silent about nothing.
    """
    service = service_of(uid)
    return statement.origin is not Origin.READ or any(
        service_of(each.uid) is service and each.role in (Role.SCP, None)
        for each in statement.supports()
    )


def _syntaxes(supports: Iterable[Support]) -> tuple[str, ...] | None:
    stated = [each.transfer_syntaxes for each in supports if each.supported]
    if any(each is None for each in stated):
        return None
    return tuple(dict.fromkeys(uid for each in stated for uid in each or ()))


def _keys(modality: Statement, pacs: Statement, ris: Statement) -> Iterator[ComparedKey]:
    """Those of the worklist are answered by the RIS, the others by the PACS."""
    asked = {(each.service, each.tag): each for each in modality.keys if each.role is Role.SCU}
    for key in asked.values():
        provider = ris if key.service == Service.WORKLIST.value else pacs
        answered = [
            each
            for each in provider.keys
            if each.role is Role.SCP and (each.service, each.tag) == (key.service, key.tag)
        ]
        verdict, reason = _key(key, answered[0] if answered else None, provider)
        yield ComparedKey(
            service=key.service,
            tag=key.tag,
            keyword=key.keyword,
            user=modality.product,
            provider=provider.product,
            verdict=verdict,
            reason=reason,
        )


def _key(asked: QueryKey, answered: QueryKey | None, provider: Statement) -> tuple[Verdict, str]:
    services = {each.service for each in provider.keys if each.role is Role.SCP}
    if asked.service not in services:
        return Verdict.NOT_STATED, f"{provider.product} states no keys"
    if answered is None:
        return Verdict.INCOMPATIBLE, f"{provider.product} does not list it"
    if asked.matching and not answered.matching:
        return Verdict.INCOMPATIBLE, f"{provider.product} returns it and does not match it"
    return Verdict.COMPATIBLE, answered.matching or "returned"
