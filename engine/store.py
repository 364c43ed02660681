"""What a database must offer to the ledger, and the row that they exchange. `engine/sqlite_store.py` is one; others follow.

One writer at a time: between `begin` and `commit` or `rollback` the append lock is held. Readers see committed rows only.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, NamedTuple, Protocol

# Of the tables, whatever database they are on; kept in the store, so that an older Tocsin leaves it alone.
SCHEMA_VERSION: Final = "2"


class AlreadyStored(Exception):
    """A row of that key is there; raised out of the open transaction, which is then only fit to be rolled back."""


class Row(NamedTuple):
    """One row of the log, as stored. `recorded_at` in microseconds since 1970."""

    position: int
    stream: bytes
    version: int
    type: str
    state: bytes
    recorded_at: int
    actor: str
    correlation: bytes
    cause: str | None


class Head(NamedTuple):
    """The end of the log: position 0 and recorded_at 0 where it is empty."""

    position: int
    recorded_at: int


class KeptBody(NamedTuple):
    """The exact bytes of a delivery, packed and sealed under `key` (an id in the vault)."""

    digest: bytes
    length: int
    key: bytes
    sealed: bytes
    recorded_at: int


class DueTimer(NamedTuple):
    """One row of the index of due times. `due_at` in microseconds since 1970."""

    timer: bytes
    owner: bytes
    purpose: str
    due_at: int


class Answer(NamedTuple):
    """A remembered answer of a command: what it was asked (digest) and what was answered (sealed body)."""

    request: bytes
    status: int
    headers: str
    sealed: bytes


class Credential(NamedTuple):
    """Who a token or a session stands for."""

    principal: bytes
    role: str
    source: str | None
    expires_at: int | None
    csrf: str | None


class Account(NamedTuple):
    """What sign-in needs of a person's account."""

    person: bytes
    login: str
    password: str | None
    role: str


class Lease(NamedTuple):
    """Who does what only one process of a store may do.

    Attributes:
        holder: the process (`engine/lease.py`).
        token: grows whenever the holder changes, so that a former holder's is known by it.
        until: microseconds since 1970, by the ledger's time.
    """

    holder: str
    token: int
    until: int


class Reader(Protocol):
    """Committed state, from any thread.

    Attributes:
        NEAR: its questions are answered out of a file of this machine, so the event loop's thread may ask them too.
    """

    NEAR: ClassVar[bool]

    def head(self) -> Head: ...

    def log(self, after: int, limit: int, *, upto: int | None = None, types: Sequence[str] = ()) -> list[Row]:
        """Rows with position > after, in log order, at most `limit`."""
        ...

    def stream(self, stream: bytes, *, after: int = 0, upto: int | None = None, newest_first: bool = False, limit: int | None = None) -> list[Row]:
        """Rows of one stream with version > after (and <= upto)."""
        ...

    def position_at(self, instant: int) -> int:
        """The last position with recorded_at <= instant (µs); 0 where there is none."""
        ...

    def at(self, position: int) -> Row | None: ...

    def body(self, digest: bytes) -> KeptBody | None: ...

    def due_timers(self, now: int, limit: int) -> list[DueTimer]: ...

    def next_due(self) -> int | None: ...

    def credential(self, digest: bytes) -> Credential | None: ...

    def account(self, handle: bytes) -> Account | None: ...

    def account_of(self, person: bytes) -> Account | None: ...

    def accounts(self) -> list[Account]: ...

    def person(self, handle: bytes) -> bytes | None: ...

    def meta(self, key: str) -> str | None: ...

    def cursor(self, name: str) -> int | None:
        """How far something outside was read or told; None: not begun."""
        ...


class Store(Reader, Protocol):
    """Adds the one writer, used by the ledger's committer only.

    What is written may be told to the database later, with the next question or the commit; so a fault of it may be raised there.
    """

    def watch(self, told: Callable[[int], None]) -> None:
        """From now on, say the position of each commit, whichever process's, where this database can; on another thread.

        It is a convenience: whoever relies on it looks by itself besides.
        """
        ...

    def begin(self) -> tuple[Head, Sequence[tuple[int, bytes]] | None]:
        """Take the append lock. Gives the head, and what others wrote since our last commit: positions and their streams (None: nobody did)."""
        ...

    def pending_at(self, positions: Sequence[int]) -> list[Row]:
        """The rows at these positions, in log order, as the open transaction sees them."""
        ...

    def insert(self, rows: Sequence[Row]) -> None: ...

    def count(self, kind: str) -> int:
        """The last number given to a record of this kind."""
        ...

    def set_count(self, kind: str, last: int) -> None: ...

    def pending_stream(self, stream: bytes, *, after: int = 0, limit: int | None = None) -> list[Row]:
        """The stream as the open transaction sees it: rows with version > after, at most `limit`."""
        ...

    def snapshot(self, stream: bytes) -> tuple[int, bytes] | None:
        """(version, state) of a stream's snapshot."""
        ...

    def keep_snapshot(self, stream: bytes, version: int, state: bytes) -> None: ...

    def pending_streams(self, streams: Sequence[bytes], limit: int) -> list[Row]:
        """Several streams as the open transaction sees them: one after another, each by version; at most `limit` rows."""
        ...

    def keep_bodies(self, bodies: Sequence[KeptBody]) -> None: ...

    def known_bodies(self, digests: Sequence[bytes]) -> set[bytes]:
        """Those of them that are kept, as the open transaction sees it."""
        ...

    def rejected_bytes(self, source: str, day: str) -> int: ...

    def add_rejected_bytes(self, source: str, day: str, length: int) -> None: ...

    def set_timers(self, timers: Sequence[DueTimer]) -> None: ...

    def clear_timers(self, timers: Sequence[bytes]) -> None: ...

    def timer(self, timer: bytes) -> DueTimer | None: ...

    def answer(self, principal: str, route: str, key: str) -> Answer | None: ...

    def remember_answer(self, principal: str, route: str, key: str, answer: Answer, recorded_at: int) -> None: ...

    def forget_answers(self, before: int) -> None: ...

    def set_handle(self, handle: bytes, person: bytes) -> None: ...

    def drop_handle(self, handle: bytes) -> None: ...

    def pending_person(self, handle: bytes) -> bytes | None: ...

    def set_account(self, account: Account) -> None: ...

    def set_credential(self, digest: bytes, credential: Credential) -> None: ...

    def drop_credential(self, digest: bytes) -> None: ...

    def drop_expired(self, now: int) -> None:
        """Forget sessions that ended by themselves before `now` (µs)."""
        ...

    def drop_sessions(self) -> None:
        """End every session of a person; tokens stay."""
        ...

    def set_meta(self, key: str, value: str) -> None: ...

    def drop_meta(self, key: str) -> None: ...

    def try_room(self, size: int) -> None:
        """Write so many bytes in the open transaction as events and bodies are written, and take them back.

        Raises:
            StoreUnavailable: there is no room for them.
        """
        ...

    def set_cursor(self, name: str, position: int) -> None:
        """How far something outside was read or told; in the same commit as what it led to."""
        ...

    def pending_cursor(self, name: str) -> int | None:
        """`cursor`, as the open transaction sees it."""
        ...

    def lease(self, name: str) -> Lease | None:
        """Who held it last, as the open transaction sees it; nobody else can take it before this transaction ends."""
        ...

    def set_lease(self, name: str, lease: Lease) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...
