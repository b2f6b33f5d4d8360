"""What the configuration says of storage commitment."""

from typing import Literal, Self

from pydantic import model_validator

from gantry_domain.deliveries import RetryPolicy
from gantry_runtime.forwarding import Backoff
from gantry_runtime.section import Section
from gantry_runtime.values import Duration, parse_duration


class Commitment(Section):
    """How requests to keep instances are answered."""

    check: Literal["bytes", "presence"] = "bytes"
    """What is looked at before an instance is committed: all of its bytes, or that it is there in
    its full size."""
    backoff: Backoff = Backoff()
    """How long a report that nobody took waits until it is sent again."""
    give_up_after: Duration = parse_duration("7d")
    """How long a requester may be away before its report is dead."""
    keep: Duration = parse_duration("30d")
    """How long a Transaction UID is remembered that was answered."""

    @model_validator(mode="after")
    def _delays_that_grow(self) -> Self:
        self.retry_policy()
        return self

    def retry_policy(self) -> RetryPolicy:
        """Raises `ValueError` for a first delay that is longer than the longest."""
        return RetryPolicy(
            base=self.backoff.first,
            ceiling=self.backoff.longest,
            give_up_after=self.give_up_after,
        )
