"""What PostgreSQL adds to the rules of a store: roles, migration, a server that goes away, and several processes on one log."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from engine import postgres_store
from engine.clock import SimulatedClock
from engine.correlation import Correlation
from engine.errors import StoreUnavailable
from engine.event import Fact
from engine.ledger import Ledger
from engine.person import Person
from engine.postgres_keyring import PostgresKeyring
from engine.postgres_schema import NotMigrated, migrate
from engine.postgres_store import APPEND_LOCK, PostgresStore
from engine.store import SCHEMA_VERSION
from engine.vault import Vault
from engine.work import Unit, Work
from tests.services.postgres import Postgres, pooled, programs, running
from tests.soak import SOAK

PATIENCE = 60

pytestmark = [
    # The suite's run on PostgreSQL need not repeat what is about PostgreSQL anyway.
    pytest.mark.files,
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running() as found:
        yield found


@contextmanager
def opened(address: str, clock: SimulatedClock, *, pooled: bool = False) -> Iterator[Ledger]:
    store, vault = PostgresStore(address, pooled=pooled), Vault(PostgresKeyring(address, pooled=pooled), b"k" * 32)
    ledger = Ledger(store, vault, clock)
    yield ledger
    ledger.close()
    store.close()
    vault.close()


def opens(work: Work) -> str:
    """A decision that records one fact and takes one number."""
    number = work.number("INC")
    work.load(Correlation, work.new_id()).open_incident(
        rule="r", rule_version=1, field="service", value="shop", incident=uuid4(), alert=uuid4()
    )
    return number


def registers(person: UUID, name: str = "Nora") -> Unit[Fact]:
    return Unit(lambda work: work.load(Person, person).register(name=name, email=None), actor="tocsin")


# -- tables and roles --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE ledger.events SET actor = 'x'", "DELETE FROM ledger.events", "TRUNCATE ledger.events"])
@pytest.mark.parametrize("user", ["app", "owner"])
def test_no_role_of_ours_changes_or_removes_an_event(server: Postgres, clock: SimulatedClock, statement: str, user: str) -> None:
    address = server.database()
    with opened(address, clock) as ledger:
        ledger.run(Unit(opens, actor="tocsin"))
    with psycopg.connect(address.replace("//app@", f"//{user}@")) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_without_its_tables_a_database_is_no_store(server: Postgres) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE DATABASE bare OWNER owner")
    with pytest.raises(NotMigrated, match=f"schema none, this Tocsin needs {SCHEMA_VERSION}: run tocsin migrate"):
        PostgresStore(server.address("bare"))
    with pytest.raises(NotMigrated, match="cannot be migrated"):
        migrate(server.address("bare"))  # the application's role may not


def test_migrations_at_once_do_it_once(server: Postgres) -> None:
    with server.superuser() as connection:
        connection.execute("CREATE DATABASE raced OWNER owner")
    address = server.address("raced", user="owner")
    with ThreadPoolExecutor(6) as pool:
        before = sorted(pool.map(lambda _: migrate(address, role="app"), range(6)))
    assert before == ["", *[SCHEMA_VERSION] * 5]
    PostgresStore(server.address("raced")).close()


def test_tables_of_a_newer_tocsin_are_left_alone(server: Postgres) -> None:
    address = server.database()
    owner = address.replace("//app@", "//owner@")
    with psycopg.connect(owner) as connection:
        connection.execute("UPDATE ledger.meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(NotMigrated, match="newer"):
        migrate(owner)
    with pytest.raises(NotMigrated, match="at schema 99"):
        PostgresStore(address)


# -- commits -----------------------------------------------------------------------------------------------------------


class _Cut:
    """A connection that is lost at its next COMMIT, before the server has heard it or after it has done it."""

    def __init__(self, real: "psycopg.Connection[Any]", when: str) -> None:
        self._real, self._when = real, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, sql: str, *values: Any, **more: Any) -> Any:
        if not sql.endswith("COMMIT"):
            return self._real.execute(sql, *values, **more)
        if self._when == "after":
            self._real.execute(sql)
        self._real.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_looked_up(server: Postgres, clock: SimulatedClock, when: str) -> None:
    nora = uuid4()
    with opened(server.database(), clock) as ledger:
        store = ledger.store
        assert isinstance(store, PostgresStore)
        store._connection = _Cut(store._connection, when)  # type: ignore[assignment,arg-type]  # stands in for one
        if when == "after":
            assert ledger.run(registers(nora)).version == 1
        else:
            with pytest.raises(StoreUnavailable, match="closed the connection"):
                ledger.run(registers(nora))
            assert ledger.run(registers(nora)).version == 1
        assert [fact.version for fact in ledger.stream(nora)] == [1]


def test_after_a_fault_in_the_transaction_nothing_of_the_batch_is_acknowledged(server: Postgres, clock: SimulatedClock) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with ROLLBACK, and calls that no error."""
    busy, go = threading.Event(), threading.Event()

    def hold(_: Work) -> None:
        busy.set()
        go.wait(PATIENCE)

    def breaks(work: Work) -> None:
        store = work.store
        assert isinstance(store, PostgresStore)
        store._execute("SELECT 1 / 0", ())

    with opened(server.database(), clock) as ledger:
        held = ledger.submit(Unit(hold, actor="tocsin"))
        assert busy.wait(PATIENCE)
        futures: list[Future[Any]] = [ledger.submit(Unit(decide, actor="tocsin")) for decide in (opens, breaks, opens)]
        go.set()
        assert {type(future.exception(PATIENCE)) for future in (*futures, held)} == {StoreUnavailable}
        assert ledger.store.head().position == 0
        assert ledger.run(Unit(opens, actor="tocsin")) == "INC-1"


