"""Intake: a body from a source becomes a delivery, its observations are judged, and all of it is one commit.

    body ─▶ adapter (pure) ─▶ observations ─▶ one unit of work: delivery + alerts + correlations + incidents

The HTTP side (`api/hooks.py`) has authenticated the sender and knows the source's name; it answers after the commit.
"""

import asyncio
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from engine.aggregate import Aggregate
from engine.alert import Alert
from engine.clock import micros
from engine.delivery import Delivery, DeliveryReceived, DeliveryRejected, MonitoringEvent
from engine.errors import InvalidInput, MalformedDelivery, NotFound, TocsinError
from engine.identity import alert_id, delivery_id, source_id
from engine.judgement import ENDS_AT, LEASE, STALE, Judgement, LeasePolicy, holder_of
from engine.ledger import Ledger
from engine.observation import Parsed, SourceProfile
from engine.source import Source
from engine.store import DueTimer, KeptBody
from engine.work import Expected, Unit, Work
from monitors.adapter import Adapter
from monitors.integrations.registry import adapter_named

# A broken sender can't fill the disk: per source and day this much of rejected bodies is kept; their reasons always are.
REJECTED_BYTES_A_DAY: Final = 16 * 1024 * 1024
# Of a body that is too large, this much of its beginning.
KEPT_OF_TOO_LARGE: Final = 64 * 1024
LARGE_BODY: Final = 256 * 1024
IDEMPOTENCY_KEY: Final = "key:"
# Between a source and a format that is not its own, where such a pair holds an alert; no source's name has it.
BY: Final = "/"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery.

    Attributes:
        again: the sender had delivered it before; this is the same answer.
    """

    delivery: UUID
    monitoring_events: tuple[MonitoringEvent, ...]
    position: int
    again: bool = False


class Rejected(MalformedDelivery):
    """The delivery could not be read; it was kept under `delivery` with the reason."""

    def __init__(self, error: MalformedDelivery, delivery: UUID) -> None:
        super().__init__(error.path, error.expected, status=error.status)
        self.delivery, self.error = delivery, error


class ProfileChanged(TocsinError):
    """The source was configured anew between parsing and deciding: to be parsed again, after `Intake.forget`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A delivery that was read and not yet decided.

    Attributes:
        identity: by which it is the same when it comes again; None: nothing identifies it.
    """

    profile: SourceProfile
    adapter: Adapter
    parsed: Parsed
    body: bytes
    content_type: str
    identity: str | None

    @property
    def delivery(self) -> UUID | None:
        """The id that its identity gives it."""
        return delivery_id(self.profile.name, self.identity) if self.identity else None


class Intake:
    """Receives deliveries of one process."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._profiles: dict[str, SourceProfile] = {}

    def profile(self, name: str) -> SourceProfile:
        """The source's profile.

        Raises:
            NotFound: no such source.
        """
        found = self._profiles.get(name)
        if found is None:
            found = self._ledger.get(Source, source_id(name)).profile
            if found is None:
                raise NotFound("source", name)
            self._profiles[name] = found
        return found

    async def profile_of(self, name: str) -> SourceProfile:
        """`profile`, for the event loop: what is not in memory is read on another thread.

        Raises:
            NotFound: no such source.
        """
        found = self._profiles.get(name)
        return found if found is not None else await asyncio.to_thread(self.profile, name)

    def lease_behind(self, timer: DueTimer) -> LeasePolicy:
        """How long the word of that source holds whose lease the timer is."""
        if timer.purpose not in (LEASE, ENDS_AT, STALE):
            return LeasePolicy()
        alert = self._ledger.get(Alert, UUID(bytes=timer.owner))
        name, _, form = (holder_of(alert, UUID(bytes=timer.timer)) or (alert.holders or (alert.source,))[0]).partition(BY)
        profile = self.profile(name)
        return lease_policy(profile, adapter_named(form or profile.adapter))

    async def receive(
        self, source: str, body: bytes, *, content_type: str = "", identity: str | None = None, adapter: Adapter | None = None
    ) -> Receipt:
        """Take one delivery in. Returns after its commit is on disk.

        Args:
            identity: the identity that the transport carries (`Idempotency-Key`); an adapter may find one in the body.
            adapter: another format than the source's own (an imitated API that its token also opens).

        Raises:
            NotFound: no such source.
            Rejected: the body cannot be read; kept with the reason.
            StoreUnavailable: nothing was stored.
        """
        while True:
            heard = await self.hear(source, body, content_type=content_type, identity=identity, adapter=adapter)
            try:
                return await self._ledger.commit(self.unit(heard))
            except ProfileChanged:
                self.forget(source)

    async def hear(
        self, source: str, body: bytes, *, content_type: str = "", identity: str | None = None, adapter: Adapter | None = None
    ) -> Heard:
        """Read a delivery, to be decided later; arguments as of `receive`.

        Raises:
            NotFound: no such source.
            Rejected: the body cannot be read; kept with the reason.
            StoreUnavailable: it cannot be read, and that could not be kept.
        """
        identity = f"{IDEMPOTENCY_KEY}{identity}" if identity else None
        await self.profile_of(source)
        try:
            if len(body) > LARGE_BODY:  # seconds of work at the worst: everybody else goes on meanwhile
                return await asyncio.to_thread(self.read, source, body, content_type, identity=identity, adapter=adapter)
            return self.read(source, body, content_type, identity=identity, adapter=adapter)
        except MalformedDelivery as error:
            name = adapter.name if adapter else (await self.profile_of(source)).adapter
            delivery = await self._ledger.commit(self.rejection(source, body, error, content_type=content_type, adapter=name))
            raise Rejected(error, delivery) from error

    def read(
        self, source: str, body: bytes, content_type: str, *, identity: str | None = None, adapter: Adapter | None = None
    ) -> Heard:
        """Read a delivery; what cannot be read is not kept.

        Args:
            identity: as it is stored, its kind included (`key:…`).

        Raises:
            NotFound: no such source.
            MalformedDelivery: the body cannot be read.
        """
        profile = self.profile(source)
        chosen = adapter or adapter_named(profile.adapter)
        parsed = chosen.parse(body, content_type, profile)
        return Heard(profile, chosen, parsed, body, content_type, identity or parsed.identity)

    def forget(self, source: str) -> None:
        """Read the source's profile anew the next time."""
        self._profiles.pop(source, None)

    def unit(self, heard: Heard, *, delivery: UUID | None = None) -> Unit[Receipt]:
        """What decides a delivery.

        Args:
            delivery: the id that it was given when it was accepted; used where it has no identity.

        Its decision raises `ProfileChanged`, or `InvalidInput` where its identity was used for something else.
        """
        profile, adapter, parsed, body, content_type = heard.profile, heard.adapter, heard.parsed, heard.body, heard.content_type
        identity, given = heard.identity, heard.delivery or delivery
        lease = lease_policy(profile, adapter)
        holder = profile.name if adapter.name == profile.adapter else f"{profile.name}{BY}{adapter.name}"

        digest = self._ledger.vault.digest(body)

        def decide(work: Work) -> Receipt:
            delivery = given or work.new_id()
            if given:
                known = work.load(Delivery, delivery)
                if known.exists:
                    return _same_again(work, known, body, identity)
            judgement = Judgement.for_source(work, profile.name, lease, holder)
            if judgement.profile != profile:
                raise ProfileChanged
            arrived = DeliveryReceived(
                source=profile.name, adapter=adapter.name, received_at=work.now, length=len(body), identity=identity,
                body=_keep(work, digest, body), content_type=content_type, lost=parsed.lost,
            )
            work.journal.correlation_id = delivery
            # The delivery comes first in the log, since it causes the rest; what was decided is filled in before it is stored.
            fact = work.journal.add(delivery, 1, arrived)
            work.journal.cause = fact.reference
            said = adapter.received(parsed, profile, work.now) if adapter.lease_end_resolves else parsed
            monitoring_events = tuple(judgement.judge(observation) for observation in said.observations)
            fact.event = DeliveryReceived(
                source=arrived.source, adapter=arrived.adapter, received_at=arrived.received_at, length=arrived.length,
                identity=identity, body=arrived.body, content_type=content_type, lost=parsed.lost,
                monitoring_events=monitoring_events,
            )
            return Receipt(delivery, monitoring_events, work.stamp())

        keys = {observation.dedup_key for observation in parsed.observations}
        streams: dict[type[Aggregate], list[UUID]] = {Alert: [alert_id(profile.space, key) for key in keys if key is not None]}
        if given:
            streams[Delivery] = [given]
        return Unit(decide, actor=f"source:{profile.name}", expected=Expected(streams, (digest,)))

    async def reject(
        self,
        source: str,
        body: bytes,
        error: MalformedDelivery,
        *,
        content_type: str = "",
        adapter: str = "",
        length: int | None = None,
    ) -> UUID:
        """Keep a delivery that cannot be read, with the reason; its id. Arguments as of `rejection`."""
        unit = self.rejection(source, body, error, content_type=content_type, adapter=adapter, length=length)
        return await self._ledger.commit(unit)

    def rejection(
        self,
        source: str,
        body: bytes,
        error: MalformedDelivery,
        *,
        content_type: str = "",
        adapter: str = "",
        length: int | None = None,
        delivery: UUID | None = None,
    ) -> Unit[UUID]:
        """What keeps a delivery that cannot be read, with the reason; it gives the delivery's id.

        Args:
            length: of the whole body where `body` is only its beginning.
            delivery: the id that it was given when it was accepted.
        """
        truncated = length is not None and length > len(body)

        def decide(work: Work) -> UUID:
            rejected = work.new_id() if delivery is None or work.exists(delivery) else delivery
            work.journal.correlation_id = rejected
            day = work.now.date().isoformat()
            kept = None
            if body and work.store.rejected_bytes(source, day) + len(body) <= REJECTED_BYTES_A_DAY:
                kept = _keep(work, work.vault.digest(body), body)
                work.after.append(lambda store: store.add_rejected_bytes(source, day, len(body)))
            event = DeliveryRejected(
                source=source, adapter=adapter, received_at=work.now, length=len(body) if length is None else length,
                path=error.path, reason=error.expected, status=error.status, body=kept, content_type=content_type,
                truncated=truncated,
            )
            work.journal.add(rejected, 1, event)
            return rejected

        return Unit(decide, actor=f"source:{source}")

    def body(self, digest: str) -> bytes | None:
        """The exact bytes of a kept body; None where they were not kept or their key was destroyed."""
        key = bytes.fromhex(digest)
        found = self._ledger.store.body(key)
        if found is None:
            return None
        packed = self._ledger.vault.unseal(found.key, _context(key), found.sealed)
        return None if packed is None else zlib.decompress(packed)


