"""Who may do what: tokens of programs, sign-in and sessions of people, roles. Secrets are stored as digests only.

The role matrix is in the routes: each states the roles that it allows (`READERS`, `WORKERS`, …), and a test walks all of
them. Sign-ins, refusals, tokens and role changes are events.
"""

import asyncio
import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from engine.clock import micros
from engine.errors import Conflict, InvalidInput, NotAllowed, NotFound, Phrase, StoreUnavailable
from engine.identity import source_id, stream_id
from engine.ledger import Ledger
from engine.person import (
    AccessDay,
    AccessRefused,
    AccountOpened,
    PasswordChanged,
    Person,
    Role,
    RoleChanged,
    SignedIn,
    SignedOut,
    Token,
    TokenCreated,
    TokenRevoked,
)
from engine.source import Source
from engine.store import Account, Credential, Store
from engine.ticket import plain_name, required
from engine.work import Unit, Work

READERS: Final = frozenset({Role.AGENT, Role.LEAD, Role.AUDITOR, Role.ADMIN})
WORKERS: Final = frozenset({Role.AGENT, Role.LEAD, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})
MANAGERS: Final = frozenset({Role.LEAD, Role.ADMIN})
AUDITORS: Final = frozenset({Role.AUDITOR, Role.ADMIN})
SENDERS: Final = frozenset({Role.MONITOR, Role.ADMIN})
PEOPLE: Final = frozenset({Role.REQUESTER, *READERS})

MARK: Final = "tcs_"  # so that a leaked one is recognised
SESSION_SECONDS: Final = 12 * 3600
TRIES_A_MINUTE: Final = 10
# How long an answer of a database elsewhere is believed: a token or session that another process ends is void after this.
BELIEVED_SECONDS: Final = 1.0
MOST_BELIEVED: Final = 5_000
# While the database cannot be asked, whoever was known may go on reading for so long; and whether it is back, one asks at a time.
READS_ON_SECONDS: Final = 300.0
ASKS_AGAIN_SECONDS: Final = 0.5
SHORTEST_PASSWORD: Final = 10
REFUSALS_KEPT_A_MINUTE: Final = 120


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        person: of a signed-in person; None for a token.
        token: of a program; None for a person.
        source: the one source of a monitor's token.
        csrf: what forms of this session must carry.
    """

    role: Role
    name: str
    person: UUID | None = None
    token: UUID | None = None
    source: str | None = None
    csrf: str = ""

    @property
    def actor(self) -> str:
        """How events name it."""
        return f"user:{self.person}" if self.person else f"token:{self.token}"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A session that began: its secret goes into a cookie and nowhere else."""

    secret: str
    csrf: str
    person: UUID
    role: Role


class TooManyTries(NotAllowed):
    """Too many sign-ins within a minute, for one account or from one address."""


class Throttle:
    """At most so many tries a minute per key; bounded memory."""

    def __init__(self, tries: int = TRIES_A_MINUTE) -> None:
        self._tries = tries
        self._seen: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, key: str) -> bool:
        """Count one try; False where there were too many within the last minute."""
        now = time.monotonic()
        with self._lock:
            times = [seen for seen in self._seen.get(key, ()) if now - seen < 60]
            allowed = len(times) < self._tries
            if allowed:
                times.append(now)
            self._seen[key] = times
            self._seen.move_to_end(key)
            if len(self._seen) > 10_000:
                self._seen.popitem(last=False)
            return allowed


