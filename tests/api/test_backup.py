"""A backup is whole or none, and comes back as the store that it was."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.access import Principal
from api.database import origin
from api.house import House, clock_of, open_house
from api.restore import restore
from api.settings import BadSettings, Settings
from engine.attachment import read_file, seal_file
from engine.backup import (
    MANIFEST,
    BadBackup,
    Manifest,
    back_up,
    digest_of_manifest,
    nothing_to_tell,
    read_manifest,
)
from engine.incident import Incident
from engine.installation import InstallationRestored
from engine.priority import Level
from engine.report import Report, open_incident
from engine.tables import Tell
from engine.ticket import TicketFileAttached
from engine.vault import VaultLocked
from engine.work import Unit, Work
from projections.runner import Runner
from tests.stores import settings_at

PASSWORD = "a long enough password"


@dataclass
class Place:
    """An open store and where its backups go."""

    house: House
    folder: Path

    def back_up(self, tell: Tell = nothing_to_tell, *, keys: Path | None = None) -> Manifest:
        settings = self.house.settings
        return back_up(
            origin(settings), self.folder / "backup", keys_folder=keys, version="test", tell=tell, rest=0,
            clock=lambda simulated, last: clock_of(settings, simulated=simulated, last=last),
        )

    def new(self, name: str = "new") -> Settings:
        """Settings of another store with the same master key."""
        return settings_at(self.folder / name, master_key_file=self.house.settings.master_key)

    def restore(self, *, keys: Path | None = None, settings: Settings | None = None, tell: Tell = nothing_to_tell) -> House:
        folder, settings = self.folder / "backup", settings or self.new()
        restore(read_manifest(folder), folder, keys or folder, settings, tell)
        return open_house(settings, first_admin=False)

    def open(self, title: str) -> None:
        def decide(work: Work) -> None:
            work.adopt(Incident.open(
                work.new_id(), work.journal, number=work.number("INC"), title=title, impact=Level.HIGH, urgency=Level.LOW,
                now=work.now, channel="api",
            ))

        self.house.ledger.run(Unit(decide, actor="tocsin"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    house = open_house(settings_at(tmp_path / "data"))
    place = Place(house, tmp_path)
    for number in range(300):
        place.open(f"Printer {number} is on fire")
    yield place
    house.close()


def titles(house: House) -> list[str]:
    events = [fact.event for fact in house.ledger.read(0, 10_000)]
    return [event.title for event in events if hasattr(event, "title")]


class Cut(Exception):
    """Something ended the process."""


def cut_at(number: int) -> Tell:
    """Ends the work at the `number`-th thing that is told."""
    left = [number]

    def tell(_what: str, _done: int, _all: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Cut

    return tell


def told(work: Callable[[Tell], object]) -> int:
    """How many things it tells."""
    seen: list[str] = []
    work(lambda what, _done, _all: seen.append(what))
    return len(seen)


def test_a_restored_store_holds_the_same_log_and_records_that_it_was_restored(place: Place) -> None:
    made = place.back_up()
    place.open("After the backup")
    house = place.restore()
    rows = house.store.log(0, 10_000)
    assert rows[: made.position] == place.house.store.log(0, made.position)
    assert [fact.event for fact in house.ledger.read(made.position, 10)] == [
        InstallationRestored(position=made.position, digest=made.head, backed_up_at=made.created_at)
    ]
    assert "After the backup" not in titles(house)
    house.close()


def test_files_on_tickets_come_back_to_the_byte(place: Place) -> None:
    content = b"\x89PNG" + bytes(range(256)) * 500
    file = seal_file(place.house.vault, name="screen.png", media_type="image/png", content=content)
    report = Report(title="It shows nonsense", channel="portal", files=(file,))
    place.house.ledger.run(Unit(lambda work: open_incident(work, report), actor="tocsin"))
    place.back_up()
    house = place.restore()
    (row,) = house.store.log(0, 10, types=(TicketFileAttached.TOPIC,))
    event = house.ledger.fact(row).event
    assert isinstance(event, TicketFileAttached)
    assert event.name == "screen.png"
    assert read_file(house.store, house.vault, event.digest) == content
    house.close()


def test_tokens_and_passwords_survive_and_sessions_do_not(place: Place) -> None:
    import asyncio

    token = place.house.directory.create_token(role="agent")
    place.house.directory.open_account(login="nora", name="Nora", role="agent", password=PASSWORD)
    session = asyncio.run(place.house.directory.sign_in("nora", PASSWORD, "here"))
    now = place.house.clock.now()
    assert isinstance(asyncio.run(place.house.directory.whose_session(session.secret, now)), Principal)
    place.back_up()
    house = place.restore()
    assert asyncio.run(house.directory.whose_token(token)) is not None
    assert asyncio.run(house.directory.whose_session(session.secret, now)) is None
    assert asyncio.run(house.directory.sign_in("nora", PASSWORD, "here")).person == session.person
    house.close()


def test_the_views_are_built_by_the_restore(place: Place) -> None:
    place.back_up()
    house = place.restore()
    runner = Runner(house.ledger, house.settings.data / "views.db")
    assert (runner.position, runner.lag) == (house.store.head().position, 0)
    runner.close()
    house.close()


def test_the_keys_may_lie_elsewhere(place: Place) -> None:
    apart = place.folder / "apart"
    made = place.back_up(keys=apart)
    assert {file.name for file in apart.iterdir()} == {made.keys.name}
    assert {file.name for file in (place.folder / "backup").iterdir()} == {made.log.name, MANIFEST}
    with pytest.raises(BadBackup, match=f"{made.keys.name} is missing"):
        place.restore()
    place.restore(keys=apart).close()


def test_a_new_backup_takes_the_place_of_the_one_before(place: Place) -> None:
    before = place.back_up()
    place.open("One more")
    after = place.back_up()
    assert after.position == before.position + 1
    assert digest_of_manifest(after) != digest_of_manifest(before)
    assert {file.name for file in (place.folder / "backup").iterdir()} == {after.log.name, after.keys.name, MANIFEST}


def test_wherever_a_backup_is_cut_off_the_one_before_it_is_whole(place: Place) -> None:
    whole = place.back_up()
    for number in range(1, told(place.back_up) + 1):
        place.open("One more")
        with pytest.raises(Cut):
            place.back_up(cut_at(number))
        shutil.copytree(place.folder / "backup", place.folder / f"kept-{number}")
        found = read_manifest(place.folder / "backup")
        assert found.position >= whole.position
        house = place.restore(settings=place.new(f"new-{number}"))
        assert house.store.at(found.position) is not None
        house.close()


def test_a_first_backup_that_was_cut_off_is_none(place: Place) -> None:
    folder = place.folder / "backup"
    with pytest.raises(Cut):
        place.back_up(cut_at(1))
    (folder / "log.db.part").touch()  # as after a kill
    with pytest.raises(BadBackup, match="begun there and never finished"):
        read_manifest(folder)
    place.back_up()
    assert not (folder / "log.db.part").exists()


def test_a_folder_with_something_else_is_refused_and_left_alone(place: Place) -> None:
    (place.folder / "backup").mkdir()
    (place.folder / "backup" / "thesis.odt").write_text("years of work")
    with pytest.raises(BadBackup, match=r"thesis\.odt"):
        place.back_up()
    assert [file.name for file in (place.folder / "backup").iterdir()] == ["thesis.odt"]


def test_a_folder_with_the_backup_of_another_store_is_refused(place: Place) -> None:
    whole = place.back_up()
    other = Place(open_house(settings_at(place.folder / "other")), place.folder)
    with pytest.raises(BadBackup, match="another store"):
        other.back_up()
    assert read_manifest(place.folder / "backup") == whole
    other.house.close()


@pytest.mark.parametrize("which", ["log", "keys"])
def test_a_damaged_byte_is_found_and_the_file_named(place: Place, which: str) -> None:
    made = place.back_up()
    file = place.folder / "backup" / getattr(made, which).name
    content = file.read_bytes()
    for place_of in (*range(0, len(content), max(1, len(content) // 12)), len(content) - 1):
        damaged = bytearray(content)
        damaged[place_of] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(BadBackup, match=f"{file.name} is damaged"):
            place.restore()
        assert not (place.folder / "new").exists()
    file.write_bytes(content[:-1])
    with pytest.raises(BadBackup, match=f"{file.name} is damaged"):
        place.restore()
    file.write_bytes(content)
    place.restore().close()


def test_a_damaged_manifest_is_refused(place: Place) -> None:
    made = place.back_up()
    file = place.folder / "backup" / MANIFEST
    text = file.read_text()
    for wrong in ("", "{}", text[:-10], text.replace(made.log.name, "../data/log.db"), text.replace('"format": 1', '"format": 9')):
        file.write_text(wrong)
        with pytest.raises(BadBackup, match=MANIFEST):
            place.restore()
    file.write_text(text.replace(made.head, "0" * 64))
    with pytest.raises(BadBackup, match="is not the log that"):
        place.restore()


def test_another_master_key_is_refused_and_a_missing_one_named(place: Place) -> None:
    place.back_up()
    other = place.folder / "other.key"
    settings = settings_at(place.folder / "new", master_key_file=other)
    with pytest.raises(VaultLocked, match=str(other)):
        place.restore(settings=settings)
    other.write_text("ab" * 32)
    with pytest.raises(VaultLocked, match="not the one"):
        place.restore(settings=settings)
    assert not (place.folder / "new").exists()


def test_a_store_that_is_there_is_not_overwritten(place: Place) -> None:
    place.back_up()
    before = titles(place.house)
    with pytest.raises(BadSettings, match="there is a store already"):
        place.restore(settings=place.house.settings)
    assert titles(place.house) == before


def test_an_interrupted_restore_is_no_store_and_can_be_done_again(place: Place) -> None:
    place.back_up()
    settings = place.new()
    settings.restoring.mkdir(parents=True)
    (settings.restoring / "log.db").write_bytes(b"half of it")
    with pytest.raises(BadSettings, match="begun and not finished"):
        open_house(settings)
    assert {file.name for file in settings.data.iterdir()} == {"restoring"}
    house = place.restore(settings=settings)
    assert len(titles(house)) == 300
    house.close()


def test_wherever_a_restore_fails_nothing_is_left_of_it(place: Place) -> None:
    place.back_up()
    stages = told(lambda tell: place.restore(tell=tell, settings=place.new("whole")).close())
    for number in range(1, stages + 1):
        settings = place.new(f"new-{number}")
        with pytest.raises(Cut):
            place.restore(tell=cut_at(number), settings=settings)
        assert not settings.data.exists()
