"""What is to be done about one record: the unit that decides it as its source's hook would, or why it cannot be taken.

It remembers, for as long as they stand in the way, the records that failed: how often, or for what reason they are given up.
"""

from dataclasses import dataclass, replace
from typing import Final

import structlog
from kafka.consumer.fetcher import ConsumerRecord

from engine.errors import InvalidInput, MalformedDelivery, NotFound, Refused
from engine.vault import Vault
from engine.work import Unit, Work
from monitors.intake import KEPT_OF_TOO_LARGE, Intake, ProfileChanged, Receipt
from monitors.kafka_record import Arrival, Unreadable, mark_of, read

MOST_TRIES: Final = 5
OURS: Final = MalformedDelivery("$", "an error on our side, several times; it was logged", status=500)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Decision:
    """A record's unit of work; it gives what became of the delivery, None where it is none.

    Attributes:
        fault: why the record cannot be taken; its dead letter has to be written before the unit is submitted.
        kept: it is kept as a rejected delivery of its source.
    """

    unit: Unit[Receipt | None]
    fault: MalformedDelivery | None = None
    kept: bool = False


class Decisions:
    """Of one reader."""

    def __init__(self, intake: Intake, vault: Vault, max_body_bytes: int) -> None:
        self._intake, self._vault, self._max_body_bytes = intake, vault, max_body_bytes
        self._tries: dict[tuple[int, int], int] = {}
        self._given_up: dict[tuple[int, int], MalformedDelivery] = {}

    def about(self, record: ConsumerRecord) -> Decision:
        """What is to be done about a record.

        Raises:
            StoreUnavailable: its source cannot be looked up.
        """
        arrival = None
        try:
            arrival = read(record.value, record.headers)
            given_up = self._given_up.get(_key(record))
            if given_up is not None:
                raise given_up
            return self._taken(record, arrival)
        except MalformedDelivery as fault:
            source = arrival.source if arrival else getattr(fault, "source", None)
            return self._refused(record, fault, arrival, source)

    def _taken(self, record: ConsumerRecord, arrival: Arrival) -> Decision:
        if len(arrival.body) > self._max_body_bytes:
            raise MalformedDelivery("$", f"a body of at most {self._max_body_bytes} bytes", status=413)
        accepted = None
        if arrival.accepted is not None:
            accepted, mark = arrival.accepted
            if mark != mark_of(self._vault, accepted):
                raise Unreadable("delivery", "an id that this Tocsin has given", source=arrival.source)
        try:
            heard = self._intake.read(arrival.source, arrival.body, arrival.content_type, identity=arrival.identity)
        except NotFound:
            raise Unreadable("source", "the name of a source that is configured here") from None
        if heard.identity is None and accepted is None:
            # The time too: a topic that is made anew counts from 0 again.
            heard = replace(heard, identity=f"kafka:{record.topic}/{record.partition}/{record.offset}@{record.timestamp}")
        unit = self._intake.unit(heard, delivery=accepted)
        return Decision(Unit(unit.decide, actor=unit.actor))

    def _refused(self, record: ConsumerRecord, fault: MalformedDelivery, arrival: Arrival | None, source: str | None) -> Decision:
        adapter = self._adapter(source)
        if source is None or adapter is None:
            return Decision(Unit(lambda _: None, actor="kafka"), fault)
        body = arrival.body if arrival else record.value or b""
        accepted, mark = arrival.accepted if arrival and arrival.accepted else (None, "")
        if accepted is not None and mark != mark_of(self._vault, accepted):
            accepted = None
        kept = body if len(body) <= self._max_body_bytes else body[:KEPT_OF_TOO_LARGE]
        rejection = self._intake.rejection(
            source, kept, fault, content_type=arrival.content_type if arrival else "", adapter=adapter, length=len(body), delivery=accepted
        )

        def decide(work: Work) -> None:
            rejection.decide(work)

        return Decision(Unit(decide, actor=rejection.actor), fault, kept=True)

    def _adapter(self, source: str | None) -> str | None:
        """The adapter of a source; None: there is no such source."""
        if source is None:
            return None
        try:
            return self._intake.profile(source).adapter
        except NotFound:
            return None

    def failed(self, record: ConsumerRecord, error: BaseException) -> bool:
        """Note why a record was not decided; whether it is to be tried again at once."""
        if isinstance(error, ProfileChanged):
            self._intake.forget(read(record.value, record.headers).source)
            return True
        if isinstance(error, InvalidInput):
            self._given_up[_key(record)] = MalformedDelivery(error.field, f"expected {error.expected}", status=422)
            return True
        if isinstance(error, Refused):
            self._given_up[_key(record)] = MalformedDelivery("$", str(error), status=422)
            return True
        tries = self._tries[_key(record)] = self._tries.get(_key(record), 0) + 1
        log.error("a record failed", partition=record.partition, offset=record.offset, tries=tries, error=repr(error))
        if tries >= MOST_TRIES:
            self._given_up[_key(record)] = OURS
        return False

    def done(self, record: ConsumerRecord) -> None:
        """It needs not be remembered any more."""
        if self._tries or self._given_up:
            self._tries.pop(_key(record), None)
            self._given_up.pop(_key(record), None)


def _key(record: ConsumerRecord) -> tuple[int, int]:
    return record.partition, record.offset
