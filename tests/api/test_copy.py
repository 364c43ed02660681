"""A store that is taken over into another database is the same store there, or none; and a backup comes back onto either."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from api import copying
from api.database import filled, held, must_be_closed, origin
from api.house import House, clock_of, open_house
from api.restore import restore
from api.settings import BadSettings, Settings, load_settings
from engine.attachment import attach_file, read_file, seal_file
from engine.backup import BadBackup, Manifest, back_up
from engine.clock import Clock
from engine.incident import Incident
from engine.installation import InstallationRestored
from engine.keyring import KEYS
from engine.person import Person
from engine.report import Report, open_incident
from engine.sqlite_store import SCHEMA
from engine.store import Answer, DueTimer, Store
from engine.tables import FILLING, LEFT_OUT, TABLES, Tell
from engine.ticket import TicketFileAttached, Visibility
from engine.transfer import CannotTransfer, claim, compare, fill
from engine.vault import VaultLocked
from engine.work import Unit, Work
from projections.runner import Runner
from tests import stores
from tests.services.postgres import programs

CONTENT = bytes(range(256)) * 40

pytestmark = [
    pytest.mark.files,  # it is about both databases wherever it runs
    pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed"),
]


class Cut(Exception):
    """Something ended the process."""


@dataclass
class Places:
    """A closed store on SQLite with a row in every table, and where it may be taken.

    Attributes:
        name: of a person, as it was given.
    """

    folder: Path
    source: Settings
    name: str = "Nora Berg"

    def server(self) -> Settings:
        """An empty, migrated database; the files that go with it are those of the source."""
        return load_settings({}, data=self.source.data, database=stores.server().database())

    def files(self, name: str) -> Settings:
        return load_settings({}, data=self.folder / name, master_key_file=self.source.master_key)

    def change(self) -> None:
        """Some more is recorded, and something is forgotten."""
        with closing(open_house(self.source)) as house:
            write(house, "afterwards")
            person = next(fact.stream_id for fact in house.ledger.read(0, 1_000) if fact.event.TOPIC.startswith("person."))
            house.vault.destroy(person.bytes)
            house.ledger.run(Unit(lambda work: work.after.append(lambda store: store.drop_sessions()), actor="tocsin"))


def write(house: House, what: str) -> None:
    """Something into each table."""
    file = seal_file(house.vault, name="screen.png", media_type="image/png", content=CONTENT + what.encode())

    def decide(work: Work) -> None:
        ticket = open_incident(work, Report(title=what, channel="test")).id
        attach_file(work, work.load(Incident, ticket), file, visibility=Visibility.INTERNAL, by=None)
        work.load(Person, work.new_id()).register(name=f"{Places.name} {what}", email=None)
        work.after.append(rows)

    def rows(store: Store) -> None:
        mark = uuid4().bytes
        store.set_timers([DueTimer(mark, mark, "nothing", 4_000_000_000_000_000)])
        store.remember_answer("token:x", "POST /é", what, Answer(mark, 202, "{}", b"sealed"), 5)
        store.keep_snapshot(mark, 3, b"\0state")
        store.add_rejected_bytes("source", f"2026-03-0{len(what) % 7}", 17)
        store.set_cursor(f"kafka:{what}", 42)

    house.ledger.run(Unit(decide, actor="tocsin"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    settings = load_settings({}, data=tmp_path / "data")
    with closing(open_house(settings)) as house:
        for number in range(30):
            write(house, f"Printer {number} is on fire")
        house.directory.create_token(role="agent")
    return Places(tmp_path, settings)


def nothing(_what: str, _done: int, _all: int) -> None:
    pass


def cut_at(number: int) -> Tell:
    """Ends the work at the `number`-th thing that is told."""
    left = [number]

    def tell(_what: str, _done: int, _all: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Cut

    return tell


def cut_in(stage: str) -> Tell:
    """Ends the work when a stage begins."""

    def tell(what: str, _done: int, _all: int) -> None:
        if what == stage:
            raise Cut

    return tell


# -- the list of tables ------------------------------------------------------------------------------------------------


def test_every_table_is_named_and_has_the_same_columns_on_both_databases() -> None:
    named = {table.name: (table.names, table.key) for table in TABLES}
    with closing(sqlite3.connect(":memory:")) as file:
        file.executescript(f"{SCHEMA}; {KEYS}")
        on_sqlite = {}
        for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
            columns = file.execute(f"PRAGMA table_info({name})").fetchall()
            key = sorted((column[5], column[1]) for column in columns if column[5])
            on_sqlite[name] = (tuple(column[1] for column in columns), tuple(column for _, column in key))
    assert {name: found for name, found in on_sqlite.items() if name not in LEFT_OUT} == named
    sql = (
        "SELECT a.attname, t.typname, array_position(i.indkey::int2[], a.attnum) FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid "
        "JOIN pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary WHERE a.attrelid = %s::regclass AND a.attnum > 0 ORDER BY a.attnum"
    )
    with psycopg.connect(stores.server().database()) as connection:
        there = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'keys')").fetchall()
        assert {name for _, name in there} - set(LEFT_OUT) == named.keys()
        for table in TABLES:
            found = connection.execute(sql, (f"{'keys' if table.keys else 'ledger'}.{table.name}",)).fetchall()
            assert (tuple(row[0] for row in found), tuple(row[1] for row in found)) == (table.names, table.types)
            assert tuple(name for _, name in sorted((place, name) for name, _, place in found if place is not None)) == table.key


# -- there and back ----------------------------------------------------------------------------------------------------


def test_a_copy_holds_every_table_of_the_source_and_goes_on_from_there(places: Places) -> None:
    there = places.server()
    position, sums = copying.copy(places.source, there, nothing)
    assert [found.table for found in sums if found.rows == 0] == []
    with closing(open_house(there, first_admin=False)) as house:
        assert house.store.head().position == position
        people = [fact.event for fact in house.ledger.read(0, 1_000) if fact.event.TOPIC.startswith("person.registered")]
        assert f"{places.name} Printer 7 is on fire" in [event.name for event in people]  # type: ignore[attr-defined]  # by its topic
        (first, *_) = house.store.log(0, 100, types=(TicketFileAttached.TOPIC,))
        event = house.ledger.fact(first).event
        assert isinstance(event, TicketFileAttached)
        assert read_file(house.store, house.vault, event.digest) == CONTENT + b"Printer 0 is on fire"
        write(house, "on the new database")
        assert house.store.head().position > position


def test_the_way_back_ends_where_it_began(places: Places) -> None:
    there, back = places.server(), places.files("back")
    position, sums = copying.copy(places.source, there, nothing)
    assert copying.copy(there, back, nothing) == (position, sums)
    with closing(open_house(back, first_admin=False)) as house:
        write(house, "on the old kind")
    with closing(sqlite3.connect(back.log_file)) as log:
        assert log.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_source_is_not_changed(places: Places) -> None:
    with held(places.source) as source:
        before = compare(source, source, nothing)
    copying.copy(places.source, places.server(), nothing)
    with held(places.source) as source:
        assert compare(source, source, nothing) == before


# -- refused -----------------------------------------------------------------------------------------------------------


def test_a_source_that_somebody_has_open_is_refused(places: Places) -> None:
    there = places.server()
    with closing(open_house(places.source)), pytest.raises(CannotTransfer, match=r"another process has .*log\.db open"):
        copying.copy(places.source, there, nothing)
    copying.copy(places.source, there, nothing)
    back = places.files("back")
    with closing(open_house(there)), pytest.raises(CannotTransfer, match=r"another process has the database .* open"):
        copying.copy(there, back, nothing)


def test_nobody_writes_to_the_source_while_it_is_copied(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.sqlite_store.BUSY_SECONDS", 0.1)
    with held(places.source), pytest.raises(Exception, match="locked"):
        open_house(places.source)


def test_who_opens_the_source_meanwhile_is_noticed_in_the_end(places: Places) -> None:
    there, opened = places.server(), list[House]()

    def tell(what: str, _done: int, _all: int) -> None:
        if what == "views of the copy" and not opened:
            opened.append(open_house(places.source))

    with pytest.raises(CannotTransfer, match="another process"):
        copying.copy(places.source, there, tell)
    write(opened[0], "in the last moment")
    opened[0].close()
    with pytest.raises(BadSettings, match="begun and not finished"):
        open_house(there)
    position, _ = copying.copy(places.source, there, nothing)
    with closing(open_house(places.source)) as house:
        assert house.store.head().position == position


@pytest.mark.parametrize("founded", [True, False])
def test_a_database_with_another_store_is_refused_and_left_alone(places: Places, founded: bool) -> None:
    there = places.server()
    if founded:
        apart = load_settings({}, data=places.folder / "other", database=there.server)
        with closing(open_house(apart)) as house:
            before = house.store.head()
    else:
        other = load_settings({}, data=places.folder / "other")
        open_house(other).close()
        with pytest.raises(Cut):
            copying.copy(other, there, cut_at(6))
    with pytest.raises(CannotTransfer, match=r"another store|begun of another store"):
        copying.copy(places.source, there, nothing)
    if founded:
        with closing(open_house(apart)) as house:
            assert house.store.head() == before


def test_without_the_key_that_opens_it_nothing_is_begun(places: Places) -> None:
    there = places.server()
    places.source.master_key.rename(places.folder / "away.key")
    with pytest.raises(VaultLocked, match="is missing"):
        copying.copy(places.source, there, nothing)
    places.source.master_key.write_text("ab" * 32)
    with pytest.raises(VaultLocked, match="not the one"):
        copying.copy(places.source, there, nothing)
    with filled(there) as target:
        assert target.meta(FILLING) is None


def test_a_copy_is_not_made_twice(places: Places) -> None:
    there = places.server()
    copying.copy(places.source, there, nothing)
    with pytest.raises(CannotTransfer, match="holds this store already"):
        copying.copy(places.source, there, nothing)


def test_a_log_that_went_another_way_is_refused(places: Places) -> None:
    """The same store, restored from a backup meanwhile, with other events where the copy has got to."""
    there = places.server()
    manifest = back_up_of(places.source, places.folder / "backup")
    with closing(open_house(places.source)) as house:
        write(house, "lost with the disk")
    with pytest.raises(Cut):
        copying.copy(places.source, there, cut_in("counters"))
    again = places.files("again")
    restore(manifest, places.folder / "backup", places.folder / "backup", again)
    with closing(open_house(again)) as house:
        write(house, "instead")
    with pytest.raises(CannotTransfer, match="holds events that"):
        copying.copy(again, there, nothing)


# -- cut off and resumed -----------------------------------------------------------------------------------------------


def test_wherever_a_copy_is_cut_off_it_is_no_store_and_goes_on_where_it_was(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.transfer.PAGE", 20)
    monkeypatch.setattr("engine.transfer.PAGE_OF", {})
    steps: list[str] = []
    position, sums = copying.copy(places.source, places.server(), lambda what, _done, _all: steps.append(what))
    assert steps.count("events") > 5
    there = places.server()
    for cut in (*map(cut_at, (1, 3, 2, 9, 14, 16)), *map(cut_in, ("handles", "meta", "digest of keys", "views of the source", "views of the copy"))):
        with pytest.raises(Cut):
            copying.copy(places.source, there, cut)
        with pytest.raises(BadSettings, match="begun and not finished"):
            open_house(there)
    assert copying.copy(places.source, there, nothing) == (position, sums)


def test_what_changed_between_two_attempts_is_taken_over_too(places: Places) -> None:
    there = places.server()
    with pytest.raises(Cut):
        copying.copy(places.source, there, cut_in("meta"))
    places.change()
    _, sums = copying.copy(places.source, there, nothing)
    with held(places.source) as source, filled(there) as target:
        assert compare(source, target, nothing) == sums
        # The key that was destroyed is not in the copy.
        assert source.count(TABLES[0]) == target.count(TABLES[0])


@pytest.mark.parametrize("statement", [
    "UPDATE ledger.events SET actor = 'x' WHERE position = 5", "DELETE FROM ledger.events WHERE position = 5",
    "UPDATE ledger.counters SET last = last + 1", "DELETE FROM ledger.bodies WHERE digest = (SELECT digest FROM ledger.bodies LIMIT 1)",
    "UPDATE keys.keys SET wrapped = '\\x00' WHERE id = (SELECT id FROM keys.keys LIMIT 1)", "DELETE FROM ledger.cursors",
    "UPDATE ledger.meta SET value = 'x' WHERE key = 'clock'", "UPDATE ledger.credentials SET role = 'admin'",
])
def test_a_row_that_differs_is_found_and_its_table_named(places: Places, statement: str) -> None:
    there = places.server()
    with held(places.source) as source, filled(there) as target:
        claim(source, target)
        fill(source, target, TABLES, nothing)
        compare(source, target, nothing)
        assert there.server is not None
        with psycopg.connect(there.server.get_secret_value().replace("//app@", "//postgres@")) as connection:
            connection.execute(statement)
        name = re.search(r"(?:ledger|keys)\.(\w+)", statement)
        assert name is not None
        with pytest.raises(CannotTransfer, match=f"^{name[1]} differs"):
            compare(source, target, nothing)


def test_a_copy_that_is_not_finished_is_no_source_and_has_no_backup(places: Places) -> None:
    there = places.server()
    with pytest.raises(Cut):
        copying.copy(places.source, there, cut_in("digest of meta"))
    back = places.files("back")
    with pytest.raises(CannotTransfer, match="no whole store"):
        copying.copy(there, back, nothing)
    with pytest.raises(BadBackup, match="no whole store"):
        back_up_of(there, places.folder / "backup")


# -- backups -----------------------------------------------------------------------------------------------------------


def back_up_of(settings: Settings, folder: Path) -> Manifest:
    def clock(simulated: bool, last: datetime) -> Clock:
        return clock_of(settings, simulated=simulated, last=last)

    return back_up(origin(settings), folder, version="test", rest=0, clock=clock)


@pytest.mark.parametrize(("onto_server", "from_server"), [(True, False), (False, True), (True, True)])
def test_a_backup_of_either_kind_comes_back_onto_either(places: Places, onto_server: bool, from_server: bool) -> None:
    backup, source = places.folder / "backup", places.source
    if from_server:
        source = places.server()
        copying.copy(places.source, source, nothing)
    with closing(open_house(source)) as house:  # beside a server
        manifest = back_up_of(source, backup)
        assert manifest.position == house.store.head().position
        rows = house.store.log(0, 10_000)
    again = places.files("again")
    if onto_server:
        again = load_settings({}, data=again.data, master_key_file=places.source.master_key, database=stores.server().database())
    restore(manifest, backup, backup, again)
    assert not again.restoring.exists()
    with closing(open_house(again, first_admin=False)) as house:
        assert house.store.log(0, manifest.position) == rows
        assert [house.ledger.fact(row).event.TOPIC for row in house.store.log(manifest.position, 10)] == [InstallationRestored.TOPIC]
        runner = Runner(house.ledger, again.data / "views.db")
        assert runner.lag == 0
        assert runner.verify() is None
        runner.close()
    must_be_closed(again)


def test_wherever_a_restore_into_a_server_is_cut_off_it_can_be_run_again(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.transfer.PAGE", 100)
    backup, steps = places.folder / "backup", list[str]()
    manifest = back_up_of(places.source, backup)

    def new(name: str) -> Settings:
        return load_settings({}, data=places.folder / name, master_key_file=places.source.master_key, database=stores.server().database())

    restore(manifest, backup, backup, new("whole"), lambda what, _done, _all: steps.append(what))
    there = new("again")
    for stage in dict.fromkeys(steps):
        with pytest.raises(Cut):
            restore(manifest, backup, backup, there, cut_in(stage))
        if stage not in ("keys", "log"):
            with pytest.raises(BadSettings, match="begun and not finished"):
                open_house(there)
    restore(manifest, backup, backup, there)
    with closing(open_house(there, first_admin=False)) as house:
        assert house.store.meta(FILLING) is None
        assert house.store.head().position == manifest.position + 1
    with pytest.raises(BadSettings, match="there is a store already"):
        restore(manifest, backup, backup, there)
