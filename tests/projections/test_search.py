"""Search: what is found, in which order, by whom; and that a person's words can be forgotten."""

import sqlite3
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.ledger import Ledger
from engine.observation import Severity
from engine.person import Person
from engine.priority import Level
from engine.ticket import Visibility
from projections import search as tables
from projections.runner import Runner
from projections.search_page import FIELDS, Asked, asked, numbered, search, similar
from tests.projections.test_laws import Step, histories, law, lived
from tests.projections.world import World, ends, fires

NORA = UUID(int=1)


def found(runner: Runner, text: str | Asked, *, internal: bool = True) -> list[str]:
    runner.catch_up()
    with runner.views.reader() as reader:
        page = search(reader, asked(text) if isinstance(text, str) else text, internal=internal)
        return [item.ticket.number for item in page.items]


def marked(runner: Runner, text: str) -> str:
    """The first snippet, its hits in brackets."""
    runner.catch_up()
    with runner.views.reader() as reader:
        pieces = search(reader, asked(text)).items[0].snippet
    return "".join(f"[{piece.text}]" if piece.hit else piece.text for piece in pieces)


def test_a_ticket_is_found_by_whatever_was_said_on_it(world: World, runner: Runner) -> None:
    nora = world.person("Nora Berg")
    incident = world.incident("The till prints nothing", service="payments", requester=nora)
    world.act(incident, "comment", text="Paper is in the tray.", visibility=Visibility.PUBLIC, author=None)
    world.act(incident, "comment", text="Looks like the spooler.", visibility=Visibility.INTERNAL, author=nora)
    world.act(incident, "resolve", code="solved", solution="Restarted the spooler.")
    request = world.request("A new chair", requester=nora)
    world.act(request, "approve", by=None)
    world.act(request, "fulfil", note="Brought upstairs.")
    for text in ("till", "yesterday", "tray", "spooler", "restarted", "payments"):
        assert found(runner, text) == [incident], text
    for text in ("chair", "blue", "colour", "upstairs"):
        assert found(runner, text) == [request], text
    assert sorted(found(runner, "nora berg")) == [incident, request]


def test_an_incident_is_found_by_what_its_alerts_say_also_those_that_join_later(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("disk", labels={"instance": "srv-web-07:9100", "mountpoint": "/var/lib/kraken"}))
    first = found(runner, "kraken")
    assert len(first) == 1
    world.deliver(fires("load", labels={"instance": "srv-web-08:9100"}))
    assert found(runner, "host:srv-web-08") == first
    assert found(runner, "host:kraken") == []


def test_an_alert_that_becomes_worth_an_incident_brings_what_it_said_before(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("slow", severity=Severity.INFO, labels={"instance": "srv-db-3", "table": "ledgerlines"}))
    assert found(runner, "ledgerlines") == []
    world.deliver(fires("slow", severity=Severity.CRITICAL))
    assert len(found(runner, "host:srv-db-3 ledgerlines")) == 1
    with runner.views.reader() as reader:
        assert reader.rows("SELECT * FROM search_waiting") == [], "what has its ticket waits no more"


def test_all_words_must_match_wherever_they_stand_and_the_last_may_be_unfinished(world: World, runner: Runner) -> None:
    number = world.incident("Printer jammed")
    world.incident("Printer on fire")
    world.act(number, "comment", text="It is the fuser again.", visibility=Visibility.INTERNAL, author=None)
    assert found(runner, "printer fus") == [number]
    assert found(runner, "fus printer") == []
    assert found(runner, "printer fus ") == []
    assert found(runner, "PRINTER jammed") == [number]


def test_phrases_and_words_that_must_not_be_there(world: World, runner: Runner) -> None:
    exact = world.incident("Cannot print from the till")
    other = world.incident("From print to till")
    assert sorted(found(runner, "print till")) == [exact, other]
    assert found(runner, '"from the till"') == [exact]
    assert found(runner, '"from the ti') == []
    assert found(runner, "print -cannot") == [other]
    assert found(runner, "-cannot") == [other]
    assert found(runner, 'print -"from the till"') == [other]


def test_marks_on_letters_do_not_matter(world: World, runner: Runner) -> None:
    number = world.incident("Café müde: Zürich")
    assert found(runner, "cafe zurich") == [number]
    assert found(runner, "CAFÉ") == [number]


