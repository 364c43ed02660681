"""The one way in which every write of the interface is run: idempotency key, decision and answer in one commit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from fastapi import Request
from starlette.responses import Response

from api.access import Principal
from api.door import house_of
from engine.aggregate import Aggregate
from engine.clock import from_micros, micros, rfc3339
from engine.errors import InvalidInput, NotFound, StaleVersion
from engine.store import Answer, Store
from engine.ticket import Ticket
from engine.vault import Vault
from engine.work import Unit, Work

LONGEST_KEY: Final = 255
KEPT_SECONDS: Final = 48 * 3600


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was, or will be, sent."""

    status: int
    body: bytes
    headers: dict[str, str]

    def response(self) -> Response:
        return Response(self.body, self.status, media_type="application/json", headers=self.headers)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A sender's key for one write: principal, route and key name it, `request` is the digest of what was asked."""

    principal: str
    route: str
    key: str
    request: bytes

    CONTEXT: ClassVar[bytes] = b"answers"
    FIELD: ClassVar[str] = "Idempotency-Key"

    @classmethod
    def of(cls, request: Request, principal: Principal, body: bytes, vault: Vault) -> "IdempotencyKey | None":
        """The key of a request; None where it has none.

        Raises:
            InvalidInput: empty or too long.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        if not 0 < len(key) <= LONGEST_KEY:
            raise InvalidInput(cls.FIELD, f"1 to {LONGEST_KEY} characters")
        asked = request.headers.get("if-match", "").encode() + b"\n" + body
        return cls(principal.actor, f"{request.method} {request.url.path}", key, vault.digest(asked))

    def remembered(self, work: Work) -> Stored | None:
        """The answer of the first time.

        Raises:
            InvalidInput: the key was used for something else.
        """
        found = work.store.answer(self.principal, self.route, self.key)
        if found is None:
            return None
        if found.request != self.request:
            raise InvalidInput(self.FIELD, "a key that was not used for another request")
        body = work.vault.unseal(self._vault_key(), self.CONTEXT, found.sealed)
        if body is None:
            raise NotFound("remembered answer", self.key)
        return Stored(found.status, body, msgspec.json.decode(found.headers, type=dict[str, str]))

    def remember(self, work: Work, stored: Stored) -> None:
        """Keep the answer, in the commit of what it answers."""
        sealed = work.vault.seal(self._vault_key(), self.CONTEXT, stored.body)
        answer = Answer(self.request, stored.status, msgspec.json.encode(stored.headers).decode(), sealed)
        recorded_at = micros(work.now)

        def keep(store: Store) -> None:
            store.remember_answer(self.principal, self.route, self.key, answer, recorded_at)
            store.forget_answers(recorded_at - KEPT_SECONDS * 1_000_000)

        work.after.append(keep)

    def _vault_key(self) -> bytes:
        return b"store:answers"


async def execute(
    request: Request,
    principal: Principal,
    decide: Callable[[Work], tuple[int, Aggregate, dict[str, Any]]],
    *,
    asked: bytes | None = None,
) -> Stored:
    """Run one write: `decide` gives status, the record that changed and its JSON; once per idempotency key.

    Args:
        asked: what was asked, where the body was read already.
    """
    house = house_of(request)
    key = IdempotencyKey.of(request, principal, await request.body() if asked is None else asked, house.vault)

    def run(work: Work) -> Stored:
        if key is not None and (known := key.remembered(work)) is not None:
            return known
        status, record, shown = decide(work)
        position = work.stamp()
        headers = {"ETag": f'"{record.version}"', "Tocsin-Position": str(position)}
        if status == 201:
            headers["Location"] = f"{request.url.path.rstrip('/')}/{quote(shown.get('number') or shown.get('id') or shown['name'], safe='')}"
        stored = Stored(status, msgspec.json.encode(shown), headers)
        if key is not None:
            key.remember(work, stored)
        return stored

    return await house.ledger.commit(Unit(run, actor=principal.actor))


def expect_version(request: Request, work: Work, ticket: Ticket) -> None:
    """Check `If-Match` against the ticket's version.

    Raises:
        InvalidInput: not an ETag of ours.
        StaleVersion: the sender saw an older version.
    """
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return
    text = header.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("If-Match", f'an ETag as it was sent, such as "{ticket.version}"')
    check_version(work, ticket, int(text))


def check_version(work: Work, ticket: Ticket, seen: int) -> None:
    """Raises: StaleVersion: the writer saw an older version; says what changed since."""
    if seen == ticket.version:
        return
    rows = work.store.pending_stream(ticket.id.bytes)
    changes = [(row.type, rfc3339(from_micros(row.recorded_at))) for row in rows if row.version > seen]
    raise StaleVersion(ticket.number, seen=seen, current=ticket.version, changes=changes)
