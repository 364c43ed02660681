"""A file on a ticket: kept to the byte in the ticket's own commit, sealed apart, and gone with its own key alone."""

from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.attachment import SealedFile, attach_file, clean_name, read_file, seal_file
from engine.errors import IllegalTransition
from engine.event import Fact
from engine.incident import Incident
from engine.ledger import Ledger
from engine.report import Report, open_incident
from engine.ticket import LONGEST_NAME, TicketFileAttached, Visibility
from engine.work import Unit, Work
from tests.stores import bodies_in

RITA, IDA = UUID(int=7), UUID(int=8)
SCREEN = b"\x89PNG\r\n\x1a\n" + b"what Rita saw" * 40


def sealed(ledger: Ledger, content: bytes = SCREEN, name: str = "screen.png") -> SealedFile:
    return seal_file(ledger.vault, name=name, media_type="image/png", content=content)


def opened(ledger: Ledger, *, requester: UUID | None = RITA, files: tuple[SealedFile, ...] = ()) -> UUID:
    report = Report(title="It shows nonsense", channel="portal", requester=requester, files=files)
    return ledger.run(Unit(lambda work: open_incident(work, report).id, actor="user:rita"))


def attach(ledger: Ledger, ticket: UUID, file: SealedFile, *, by: UUID | None = IDA) -> Fact:
    def decide(work: Work) -> Fact:
        return attach_file(work, work.load(Incident, ticket), file, visibility=Visibility.PUBLIC, by=by)

    return ledger.run(Unit(decide, actor="user:ida"))


def attached(ledger: Ledger) -> list[TicketFileAttached]:
    return [fact.event for fact in ledger.read(0, 1_000) if isinstance(fact.event, TicketFileAttached)]


def test_a_file_is_read_back_to_the_byte_and_lies_nowhere_in_plain(ledger: Ledger, tmp_path: Path) -> None:
    file = sealed(ledger)
    attach(ledger, opened(ledger), file)
    (event,) = attached(ledger)
    assert event == TicketFileAttached(
        file=file.id, name="screen.png", media_type="image/png", length=len(SCREEN), digest=file.digest.hex(),
        visibility=Visibility.PUBLIC, by=IDA, subject=RITA,
    )
    assert read_file(ledger.store, ledger.vault, event.digest) == SCREEN
    for path in tmp_path.iterdir():
        assert b"what Rita saw" not in path.read_bytes()
        assert b"screen.png" not in path.read_bytes()


def test_destroying_the_key_of_a_file_leaves_the_same_file_elsewhere_readable(ledger: Ledger) -> None:
    ticket = opened(ledger)
    for _ in range(2):
        attach(ledger, ticket, sealed(ledger))
    one, other = attached(ledger)
    assert one.digest != other.digest
    kept = ledger.store.body(bytes.fromhex(one.digest))
    assert kept is not None
    ledger.vault.destroy(kept.key)
    assert read_file(ledger.store, ledger.vault, one.digest) is None
    assert read_file(ledger.store, ledger.vault, other.digest) == SCREEN


def test_the_name_is_the_requesters_and_else_of_who_attached_it(ledger: Ledger) -> None:
    attach(ledger, opened(ledger, requester=None), sealed(ledger))
    assert [event.subject for event in attached(ledger)] == [IDA]
    ledger.vault.destroy(IDA.bytes)
    (row,) = ledger.store.log(0, 10, types=(TicketFileAttached.TOPIC,))
    event = ledger.codec.decode(row.type, row.state, UUID(bytes=row.stream), row.version)
    assert isinstance(event, TicketFileAttached)
    assert event.name == "(erased)"


def test_a_closed_ticket_takes_no_file_and_nothing_of_it_is_kept(ledger: Ledger, tmp_path: Path) -> None:
    ticket = opened(ledger)

    def close(work: Work) -> None:
        incident = work.load(Incident, ticket)
        incident.resolve(code="solved", solution="turned it off", now=work.now)
        incident.close()

    ledger.run(Unit(close, actor="user:ida"))
    with pytest.raises(IllegalTransition, match="cannot attach INC-1: it is closed"):
        attach(ledger, ticket, sealed(ledger))
    assert attached(ledger) == []
    assert bodies_in(tmp_path) == 0


def test_files_of_a_report_are_the_requesters_and_public(ledger: Ledger) -> None:
    ticket = opened(ledger, files=(sealed(ledger), sealed(ledger, b"\x89PNG other", "other.png")))
    assert [(event.name, event.by, event.visibility) for event in attached(ledger)] == [
        ("screen.png", RITA, Visibility.PUBLIC), ("other.png", RITA, Visibility.PUBLIC),
    ]
    assert ledger.get(Incident, ticket).version == 3


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("C:\\Users\\rita\\Desktop\\screen.png", "screen.png"),
        ("/etc/passwd", "passwd"),
        ("../../up.txt", "up.txt"),
        ("..", "file"),
        ("", "file"),
        ("a\r\nSet-Cookie: x.txt", "aSet-Cookie: x.txt"),
        ("evil\u202egnp.exe", "evilgnp.exe"),
        ("Bildschirmfoto 2026-03-02 um 3.00\u202fPM.png", "Bildschirmfoto 2026-03-02 um 3.00 PM.png"),
        ("x" * 300 + ".png", "x" * 196 + ".png"),
    ],
)
def test_a_name_is_one_line_without_folders_and_keeps_its_ending(given_name: str, kept: str) -> None:
    assert clean_name(given_name) == kept


@given(st.text())
def test_any_name_comes_to_one_that_a_ticket_takes(text: str) -> None:
    name = clean_name(text)
    assert 0 < len(name) <= LONGEST_NAME
    assert name.isprintable()
    assert not {"/", "\\"} & set(name)
    assert clean_name(name) == name
