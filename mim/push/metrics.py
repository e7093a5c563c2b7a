"""What the push part counts. Labels are words of ours or of the providers' documents, never ids."""

from prometheus_client import Counter, Gauge, Histogram

PLANNED = Counter("mim_push_planned_total", "Outbox rows written or raised, by kind.", ["kind"])
SUPPRESSED = Counter("mim_push_suppressed_total", "Devices that were not told, by reason.", ["reason"])
SENT = Counter("mim_push_sent_total", "Notifications that a provider accepted.", ["provider"])
FAILED = Counter("mim_push_failed_total", "Attempts that failed, by provider and its word.", ["provider", "reason"])
DEAD = Counter("mim_push_dead_letters_total", "Notifications given up.", ["provider", "reason"])
TOKENS = Counter("mim_push_tokens_removed_total", "Tokens that a provider called dead.", ["provider"])
UNPLANNED = Counter("mim_push_unplanned_total", "Messages that were not planned here because too many waited.")
SECONDS = Histogram(
    "mim_push_seconds", "Time from the commit to the provider's acceptance.", ["provider"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)  # fmt: skip
OPEN = Gauge("mim_push_breaker_open", "1 while a provider is not called because it fails.", ["provider"])
