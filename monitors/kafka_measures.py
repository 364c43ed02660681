"""What is counted of the deliveries' topic; `api/measures.py` registers these beside the others."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RECORDS: Final = Counter(
    "tocsin_monitors_kafka_records_total",
    "Records of the deliveries' topic by outcome: decided, again, dead, skipped (another process had done it), retried",
    ["outcome"], registry=None,
)
LAG: Final = Gauge(
    "tocsin_monitors_kafka_lag_records", "Records that wait, by partition; those that this process reads", ["partition"], registry=None
)
SECONDS: Final = Histogram(
    "tocsin_monitors_kafka_poll_duration_seconds", "From the fetch of some records to their commit", registry=None,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