def lease_policy(profile: SourceProfile, adapter: Adapter) -> LeasePolicy:
    """How long the source's word holds: by its own repeat interval, else by its format's."""
    return LeasePolicy(
        repeat_seconds=profile.repeat_interval_seconds or adapter.repeat_interval_seconds, explicit_seconds=adapter.lease_seconds
    )


def _same_again(work: Work, known: Delivery, body: bytes, identity: str | None) -> Receipt:
    """The sender delivers again what it delivered before: the same answer, and nothing new is recorded."""
    if known.received is None:
        raise InvalidInput("identity", "an identity that was not used before")
    if identity and identity.startswith(IDEMPOTENCY_KEY) and known.received.body != work.vault.digest(body).hex():
        raise InvalidInput("Idempotency-Key", "a key that was not used for another body")
    return Receipt(known.id, known.received.monitoring_events, work.stamp(), again=True)


def _context(digest: bytes) -> bytes:
    return b"body:" + digest


def _keep(work: Work, digest: bytes, body: bytes) -> str:
    """Keep the exact bytes, each distinct content once, sealed under a key of its own; the keyed digest that names them."""
    if not work.has_body(digest):
        key, sealed = work.vault.seal_apart(_context(digest), zlib.compress(body, 1))
        kept = KeptBody(digest, len(body), key, sealed, micros(work.now))
        work.keep_body(kept)
    return digest.hex()