def test_a_server_that_was_killed_loses_nothing_acknowledged_and_is_found_again(clock: SimulatedClock) -> None:
    with running() as server, opened(server.database(), clock) as ledger:
        numbers = [ledger.run(Unit(opens, actor="tocsin")) for _ in range(20)]
        server.crash()
        with pytest.raises(StoreUnavailable):
            ledger.run(Unit(opens, actor="tocsin"))
        with pytest.raises(StoreUnavailable):
            ledger.store.head()
        server.start()
        assert ledger.store.head().position == 20
        assert ledger.run(Unit(opens, actor="tocsin")) == "INC-21"
        assert numbers == [f"INC-{number}" for number in range(1, 21)]


def test_who_holds_the_append_lock_for_ever_does_not_hold_the_others_for_ever(
    server: Postgres, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_BEGIN", postgres_store._BEGIN.replace("'15s'", "'200ms'"))
    address = server.database()
    with opened(address, clock) as ledger, psycopg.connect(address) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            ledger.run(Unit(opens, actor="tocsin"))
        other.rollback()
        assert ledger.run(Unit(opens, actor="tocsin")) == "INC-1"


# -- several processes -------------------------------------------------------------------------------------------------


@pytest.mark.law
def test_a_reader_that_follows_six_writers_misses_nothing(server: Postgres, clock: SimulatedClock) -> None:
    """Positions become visible in their order: who has seen one has seen all before it."""
    address, writers, each = server.database(), 6, 5_000 if SOAK else 200
    seen: list[int] = []
    with ExitStack() as stack:
        ledgers = [stack.enter_context(opened(address, clock)) for _ in range(writers)]

        def write(ledger: Ledger) -> list[str]:
            return [ledger.run(Unit(opens, actor="tocsin")) for _ in range(each)]

        def follow() -> None:
            store = PostgresStore(address)
            while len(seen) < writers * each:
                seen.extend(row.position for row in store.log(seen[-1] if seen else 0, 500))
            store.close()

        reader = threading.Thread(target=follow)
        reader.start()
        with ThreadPoolExecutor(writers) as pool:
            numbers = [number for mine in pool.map(write, ledgers) for number in mine]
        reader.join(PATIENCE)
    assert seen == list(range(1, writers * each + 1))
    assert sorted(numbers, key=lambda number: int(number[4:])) == [f"INC-{number}" for number in range(1, writers * each + 1)]


def test_keys_are_shared_and_the_first_one_stays(server: Postgres) -> None:
    address = server.database()
    one, other = PostgresKeyring(address), PostgresKeyring(address)
    one.add([(b"nora", b"first"), (b"luis", b"key")])
    other.add([(b"nora", b"second")])
    assert (other.get(b"nora"), one.get(b"luis"), one.get(b"nobody")) == (b"first", b"key", None)
    other.remove(b"nora")
    assert one.get(b"nora") is None
    one.close()
    other.close()


def test_a_keyring_finds_its_server_again(tmp_path: Path) -> None:
    with running() as server:
        keyring = PostgresKeyring(server.database())
        keyring.add([(b"nora", b"key")])
        server.crash()
        with pytest.raises(StoreUnavailable):
            keyring.get(b"nora")
        server.start()
        assert keyring.get(b"nora") == b"key"
        keyring.close()


def test_a_pooler_in_transaction_mode_may_stand_between(server: Postgres, clock: SimulatedClock) -> None:
    """Sessions are handed from one to the other after each transaction: nothing may be kept in them."""
    with pooled(server, server.database()) as address, opened(address, clock, pooled=True) as one, opened(address, clock, pooled=True) as other:

        def write(ledger: Ledger) -> list[str]:
            return [ledger.run(Unit(opens, actor="tocsin")) for _ in range(50)]

        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(lambda: [one.store.head().position for _ in range(20)]) for _ in range(4)]
            numbers = [number for mine in pool.map(write, (one, other)) for number in mine]
            assert all(positions.result(PATIENCE) == sorted(positions.result(PATIENCE)) for positions in asked)
        assert len(set(numbers)) == 100
        assert [row.position for row in one.store.log(0, 1_000)] == list(range(1, 101))
