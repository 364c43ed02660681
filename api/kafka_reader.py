"""Reads deliveries out of Kafka for a process: `tocsin intake`, and whoever else runs everything in one."""

from collections import Counter
from typing import TYPE_CHECKING

from api.house import House
from api.measures import DELIVERIES, OBSERVATIONS
from api.settings import BadSettings, Settings
from monitors.intake import Receipt
from monitors.kafka_security import Security, Unusable
from monitors.kafka_topics import Topics

if TYPE_CHECKING:
    from monitors.kafka_intake import KafkaIntake


def topics_of(settings: Settings) -> Topics | None:
    """Where these settings say that deliveries lie; None: there is no Kafka.

    Raises:
        BadSettings: a file for TLS or of the password cannot be used.
    """
    if settings.kafka is None:
        return None
    security = Security(
        tls=settings.kafka_tls, ca_file=settings.kafka_ca_file, certificate_file=settings.kafka_certificate_file, key_file=settings.kafka_key_file,
        user=settings.kafka_user, password_file=settings.kafka_password_file, mechanism=settings.kafka_mechanism,
    )
    try:
        security.check()
    except Unusable as error:
        raise BadSettings(str(error)) from error
    return Topics(
        servers=settings.kafka, deliveries=settings.kafka_deliveries, group=settings.kafka_group, max_body_bytes=settings.max_body_bytes,
        security=security,
    )


def start(house: House, *, reread: bool = False) -> "KafkaIntake | None":
    """Begin to read, in a thread; its `stop` ends it, before the house is closed. None: the settings name no Kafka."""
    topics = topics_of(house.settings)
    if topics is None:
        return None
    from monitors.kafka_intake import KafkaIntake  # the library is loaded where there is a Kafka

    reader = KafkaIntake(house.ledger, house.intake, topics, told=count, reread=reread)
    reader.start()
    return reader


def count(receipt: Receipt | None) -> None:
    """Count what became of a delivery; None: it was rejected."""
    if receipt is None:
        DELIVERIES.labels("rejected").inc()
        return
    DELIVERIES.labels("again" if receipt.again else "decided").inc()
    if not receipt.again:
        for disposition, number in Counter(event.disposition for event in receipt.monitoring_events).items():
            OBSERVATIONS.labels(disposition.value).inc(number)