def test_fields_narrow_the_search(world: World, runner: Runner) -> None:
    nora = world.person("Nora Berg")
    shop = world.incident("Printer jammed", service="web shop", impact=Level.HIGH, urgency=Level.HIGH, team="Shop", requester=nora)
    mail = world.incident("Printer jammed", service="mail")
    chair = world.request("Printer wanted")
    world.act(mail, "resolve", code="solved", solution="Paper.")
    cases = {
        "service:shop": [shop], 'service:"web shop"': [shop], "team:shop": [shop], "priority:p1": [shop], "requester:nora": [shop],
        "state:resolved": [mail], "kind:request": [chair], "state:submitted": [chair], "-state:open": [mail], "-kind:incident": [chair],
        f"number:{shop}": [shop], "state:new -team:Shop": [chair],
    }
    for text, expected in cases.items():
        assert found(runner, f"printer {text}") == expected, text
        assert found(runner, text) == expected, text
    assert sorted(found(runner, "printer state:open")) == sorted([shop, chair])


def test_what_only_looks_like_a_field_is_text(world: World, runner: Runner) -> None:
    number = world.incident("Error code:17 at http://shop.example/cart, state:unclear")
    for text in ("code:17", "http://shop.example/cart", "state:unclear"):
        assert found(runner, text) == [number], text


def test_a_field_of_a_program_with_an_impossible_value_is_refused(runner: Runner) -> None:
    for name, value in (("state", "odd"), ("priority", "P9"), ("kind", "problem"), ("host", "//")):
        with pytest.raises(InvalidInput, match=name):
            asked("printer").narrowed(**{name: value})


def test_a_number_alone_goes_to_that_ticket_first(world: World, runner: Runner) -> None:
    first = world.incident("One")
    for other in range(12):
        world.incident(f"{other}: like {first}, says {first} and {first}")
    for text in ("INC-1", "inc-1", "inc1", " INC-1 "):
        assert found(runner, text)[0] == first, text
    with runner.views.reader() as reader:
        assert numbered(reader, asked("inc-1")) == first
        assert numbered(reader, asked("INC-99")) is None
        assert numbered(reader, asked('INC-1 says')) is None


def test_a_number_from_elsewhere_finds_its_ticket(world: World, runner: Runner) -> None:
    number = world.incident("Moved here")
    world.incident("About 2024/00317 and others")
    runner.catch_up()
    connection = runner._present().connection
    connection.execute("BEGIN")
    (row,) = connection.execute(f"SELECT {', '.join(tables.COLUMNS)} FROM search_documents WHERE number = ?", (number,))
    document = tables.Document.from_row(row)
    document.other_numbers = "2024/00317\nOLD-5"
    tables._replace(connection, [document])
    connection.execute("COMMIT")
    assert found(runner, "2024/00317")[0] == number
    assert found(runner, "old-5") == [number]
    with runner.views.reader() as reader:
        assert numbered(reader, asked("old-5")) == number


def test_better_places_come_first_and_the_open_before_the_done(world: World, runner: Runner) -> None:
    said = world.incident("Something else")
    world.act(said, "comment", text="Not the spooler, surely; it hums along as ever before in the corner.", visibility=Visibility.INTERNAL, author=None)
    still = world.incident("Spooler stuck")
    done = world.incident("Spooler stuck")
    world.act(done, "resolve", code="solved", solution="Gone by itself.")
    world.incident("Nothing of the kind")
    world.incident("Nothing of the kind either")
    world.incident("And a third")
    assert found(runner, "spooler") == [still, done, said]
    world.clock.advance(90 * 86_400)
    new = world.incident("Spooler stuck")
    assert found(runner, "spooler") == [new, still, done, said], "and the new before the old"


def test_pages_of_a_search_go_on_where_the_last_one_ended_whatever_is_opened_meanwhile(world: World, runner: Runner) -> None:
    numbers = {world.incident(f"Printer {number}") for number in range(7)}
    runner.catch_up()
    seen: list[str] = []
    cursor = None
    for _ in range(4):
        with runner.views.reader() as reader:
            page = search(reader, asked("printer"), cursor=cursor, limit=2)
        seen += [item.ticket.number for item in page.items]
        cursor = page.next
        world.incident("Printer, one more")
        runner.catch_up()
    assert cursor is None
    assert len(seen) == 7
    assert set(seen) == numbers