class Directory:
    """Accounts, tokens and sessions of one store."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._hasher = PasswordHasher()
        # Verified against when there is no such account, so that the answer takes as long.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))
        self._hashing = asyncio.Semaphore(2)
        self._by_account, self._by_address = Throttle(), Throttle(5 * TRIES_A_MINUTE)
        self._refusals = Throttle(REFUSALS_KEPT_A_MINUTE)
        self._believed: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._away = self._asking = False
        self._asks_again = 0.0

    # -- tokens ----------------------------------------------------------------------------------------------------

    def create_token(self, *, role: str, source: str | None = None, value: str | None = None, name: str = "", actor: str = "tocsin") -> str:
        """Make a credential for a program; the token, which is kept nowhere.

        Args:
            value: register this given key (a PagerDuty routing key) instead of a new one.

        Raises:
            InvalidInput: unknown role, a monitor without a source, a value that is too short.
            NotFound: no such source.
            Conflict: the value is registered already.
        """
        chosen = _role(role)
        if chosen is Role.MONITOR and not source:
            raise InvalidInput("source", "the source that this monitor reports for")
        if chosen is not Role.MONITOR and source:
            raise InvalidInput("source", "no source: only a monitor's token is bound to one")
        token = MARK + secrets.token_urlsafe(32) if value is None else value.strip()
        if len(token) < 8:
            raise InvalidInput("value", "at least 8 characters")
        digest = self._digest(token)
        def decide(work: Work) -> None:
            if source and not work.load(Source, source_id(source)).exists:
                raise NotFound("source", source)
            if work.store.credential(digest) is not None:
                raise Conflict("this value is registered already")
            record = work.fresh(Token, work.new_id())
            record.record(TokenCreated(role=chosen, source=source, name=name))
            credential = Credential(record.id.bytes, chosen.value, source, None, None)
            work.after.append(lambda store: store.set_credential(digest, credential))

        self._ledger.run(Unit(decide, actor=actor))
        return token

    def revoke_token(self, token: str, *, actor: str = "tocsin") -> None:
        """Make a token void at once.

        Raises:
            NotFound: it is none of ours.
        """
        digest = self._digest(token)
        credential = self._ledger.store.credential(digest)
        if credential is None:
            raise NotFound("token", "of that value")

        def decide(work: Work) -> None:
            work.load(Token, UUID(bytes=credential.principal)).record(TokenRevoked())
            work.after.append(lambda store: store.drop_credential(digest))

        self._ledger.run(Unit(decide, actor=actor))
        self._believed.clear()

    async def whose_token(self, token: str, *, reads: bool = False) -> Principal | None:
        """Whom a token stands for; None: it is none of ours.

        Args:
            reads: it is wanted for reading only. Then an answer of the last minutes will do where the database cannot be asked.
        """
        return await self._whose(b"token:" + token.encode(), lambda: self._token(token), reads)

    async def whose_session(self, secret: str, now: datetime, *, reads: bool = False) -> Principal | None:
        """Whose session it is; the role is the account's of this moment. `reads`: as `whose_token`."""
        return await self._whose(b"session:" + secret.encode(), lambda: self._session(secret, now), reads)

    async def _whose(self, secret: bytes, ask: Callable[[], Principal | None], reads: bool) -> Principal | None:
        """A database elsewhere is not asked on the event loop's thread, nor more than once a second for the same secret."""
        if self._ledger.store.NEAR:
            return ask()
        key = hashlib.sha256(secret).digest()
        since, principal = self._believed.get(key, (0.0, None))
        now = time.monotonic()
        if principal is not None and now - since < BELIEVED_SECONDS:
            return principal
        known = principal if reads and now - since < READS_ON_SECONDS else None
        first = self._away and not self._asking and now >= self._asks_again
        try:
            if first:
                self._asking = True
            principal = await self._asked(ask, first=first)
        except StoreUnavailable:
            if known is None:
                raise
            return known
        finally:
            if first:
                self._asking = False
        self._away = False
        self._believed.pop(key, None)
        if principal is not None:
            self._believed[key] = now, principal
            while len(self._believed) > MOST_BELIEVED:
                self._believed.popitem(last=False)
        return principal

    async def _asked(self, ask: Callable[[], Principal | None], *, first: bool) -> Principal | None:
        """To ask a database that is away takes seconds, and threads are few: only the first one does.

        Raises:
            StoreUnavailable: it is away.
        """

        def unless_away() -> Principal | None:
            if self._away and not first:
                raise StoreUnavailable("the database is away")
            try:
                return ask()
            except StoreUnavailable:
                self._away, self._asks_again = True, time.monotonic() + ASKS_AGAIN_SECONDS
                raise

        return unless_away() if self._away and not first else await asyncio.to_thread(unless_away)

    def _token(self, token: str) -> Principal | None:
        credential = self._ledger.store.credential(self._digest(token))
        if credential is None or credential.csrf is not None:
            return None
        role = Role(credential.role)
        return Principal(role=role, name=credential.source or role.value, token=UUID(bytes=credential.principal), source=credential.source)

    # -- people ----------------------------------------------------------------------------------------------------

    def open_account(
        self, *, login: str, name: str, role: str, password: str, email: str | None = None, team: str | None = None, actor: str = "tocsin"
    ) -> UUID:
        """Register a person who may sign in.

        Raises:
            InvalidInput: unknown role, no name, a password that is too short.
            Conflict: the login or the address is taken.
        """
        chosen = _role(role)
        if chosen is Role.MONITOR:
            raise InvalidInput("role", "a role of people: requester, agent, lead, auditor or admin")
        login = required("login", login, "a short name to sign in with").lower()
        name = required("name", name, "the person's name")
        if len(password) < SHORTEST_PASSWORD:
            raise InvalidInput("password", Phrase("at least %s characters", SHORTEST_PASSWORD))
        hashed = self._hasher.hash(password)
        person = uuid4()
        handles = [self.handle(login), *([self.handle(email)] if email else [])]

        def keep(store: Store) -> None:
            for handle in handles:
                store.set_handle(handle, person.bytes)
            store.set_account(Account(person.bytes, login, hashed, chosen.value))

        def decide(work: Work) -> UUID:
            for handle in handles:
                if work.store.pending_person(handle) is not None:
                    raise Conflict(Phrase("somebody is known as %s or by that address already", login))
            record = work.fresh(Person, person)
            record.register(name=name, email=email, team=team)
            record.record(AccountOpened(role=chosen))
            work.after.append(keep)
            return person

        return self._ledger.run(Unit(decide, actor=actor))

    def put_person(
        self, work: Work, values: Mapping[str, str | None], taken: dict[bytes, UUID | None], *, password: str | None = None
    ) -> tuple[UUID, str]:
        """Register or change the person of a login, within a unit of work.

        Args:
            values: `login`, and what is said of `name`, `role`, `email`, `team`; what is left out stays as it is.
            taken: handles that this unit gave to somebody or took away (None); kept by this.
            password: of a new account, hashed; without it nobody signs in until one is set.

        Returns:
            Who it is, and `new`, `changed` or `as it is`.

        Raises:
            InvalidInput: names the member: no login, an address that somebody else has, no name or role of a new person.
        """
        login = plain_name("login", values.get("login"), "a short name to sign in with").lower()
        address = mail_address(values["email"]) if "email" in values else None
        by_login, reached = self._holder(work, taken, self.handle(login)), self.handle(address) if address else None
        holder = self._holder(work, taken, reached) if reached else None
        found = by_login or (holder if holder and work.load(Person, holder).role is None else None)
        record = work.load(Person, found) if found else work.fresh(Person, work.new_id())
        if holder is not None and holder != record.id:
            raise InvalidInput("email", "an address that nobody else has")
        account = work.store.account_of(record.id.bytes) if record.role else None
        if record.role is not None and (account is None or account.login != login):
            raise InvalidInput("login", "a login that is nobody else's address")
        name = plain_name("name", values.get("name") or record.name, "the person's name")
        before, role_before = record.email, record.role
        role = _role(values.get("role") or role_before or "")
        if role is Role.MONITOR:
            raise InvalidInput("role", "a role of people: requester, agent, lead, auditor or admin")
        team = _team(values["team"]) if "team" in values else record.team
        email = address if "email" in values else before
        known = record.exists
        facts = [record.change(name=name, email=email, team=team) if known else record.register(name=name, email=email, team=team)]
        if account is None:
            facts.append(record.record(AccountOpened(role=role)))
            if by_login is None:
                self._give(work, taken, self.handle(login), record.id)
        elif role is not role_before:
            facts.append(record.record(RoleChanged(role=role)))
        old = self.handle(before) if before and before != email else None
        if old not in (None, reached, self.handle(login)) and self._holder(work, taken, old) == record.id:
            self._give(work, taken, old, None)
        if reached is not None and self._holder(work, taken, reached) is None:
            self._give(work, taken, reached, record.id)
        kept = Account(record.id.bytes, login, account.password if account else password, role.value)
        if kept != account:
            work.after.append(lambda store: store.set_account(kept))
        if not any(facts):
            return record.id, "as it is"
        return record.id, "changed" if account is not None else "new"

    def _holder(self, work: Work, taken: Mapping[bytes, UUID | None], handle: bytes) -> UUID | None:
        if handle in taken:
            return taken[handle]
        found = work.store.pending_person(handle)
        return UUID(bytes=found) if found else None

    def _give(self, work: Work, taken: dict[bytes, UUID | None], handle: bytes, person: UUID | None) -> None:
        taken[handle] = person
        if person is None:
            work.after.append(lambda store: store.drop_handle(handle))
        else:
            work.after.append(lambda store: store.set_handle(handle, person.bytes))

    def change_person(self, login: str, *, actor: str = "tocsin", **values: str | None) -> str:
        """Change what is known of somebody with an account: `name`, `email`, `team`, `role`; what is left out stays.

        Raises:
            NotFound: no such account.
            InvalidInput: as `put_person`.
        """
        if self._ledger.store.account(self.handle(login)) is None:
            raise NotFound("account", login)
        return self._ledger.run(Unit(lambda work: self.put_person(work, {**values, "login": login}, {})[1], actor=actor))

    def hashed(self, password: str) -> str:
        """What is kept of a new password; 0.1 s of work.

        Raises:
            InvalidInput: it is too short.
        """
        if len(password) < SHORTEST_PASSWORD:
            raise InvalidInput("password", Phrase("at least %s characters", SHORTEST_PASSWORD))
        return self._hasher.hash(password)

    def change_password(self, login: str, password: str, *, actor: str = "tocsin") -> None:
        """Set a new password.

        Raises:
            NotFound: no such account.
            InvalidInput: it is too short.
        """
        if len(password) < SHORTEST_PASSWORD:
            raise InvalidInput("password", Phrase("at least %s characters", SHORTEST_PASSWORD))
        hashed = self._hasher.hash(password)
        self._change(login, PasswordChanged(), lambda account: account._replace(password=hashed), actor)

    def change_role(self, login: str, role: str, *, actor: str = "tocsin") -> None:
        """Give an account another role, in force at once.

        Raises:
            NotFound: no such account.
        """
        chosen = _role(role)
        self._change(login, RoleChanged(role=chosen), lambda account: account._replace(role=chosen.value), actor)

    def _change(self, login: str, event: PasswordChanged | RoleChanged, change: Callable[[Account], Account], actor: str) -> None:
        account = self._ledger.store.account(self.handle(login))
        if account is None:
            raise NotFound("account", login)

        def decide(work: Work) -> None:
            work.load(Person, UUID(bytes=account.person)).record(event)
            work.after.append(lambda store: store.set_account(change(account)))

        self._ledger.run(Unit(decide, actor=actor))
        self._believed.clear()

    async def sign_in(self, login: str, password: str, address: str) -> SignIn:
        """Begin a session.

        Raises:
            NotAllowed: wrong login or password (the answer and its time don't tell which), or too many tries.
        """
        login = login.strip().lower()
        if not self._by_account.allow(login) or not self._by_address.allow(address):
            await self.refuse("too_many_attempts", "sign-in")
            raise TooManyTries("too many tries; wait a minute")
        account = await asyncio.to_thread(self._ledger.store.account, self.handle(login))
        # 0.1 s of work: off the event loop, and not more than two at a time.
        async with self._hashing:
            right = await asyncio.to_thread(self._verify, account.password if account else None, password)
        if account is None or not right:
            await self.refuse("bad_credentials", "sign-in")
            raise NotAllowed("wrong name or password")
        secret, csrf, person = secrets.token_urlsafe(32), secrets.token_urlsafe(24), UUID(bytes=account.person)

        def decide(work: Work) -> None:
            work.load(Person, person).record(SignedIn(address=address, person=person))
            expires = micros(work.now + timedelta(seconds=SESSION_SECONDS))
            credential = Credential(person.bytes, account.role, None, expires, csrf)
            now = micros(work.now)
            work.after.append(lambda store: store.drop_expired(now))
            work.after.append(lambda store: store.set_credential(self._digest(secret), credential))

        await self._ledger.commit(Unit(decide, actor=f"user:{person}"))
        return SignIn(secret, csrf, person, Role(account.role))

    async def sign_out(self, secret: str, principal: Principal) -> None:
        """End a session, at once and everywhere."""
        assert principal.person is not None
        person, digest = principal.person, self._digest(secret)

        def decide(work: Work) -> None:
            work.load(Person, person).record(SignedOut())
            work.after.append(lambda store: store.drop_credential(digest))

        await self._ledger.commit(Unit(decide, actor=principal.actor))
        self._believed.clear()

    def _session(self, secret: str, now: datetime) -> Principal | None:
        credential = self._ledger.store.credential(self._digest(secret))
        if credential is None or credential.csrf is None or (credential.expires_at or 0) < micros(now):
            return None
        account = self._ledger.store.account_of(credential.principal)
        if account is None:
            return None
        return Principal(
            role=Role(account.role), name=account.login, person=UUID(bytes=account.person), csrf=credential.csrf
        )

    async def refuse(self, reason: str, route: str, principal: Principal | None = None) -> None:
        """Record that somebody was turned away; a flood of them is recorded in part."""
        if not self._refusals.allow("all"):
            return

        def decide(work: Work) -> None:
            day = work.load(AccessDay, stream_id("access", work.now.date().isoformat()))
            day.record(AccessRefused(reason=reason, route=route, at=work.now, principal=principal.actor if principal else None))

        await self._ledger.commit(Unit(decide, actor=principal.actor if principal else "tocsin"))

    def person_of(self, handle: str) -> UUID | None:
        """The person who is known by this login or address."""
        found = self._ledger.store.person(self.handle(handle))
        return UUID(bytes=found) if found else None

    def logins(self) -> dict[UUID, str]:
        """Person -> login, of everybody who may sign in."""
        return {UUID(bytes=account.person): account.login for account in self._ledger.store.accounts()}

    def handle(self, text: str) -> bytes:
        """A keyed digest of a login or an address, for looking its person up."""
        return self._ledger.vault.digest(b"handle:" + text.strip().lower().encode())

    def _digest(self, secret: str) -> bytes:
        return self._ledger.vault.digest(b"credential:" + secret.encode())

    def _verify(self, hashed: str | None, password: str) -> bool:
        try:
            self._hasher.verify(hashed or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
        return hashed is not None


def mail_address(text: str | None) -> str | None:
    """An address without outer blanks; None where there is none. Raises: InvalidInput."""
    text = (text or "").strip()
    if text and (len(text) > 254 or not text.isprintable() or " " in text or "@" not in text.strip("@")):
        raise InvalidInput("email", "an address such as nora@example.org")
    return text or None


def _team(text: str | None) -> str | None:
    return plain_name("team", text, "the name of a team") if text and text.strip() else None


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise InvalidInput("role", Phrase("one of %s", ', '.join(Role))) from None
