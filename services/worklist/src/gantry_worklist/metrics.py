"""What the worklist service counts."""

from gantry_archive.association_watch import association_metrics
from gantry_runtime import metrics

MESSAGES = metrics.counter(
    "gantry_worklist_hl7_messages_total",
    "Messages of HL7 by type and acknowledgement; type other: none that is understood",
    ["kind", "ack"],
)
MESSAGE_SECONDS = metrics.histogram(
    "gantry_worklist_hl7_message_seconds", "Time from the end of a message to its acknowledgement"
)
DUPLICATES = metrics.counter(
    "gantry_worklist_hl7_duplicates_total", "Messages that came before, and were acknowledged again"
)
UNANSWERED = metrics.counter(
    "gantry_worklist_hl7_unanswered_total",
    "Messages without an answer, for the database is away: their sender tries again",
)
FINDINGS = metrics.counter(
    "gantry_worklist_hl7_findings_total", "What was odd about messages, by rule", ["rule"]
)
CONNECTIONS = metrics.gauge(
    "gantry_worklist_hl7_connections_active", "Connections of senders of HL7 that are open now"
)
FAULTED = metrics.counter(
    "gantry_worklist_hl7_connections_faulted_total",
    "Connections of HL7 that were closed: not_admitted, too_many, tls, not_mllp, too_slow, idle",
    ["fault"],
)
FEED_ALIVE = metrics.gauge(
    "gantry_worklist_feed_alive",
    "Whether the last message or poll is younger than configured",
    mode="livemax",
)
FEED_AGE_SECONDS = metrics.gauge(
    "gantry_worklist_feed_age_seconds",
    "Time since the last message or poll; 0: none is known",
    mode="livemax",
)
POLLS = metrics.counter(
    "gantry_worklist_polls_total",
    "Polls of other systems' worklists; outcome: done, failed",
    ["source", "outcome"],
)
POLLED = metrics.counter(
    "gantry_worklist_polled_orders_total",
    "Orders of their answers; outcome: taken, unchanged, refused, cancelled",
    ["source", "outcome"],
)
HL7_FAILURES = metrics.counter(
    "gantry_worklist_hl7_failures_total", "Messages that failed by an error of our own"
)
ASSOCIATIONS = association_metrics("worklist")
FINDS = metrics.counter(
    "gantry_worklist_finds_total",
    "Worklist queries by final status; status gone: the peer left before it",
    ["partner", "status"],
)
FIND_SECONDS = metrics.histogram(
    "gantry_worklist_find_seconds", "Time from a worklist query to its final answer"
)
FIND_MATCHES = metrics.counter(
    "gantry_worklist_find_matches_total", "Scheduled steps sent as answers", ["partner"]
)
PERFORMED = metrics.counter(
    "gantry_worklist_performed_total",
    "N-CREATE and N-SET of performed procedure steps by status",
    ["operation", "partner", "status"],
)
REPORTS = metrics.counter(
    "gantry_worklist_reports_total",
    "Performed steps passed on, by destination; outcome: taken, put_off, given_up",
    ["destination", "outcome"],
)
REPORTS_WAITING = metrics.gauge(
    "gantry_worklist_reports_waiting",
    "N-CREATE and N-SET that a destination has not taken yet",
    ["destination"],
    mode="livemax",
)
REPORTS_GIVEN_UP = metrics.gauge(
    "gantry_worklist_reports_given_up",
    "N-CREATE and N-SET that a destination refused, or did not take for too long",
    ["destination"],
    mode="livemax",
)
UNSCHEDULED = metrics.counter(
    "gantry_worklist_performed_unscheduled_total", "Performed steps for which there is no order"
)
