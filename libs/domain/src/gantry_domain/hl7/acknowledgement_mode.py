"""The enhanced acknowledgement mode (HL7 v2 2.9.3): which answers a message asks for.

MSH-15 asks for an accept acknowledgement (CA, CE, CR), MSH-16 for one of the application (AA, AE,
AR); each always, never, in errors or in success alone (HL7 Table 0155). Both are known at once.
"""

from dataclasses import dataclass

from gantry_domain.hl7.acknowledgement import ACCEPTED_FOR_NOW, Ack
from gantry_domain.hl7.message import raw_header

_ACCEPTS = {Ack.ACCEPTED: ACCEPTED_FOR_NOW, Ack.ERROR: "CE", Ack.REJECTED: "CR"}
_ACCEPT, _APPLICATION = 15, 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions of Table 0155: AL, NE, ER, SU."""

    accept: str
    application: str

    def codes(self, outcome: Ack) -> list[str]:
        """The codes of MSA-1 with which a message is answered, in their order; there may be none.

        Who wants both hears that the message is kept, and then what became of it. Who wants no
        answer of the application hears of errors by the first one.
        """
        failed = outcome is not Ack.ACCEPTED
        told = _holds(self.application, failed=failed)
        if outcome is Ack.REJECTED:
            told = told and not _holds(self.accept, failed=True)
        kept = told and outcome is Ack.ERROR
        accept = ACCEPTED_FOR_NOW if kept else _ACCEPTS[outcome]
        codes = [accept] if _holds(self.accept, failed=failed and not kept) else []
        return [*codes, *([outcome.value] if told else [])]


def wanted_of(raw: bytes) -> Wanted | None:
    """What a message asks for; None: the original mode, for it says nothing."""
    header = [each.strip().upper() for each in [*raw_header(raw), *[b""] * 17][:17]]
    accept, application = header[_ACCEPT].decode("latin-1"), header[_APPLICATION].decode("latin-1")
    return Wanted(accept, application) if accept or application else None


def _holds(condition: str, *, failed: bool) -> bool:
    """Whether an answer is wanted; without a condition it is not."""
    return condition in ("AL", "ER" if failed else "SU")