def test_a_snippet_marks_what_was_found_and_no_more(world: World, runner: Runner) -> None:
    number = world.incident("Odd")
    text = f"{'word ' * 100}then the <b>spooler</b> hung & burned {'word ' * 100}"
    world.act(number, "comment", text=text, visibility=Visibility.PUBLIC, author=None)
    said = marked(runner, '"the b spooler" bur')
    assert "then [the] <[b]>[spooler]</b> hung & [burned] word" in said
    assert said.startswith("… ")
    assert said.endswith(" …")
    assert len(said) < 250
    assert marked(runner, "odd") == "It was quick yesterday."


def test_internal_words_are_neither_found_nor_shown_where_they_may_not_be_read(world: World, runner: Runner) -> None:
    number = world.incident("Odd")
    world.act(number, "comment", text="A public clue.", visibility=Visibility.PUBLIC, author=None)
    world.act(number, "comment", text="A secret clue.", visibility=Visibility.INTERNAL, author=None)
    assert found(runner, "clue", internal=False) == [number]
    assert found(runner, "secret", internal=False) == []
    assert found(runner, "clue -secret", internal=False) == [number]
    with runner.views.reader() as reader:
        assert "secret" not in str(search(reader, asked("odd clue"), internal=False).items)


def test_nothing_asked_is_nothing_found(world: World, runner: Runner) -> None:
    world.incident()
    for text in ("", "   ", "!!! ??", '"', '""', "-", "service:", "*"):
        assert found(runner, text) == [], text


def test_a_requesters_new_name_replaces_the_old_one(world: World, runner: Runner) -> None:
    nora = world.person("Nora Berg")
    number = world.incident(requester=nora)
    runner.catch_up()
    world.do(lambda work: work.load(Person, nora).register(name="Nora Falk", email=None))
    assert found(runner, "falk") == [number]
    assert found(runner, "berg") == []
    assert runner.verify() is None


words = st.sampled_from(["disk", "full", "mail", "shop", "slow", "srv-1"])


@pytest.mark.law
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_what_is_found_is_what_holds_all_the_words_and_none_of_the_others(data: st.DataObject) -> None:
    titles = data.draw(st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=6))
    wanted, unwanted = data.draw(st.lists(words, min_size=1, max_size=2)), data.draw(st.lists(words, max_size=1))

    def open_all(world: World) -> None:
        for title in titles:
            world.incident(" ".join(title))

    with lived([open_all]) as (world, path):
        runner = Runner(world.ledger, path / "views.db")
        expected = {
            f"INC-{place}" for place, title in enumerate(titles, start=1) if set(wanted) <= set(title) and not set(unwanted) & set(title)
        }
        assert set(found(runner, " ".join([*wanted, *(f"-{word}" for word in unwanted)]))) == expected
        runner.close()


@pytest.mark.law
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(
    st.text(max_size=60),
    st.text(alphabet='ab "-:*^(){}+.,\\\0\n\ud800é', max_size=40),
    st.lists(st.sampled_from([*(f"{name}:" for name in FIELDS), "AND", "OR", "NOT", "NEAR(a b)", '"', "-", "INC-1", "a", "P1", "^", "*", "(", "{a}:"]), max_size=12).map(" ".join),
    st.lists(st.sampled_from([*(f"-{name}:" for name in FIELDS), "x", '"', "open", "1"]), max_size=12).map("".join),
))
def test_whatever_is_typed_is_answered(searched: Runner, text: str) -> None:
    with searched.views.reader() as reader:
        search(reader, asked(text), limit=3)
        search(reader, asked(text), limit=3, internal=False)
        numbered(reader, asked(text))


@pytest.fixture
def searched(world: World, runner: Runner) -> Runner:
    world.incident("a b printer")
    world.request("a chair")
    runner.catch_up()
    return runner


def test_a_very_long_text_is_answered(searched: Runner) -> None:
    for text in ("a" * 100_000, "a " * 50_000, "-a " * 50_000, '"a' * 9_999, "service:a " * 9_999, "a-" * 9_999):
        assert isinstance(found(searched, text), list)


