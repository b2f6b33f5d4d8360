"""What an order needs and nobody told: generated once, from what the order is known by."""

import base64
import hashlib
from datetime import datetime
from uuid import UUID, uuid5

from gantry_domain.json_model import Element
from gantry_domain.orders.attributes import tag_of
from gantry_domain.orders.changes import OrderNumbers, Step

# Any UUID that is nobody else's.
_SPACE = UUID("6f1d4d0e-6c1f-5b0c-9a53-0d6a1f0c8f11")


def seed_of(numbers: OrderNumbers, *, partition: str) -> str:
    """What the generated values of an order follow from."""
    return "\n".join(
        (partition, numbers.accession, numbers.placer, numbers.filler, numbers.procedure)
    )


def study_uid(seed: str) -> str:
    """A Study Instance UID of a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid5(_SPACE, seed).int}"


def procedure_id(numbers: OrderNumbers, seed: str) -> str:
    """A Requested Procedure ID: the Accession Number, for most have one procedure to a number."""
    return numbers.accession or f"P{_short(seed)}"


def step_id(seed: str, position: int) -> str:
    """A Scheduled Procedure Step ID."""
    return f"S{_short(f'{seed}{position}')}"


def completed_step(step: Step, *, seed: str, position: int, now: datetime) -> dict[str, Element]:
    """The attributes of a new step; one whose time nobody told begins now."""
    number = step.number or step_id(seed, position)
    return {
        tag_of("ScheduledProcedureStepStartDate"): _one("DA", now.strftime("%Y%m%d")),
        tag_of("ScheduledProcedureStepStartTime"): _one("TM", now.strftime("%H%M%S")),
        **step.attributes,
        tag_of("ScheduledProcedureStepID"): _one("SH", number),
    }


def _one(vr: str, value: str) -> Element:
    return {"vr": vr, "Value": [value]}


def _short(seed: str) -> str:
    """Twelve characters of letters and digits, 60 bits."""
    digest = hashlib.sha256(seed.encode()).digest()
    return base64.b32encode(digest[:8]).decode()[:12]
