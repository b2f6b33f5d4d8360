"""The metrics of those who are told of events."""

from gantry_runtime.metrics import counter, gauge

TOLD = counter(
    "gantry_worker_told_total",
    "Attempts to tell a subscriber of an event, by what became of them: taken, later, refused, "
    "away, skipped (there was nothing to say of it), given_up",
    ["subscriber", "outcome"],
)
BEHIND_SECONDS = gauge(
    "gantry_worker_subscriber_behind_seconds",
    "The age of the oldest event that a subscriber was not told of; 0 where it has all",
    ["subscriber"],
    mode="mostrecent",
)
PAUSED = gauge(
    "gantry_worker_subscriber_paused",
    "1 where a person paused a subscriber",
    ["subscriber"],
    mode="mostrecent",
)
ASIDE = gauge(
    "gantry_worker_subscriber_events",
    "Events that a subscriber did not take: aside (told again), refused (or given up)",
    ["subscriber", "state"],
    mode="mostrecent",
)
MISSED = counter(
    "gantry_worker_subscriber_missed_total",
    "How often a subscriber was away for so long that events had gone from the feed",
    ["subscriber"],
)
FAILURES = counter(
    "gantry_worker_telling_failures_total",
    "Unexpected failures of our own in telling subscribers",
)