def whole(connection: sqlite3.Connection) -> None:
    """Raises: sqlite3.DatabaseError: the index does not say what the documents say."""
    connection.execute("INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)")


@pytest.mark.law
@law
@given(histories, st.integers(1, 9))
def test_the_index_says_what_the_documents_say_however_the_log_was_cut(history_steps: list[Step], page: int) -> None:
    with lived(history_steps) as (world, path):
        runner = Runner(world.ledger, path / "views.db", page=page)
        runner.catch_up()
        whole(runner._present().connection)
        runner.close()


def test_a_long_conversation_is_kept_up_to_its_bound(world: World, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_COMMENTS", 3)
    number = world.incident()
    for place in range(5):
        world.act(number, "comment", text=f"clue{place}x", visibility=Visibility.INTERNAL, author=None)
    assert found(runner, "clue2x") == [number]
    assert found(runner, "clue3x") == []
    whole(runner._present().connection)


def test_a_search_of_the_past_shows_what_was_there_as_it_stood_and_nothing_that_was_said_later(world: World, runner: Runner) -> None:
    number = world.incident("Printer jammed", team="Shop")
    then = world.head
    world.act(number, "comment", text="The printer's fuser, it turned out.", visibility=Visibility.INTERNAL, author=None)
    world.act(number, "assign", team="Net", assignee=None)
    world.act(number, "resolve", code="solved", solution="Exchanged the printer's fuser.")
    world.incident("Printer jammed again")
    runner.catch_up()
    with runner.views.reader() as reader:
        for text in ("printer", "printer state:open team:shop state:new", "team:shop", "printer -state:resolved"):
            page = search(reader, asked(text), as_of=then)
            assert [(item.ticket.number, item.ticket.state, item.ticket.team) for item in page.items] == [(number, "new", "Shop")], text
            assert "fuser" not in str(page.items)
        assert search(reader, asked("printer state:resolved"), as_of=then).items == []
        assert numbered(reader, asked("INC-2"), as_of=then) is None


# -- erasure -----------------------------------------------------------------------------------------------------------


def test_a_forgotten_person_leaves_no_word_and_the_index_is_as_rebuilt_without_the_key(
    world: World, runner: Runner, ledger: Ledger, tmp_path: Path
) -> None:
    nora, omar = world.person("Nora Xylander"), world.person("Omar Quist")
    hers = world.incident("Zyqqor will not start", requester=nora)
    world.act(hers, "comment", text="Vwykjol it says.", visibility=Visibility.PUBLIC, author=omar)
    world.act(hers, "resolve", code="solved", solution="Exchanged the hrugnix.")
    asked_for = world.request("One tjorvel", requester=nora)
    his = world.incident("Another matter")
    world.act(his, "comment", text="Saw the bwexal too.", visibility=Visibility.INTERNAL, author=nora)
    world.act(his, "comment", text="So did the pfrandt.", visibility=Visibility.INTERNAL, author=omar)
    canaries = ("xylander", "zyqqor", "vwykjol", "hrugnix", "tjorvel", "bwexal")
    for word in canaries:
        assert len(found(runner, word)) >= 1, word
    whole(runner._present().connection)
    place = runner.views.place
    file = place.file(place.present())
    runner._present().connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for part in ("xylander", "wykjol", "rugnix"):
        assert part.encode() in file.read_bytes().lower()

    tables.erase(runner._present().connection, nora)

    for word in canaries:
        assert found(runner, word) == [], word
    assert found(runner, "pfrandt") == [his]
    assert found(runner, hers)[0] == hers
    assert found(runner, "chair") == [asked_for], "what is not hers stays: the catalogue's item"
    whole(runner._present().connection)
    content = file.read_bytes().lower() + file.with_name(f"{file.name}-wal").read_bytes().lower()
    search_only = content.replace(b"nora", b"")
    for name in ("wykjol", "rugnix", "wexal"):
        assert name.encode() not in search_only, name

    ledger.vault.destroy(nora.bytes)
    with runner.views.reader() as reader:
        live = {table: reader.rows(f"SELECT * FROM {table}") for table in ("search_documents", "search_comments", "search_people")}
    rebuilt = Runner(ledger, tmp_path / "rebuilt.db", projections=(tables.PROJECTION,))
    rebuilt.catch_up()
    with rebuilt.views.reader() as reader:
        assert {table: reader.rows(f"SELECT * FROM {table}") for table in live} == live
    rebuilt.close()


# -- have we had this before? ------------------------------------------------------------------------------------------


def alike(runner: Runner, number: str, *, as_of: int | None = None) -> list[tuple[str, str]]:
    runner.catch_up()
    with runner.views.reader() as reader:
        offered = similar(reader, number, as_of=as_of)
        assert offered is not None
        return [(one.number, one.solution) for one in offered]


def test_a_solved_ticket_about_the_same_is_offered_with_its_solution(world: World, runner: Runner) -> None:
    before = world.incident("Spooler on till-7 stuck", service="payments")
    world.act(before, "resolve", code="workaround", solution="Emptied the spooler's folder.")
    for place in range(5):
        other = world.incident(f"Mailbox {place} over quota")
        world.act(other, "resolve", code="solved", solution="Raised it.")
    now = world.incident("till-7: spooler stuck again", service="payments")
    assert alike(runner, now) == [(before, "Emptied the spooler's folder.")]


def test_what_is_open_or_was_cancelled_is_no_answer(world: World, runner: Runner) -> None:
    world.incident("Spooler on till-7 stuck")
    dropped = world.incident("Spooler on till-7 stuck")
    world.act(dropped, "cancel", reason="twice")
    again = world.incident("Spooler on till-7 stuck")
    world.act(again, "resolve", code="solved", solution="Gone.")
    world.act(again, "reopen", reason="not gone")
    assert alike(runner, world.incident("Spooler on till-7 stuck")) == []


def test_the_same_title_is_found_however_often_it_was_there(world: World, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.search_page.MOST_OF_A_TERM", 3)
    for place in range(9):
        number = world.incident("Disk full")
        world.act(number, "resolve", code="solved", solution=f"Emptied it {place}.")
    assert len(alike(runner, world.incident("Disk full"))) == 5


def test_a_persons_solution_comes_before_a_rules(world: World, runner: Runner) -> None:
    world.source()
    world.deliver(fires("till-7 spooler stuck"))
    world.deliver(ends("till-7 spooler stuck"))
    by_hand = world.incident("till-7 spooler stuck is down", service="shop")
    world.act(by_hand, "resolve", code="solved", solution="Emptied it.")
    now = world.incident("till-7 spooler stuck is down", service="shop")
    assert [solution for _, solution in alike(runner, now)] == ["Emptied it.", "All of its alerts ended."]


def test_a_page_of_the_past_offers_only_what_was_solved_by_then(world: World, runner: Runner) -> None:
    before = world.incident("Spooler on till-7 stuck")
    now = world.incident("Spooler on till-7 stuck")
    then = world.head
    world.act(before, "resolve", code="solved", solution="Emptied it.")
    solved = world.head
    world.act(before, "reopen", reason="back")
    assert alike(runner, now) == []
    assert alike(runner, now, as_of=then) == []
    assert alike(runner, now, as_of=solved) == [(before, "Emptied it.")]
    world.act(before, "resolve", code="solved", solution="Exchanged it.")
    assert alike(runner, now) == [(before, "Exchanged it.")]
    assert alike(runner, now, as_of=solved) == [], "rather nothing than what was not known then"


def test_one_word_in_common_is_not_the_same(world: World, runner: Runner) -> None:
    for place in range(3):
        other = world.incident(f"Spooler {place} makes odd sounds when paper runs low")
        world.act(other, "resolve", code="solved", solution="Oiled.")
    assert alike(runner, world.incident("Cannot sign in to the spooler since the password expired yesterday")) == []


def test_nothing_is_like_what_is_not_there(world: World, runner: Runner) -> None:
    first = world.head
    number = world.incident("…")
    runner.catch_up()
    with runner.views.reader() as reader:
        assert similar(reader, "INC-99") is None
        assert similar(reader, number, as_of=first) is None
        assert similar(reader, number) == []


def test_a_comment_on_nobodys_ticket_is_its_authors(world: World, runner: Runner) -> None:
    number = world.incident()
    world.act(number, "comment", text="Mine alone.", visibility=Visibility.INTERNAL, author=NORA)
    runner.catch_up()
    with runner.views.reader() as reader:
        assert reader.rows("SELECT subject FROM search_comments") == [(NORA.bytes,)]
