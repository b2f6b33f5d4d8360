"""Whether the bytes of a data set come fast enough.

A byte now and then keeps every time-out from firing, and holds an association and an unfinished
object for as long. Only the time counts in which the peer is waited for: what our own store takes
is not the peer's fault.
"""


class Pace:
    """Measured over windows of so many seconds of waiting, within one message."""

    __slots__ = ("_message", "_minimum", "_received", "_waited", "_window")

    def __init__(self, *, minimum: int, window: float) -> None:
        """`minimum`: bytes a second, 0 for any; `window` in seconds."""
        self._minimum = minimum
        self._window = window
        self._message = float("inf")
        self._waited = 0.0
        self._received = 0

    def too_slow(self, message: float, *, waited: float, received: int) -> bool:
        """Whether it is, after `received` bytes for which the peer was waited for `waited` seconds.

        `message`: when the message began that they belong to; infinite between messages.
        """
        if message != self._message:
            self._message, self._waited, self._received = message, 0.0, 0
        self._waited += waited
        self._received += received
        if self._waited < self._window or message == float("inf"):
            return False
        slow = self._received < self._minimum * self._waited
        self._waited, self._received = 0.0, 0
        return slow
