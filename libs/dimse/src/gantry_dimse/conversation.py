"""The one loop of an established association: read, walk, answer, until somebody leaves."""

import time
from dataclasses import dataclass

from gantry_dimse.connection import Connection
from gantry_dimse.limits import Departure, ServerLimits
from gantry_dimse.messages import MessageService
from gantry_dimse.observer import Ending
from gantry_dimse.operations import OperationBroken
from gantry_dimse.pace import Pace
from gantry_dimse.pdu import (
    RELEASE_RESPONSE,
    SERVICE_PROVIDER,
    SERVICE_USER,
    ProtocolError,
    encode_abort,
)
from gantry_dimse.reader import PDUReader

_BUFFER = 256 * 1024

# While draining, a peer that says nothing for so long between messages has nothing in hand.
_QUIET_WHILE_DRAINING = 2.0
# At the deadline, the answer to what has come by then is still waited for.
_LAST_ANSWER = 1.0


@dataclass(frozen=True, slots=True)
class Farewell:
    """How an association ended, why (one line), and the PDU that tells the peer."""

    ending: Ending
    detail: str = ""
    pdu: bytes = b""


def converse(
    connection: Connection,
    messages: MessageService,
    *,
    limits: ServerLimits,
    departure: Departure,
) -> Farewell:
    """Serve the messages of an association to its end. Raises `ConnectionLost`."""
    reader = PDUReader(messages)
    pace = Pace(minimum=limits.minimum_rate, window=limits.rate_window)
    view = memoryview(bytearray(_BUFFER))
    kept = 0
    last_heard = time.monotonic()
    # When the command began that is still coming: a byte now and then does not buy more time.
    command_since: float | None = None
    commands = 0
    try:
        while True:
            underway = messages.in_message or not reader.between_pdus or kept > 0
            if messages.answering:
                messages.go_on()
            elif not underway:
                messages.go_on_between()
            asked = time.monotonic()
            if messages.awaiting_peer:
                received = connection.receive_into(view[kept:], more_expected=True)
            elif messages.answering:
                last_heard = time.monotonic()  # it is us who are to speak
                received = connection.receive_now(view[kept:])
            else:
                received = connection.receive_into(view[kept:], more_expected=underway)
            waited = time.monotonic() - asked
            if pace.too_slow(messages.receiving_since, waited=waited, received=received):
                detail = f"fewer than {limits.minimum_rate} bytes of an object a second"
                return Farewell(Ending.TOO_SLOW, detail, encode_abort(SERVICE_USER))
            if received:
                end = kept + received
                used = reader.feed(view[:end])
                if messages.released:
                    return Farewell(Ending.RELEASED, pdu=RELEASE_RESPONSE)
                if messages.aborted:
                    return Farewell(Ending.PEER_ABORTED)
                kept = end - used
                if kept:
                    # The first bytes of a header.
                    view[:kept] = bytes(view[used:end])
                now = last_heard = time.monotonic()
            else:
                now = time.monotonic()
            if now - messages.receiving_since >= limits.longest_reception:
                detail = f"an object took longer than {limits.longest_reception:g} s"
                return Farewell(Ending.TOO_SLOW, detail, encode_abort(SERVICE_USER))
            if received:
                underway = messages.in_message or not reader.between_pdus or kept > 0
            if not underway or not messages.idle or commands != messages.commands:
                command_since = None
            elif command_since is None:
                command_since = now
            commands = messages.commands
            if command_since is not None and now - command_since >= limits.dimse_timeout:
                detail = "in the middle of a command"
                return Farewell(Ending.IDLE, detail, encode_abort(SERVICE_USER))
            if received and not departure.begun:
                continue
            quiet = now - last_heard
            if departure.begun and (
                now >= departure.deadline + (_LAST_ANSWER if underway else 0)
                or (not underway and quiet >= _QUIET_WHILE_DRAINING)
            ):
                return Farewell(Ending.DRAINED, pdu=encode_abort(SERVICE_USER))
            if quiet >= (limits.dimse_timeout if underway else limits.network_timeout):
                detail = "in the middle of a message" if underway else "between messages"
                return Farewell(Ending.IDLE, detail, encode_abort(SERVICE_USER))
    except OperationBroken as error:
        return Farewell(Ending.FAILED, str(error), encode_abort(SERVICE_USER))
    except ProtocolError as error:
        pdu = encode_abort(SERVICE_PROVIDER, error.reason)
        return Farewell(Ending.PROTOCOL_ERROR, str(error), pdu)
    finally:
        messages.close()
