"""Tickets of another tool arrive as they were, once; what cannot be read is named by line and column."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.command.root import main
from api.house import House, open_house
from api.move_in.html_text import text_of
from api.move_in.mapping import Mapping, load, parse, ready
from api.move_in.planning import Draft, Fault, Planner, read_time
from api.move_in.reading import Unreadable, read
from engine.errors import InvalidInput
from engine.incident import IncidentImported
from engine.person import PersonRegistered
from engine.request import RequestImported
from engine.ticket import TicketCommentImported
from tests.stores import settings_at

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
Import = Callable[..., tuple[int, str, str]]

ZAMMAD_DE = (
    "#;Titel;Status;Priorität;Gruppe;Besitzer;Kunde;Organisation;Erstellungskanal;Sender;Tags;Erstellt am;Aktualisiert am;Geschlossen am;Erste Antwort am\r\n"
    "40012;Drucker druckt nicht; nur Streifen;geschlossen;3 hoch;Werkstatt;Nora Berg;Max Müller <max@beispiel.de>;ACME;E-Mail;Kunde;drucker, eg;"
    "04.03.2024 09:15;05.03.2024 10:00;04.03.2024 11:45;04.03.2024 09:30\r\n"
).replace("Drucker druckt nicht; nur Streifen", '"Drucker druckt nicht; nur ""Streifen"""') + (
    "40013;VPN geht nicht;offen;2 normal;Netz;- -;Eva Öz;ACME;Telefon;Kunde;;31.03.2024 08:00;;;\r\n"
)
GLPI_FR = (
    '"ID";"Titre";"Statut";"Type";"Priorité";"Impact";"Urgence";"Demandeur - Demandeur";"Attribué à - Technicien";"Catégorie";"Date d\'ouverture";"Date de résolution";"Description"\r\n'
    '"12 345";"Écran noir";"Résolu";"Incident";"Haute";"Moyen";"Haute";"Dupont Élise";"Martin Luc";"Poste > Écran";"2024-05-03 14:02";"2024-05-03 16:30";"&#60;p&#62;L\'écran &amp; le câble&#60;/p&#62;&#60;ul&#62;&#60;li&#62;noir&#60;/li&#62;&#60;/ul&#62;"\r\n'
    '"12 346";"Accès au partage";"Nouveau";"Demande";"Basse";"";"";"Dupont Élise";"";"Accès";"2024-05-04 09:00";"";"Une ligne\nune autre"\r\n'
)
FRESHDESK = (
    "Ticket ID,Subject,Status,Priority,Source,Type,Agent,Group,Created time,Due by Time,Resolved time,Closed time,Last update time,Initial response time,"
    "Time tracked,First response time (in hrs),Resolution time (in hrs),Agent interactions,Customer interactions,Tags,Full name,Email\n"
    '901,"Refund, please",Closed,Urgent,Email,Refund,Nora Berg,Billing,2024-05-03 14:02:10,2024-05-04 14:02:10,2024-05-03 15:00:00,2024-05-04 15:00:00,'
    "2024-05-04 15:00:00,2024-05-03 14:12:10,00:00:00,00:10:00,00:57:50,1,1,,Ann Lee,ann@example.com\n"
    "902,Shop down,Waiting on Customer,High,Portal,Incident,No Agent,--,2024-05-03 14:02:10,,,,,,00:00:00,,,0,1,,Bob,bob@example.com\n"
)
ZENDESK = (
    "Summation column,Id,Requester,Requester id,Requester email,Assignee,Group,Subject,Tags,Status,Priority,Via,Ticket type,Created at,Updated at,"
    "Initially assigned at,Solved at,Full resolution time in minutes\n"
    "1,77,Ann Lee,1,ann@example.com,Nora Berg,Support,Mail bounces,mail bounce,Closed,Normal,Mail,Incident,2024-05-03 14:02,2024-05-09 01:00,"
    "2024-05-03 14:10,2024-05-03 18:02,240\n"
    "2,78,Bob,2,bob@example.com,,Support,How do I?,,Open,-,Web form,Question,2024-05-03 14:02,2024-05-03 14:02,,,\n"
)
OTRS = (
    "Ticket#;Age;Created;Closed;FirstLock;FirstResponse;State;Priority;Queue;Lock;Owner;UserFirstname;UserLastname;CustomerID;Customer Name;From;Subject;"
    "AccountedTime;SolutionInMin\n"
    '2024050310000017;2 years 1 day;2024-05-03 14:02:10;2024-05-03 16:02:10;2024-05-03 14:05:00;2024-05-03 14:12:10;closed successful;4 high;Raw;unlock;nberg;'
    'Nora;Berg;acme;Ann Lee;"""Ann Lee"" <ann@example.com>";Disk full on db-3;15;120\n'
    "2024050310000018;2 years;2024-05-03 15:00:00;;;;new;3 normal;Raw;unlock;root@localhost;Admin;OTRS;;;cron@db-3.example.com;Cron <root> said;0;\n"
)


def plan(mapping: Mapping | str, file: Path, now: datetime = NOW) -> list[Draft | list[Fault]]:
    chosen = load(mapping) if isinstance(mapping, str) else mapping
    return [planned for _, planned in Planner(chosen, now).plan(read(file))]


def drafts(mapping: Mapping | str, content: str, folder: Path, *, encoding: str = "utf-8", name: str = "export.csv") -> list[Draft]:
    file = folder / name
    file.write_bytes(content.encode(encoding))
    found = plan(mapping, file)
    assert [planned for planned in found if not isinstance(planned, Draft)] == []
    return [planned for planned in found if isinstance(planned, Draft)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = open_house(settings_at(tmp_path / "data"))
    house.close()
    return house


@pytest.fixture
def bring(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Import:
    """`tocsin import` of this text: (exit code, standard output, standard error)."""
    monkeypatch.setattr("api.command.serving.configure_logs", lambda: None)

    def of(content: str, *options: str, name: str = "export.csv") -> tuple[int, str, str]:
        file = tmp_path / name
        file.write_text(content, encoding="utf-8", newline="")
        monkeypatch.setattr(sys, "argv", ["tocsin", "import", str(file), *options, "--data", str(house.settings.data)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return of


def events(house: House, *kinds: type) -> list[object]:
    again = open_house(house.settings, first_admin=False)
    found = [fact.event for fact in again.ledger.read(0, 100_000) if isinstance(fact.event, kinds)]
    again.close()
    return list(found)


# -- each tool's own export ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_zammad_in_german_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    mapping = msgspec.structs.replace(load("zammad"), zone="Europe/Berlin")
    closed, still_open = drafts(mapping, ZAMMAD_DE, tmp_path, encoding=encoding)
    event = closed.event
    assert (event.old_number, event.title, event.state, event.priority.value) == ("40012", 'Drucker druckt nicht; nur "Streifen"', "closed", "P2")
    assert event.opened_at == datetime(2024, 3, 4, 8, 15, tzinfo=UTC)
    assert event.resolved_at == datetime(2024, 3, 4, 10, 45, tzinfo=UTC)
    assert event.first_responded_at == datetime(2024, 3, 4, 8, 30, tzinfo=UTC)
    assert closed.requester is not None
    assert (closed.requester.name, closed.requester.email) == ("Max Müller", "max@beispiel.de")
    assert event.fields == {"Organisation": "ACME", "Sender": "Kunde", "Tags": "drucker, eg"}
    assert (still_open.event.state, still_open.assignee) == ("in_progress", None)
    # The clocks went forward that night.
    assert still_open.event.opened_at == datetime(2024, 3, 31, 6, 0, tzinfo=UTC)


def test_glpi_in_french_with_html_and_grouped_numbers(tmp_path: Path) -> None:
    broken, asked = drafts("glpi", GLPI_FR, tmp_path)
    assert isinstance(broken.event, IncidentImported)
    assert isinstance(asked.event, RequestImported)
    assert (broken.event.old_number, broken.event.state, broken.event.category) == ("12345", "resolved", "Poste > Écran")
    assert broken.event.description == "L'écran & le câble\n\n- noir"
    assert (broken.event.impact.value, broken.event.urgency.value, broken.event.priority.value) == ("medium", "high", "P2")
    assert (asked.event.state, asked.event.description, asked.event.resolved_at) == ("submitted", "Une ligne\nune autre", None)


def test_freshdesk_with_its_words_for_nothing(tmp_path: Path) -> None:
    refund, down = drafts("freshdesk", FRESHDESK, tmp_path)
    assert (refund.kind, refund.event.state, refund.event.title, refund.event.priority.value) == ("request", "closed", "Refund, please", "P1")
    assert refund.event.resolved_at == datetime(2024, 5, 3, 15, tzinfo=UTC)
    assert refund.event.closed_at == datetime(2024, 5, 4, 15, tzinfo=UTC)
    assert refund.event.fields["Resolution time (in hrs)"] == "00:57:50"
    assert (down.kind, down.event.state, down.assignee, down.event.team) == ("incident", "pending", None, None)


def test_zendesk(tmp_path: Path) -> None:
    bounced, question = drafts("zendesk", ZENDESK, tmp_path)
    assert (bounced.kind, bounced.event.state, bounced.event.channel) == ("incident", "closed", "Mail")
    assert bounced.event.acknowledged_at == datetime(2024, 5, 3, 14, 10, tzinfo=UTC)
    assert (question.kind, question.event.state, question.event.priority.value) == ("request", "in_progress", "P3")
    assert "Summation column" not in bounced.event.fields


def test_zendesk_as_json_lines_with_comments(tmp_path: Path) -> None:
    row = {
        "id": 79, "subject": "Mail", "status": "solved", "created_at": "2024-05-03T14:02:00Z", "updated_at": "2024-05-04T14:02:00Z",
        "requester": {"name": "Ann", "email": "Ann@Example.com"}, "tags": ["a", "b"],
        "comments": [
            {"body": "Second", "public": False, "created_at": "2024-05-03T15:00:00+02:00", "author": {"name": "Nora"}},
            {"body": "First", "public": True, "created_at": "2024-05-03T12:30:00Z"},
        ],
    }
    (draft,) = drafts("zendesk", json.dumps(row) + "\n\n", tmp_path, name="export.jsonl")
    assert [(comment.text, comment.visibility.value) for comment in draft.comments] == [("First", "public"), ("Second", "internal")]
    assert draft.comments[1].said_at == datetime(2024, 5, 3, 13, tzinfo=UTC)
    assert draft.requester is not None
    assert draft.requester.email == "ann@example.com"
    assert draft.event.fields == {"tags": "a, b"}


def test_otrs(tmp_path: Path) -> None:
    full, cron = drafts("otrs", OTRS, tmp_path)
    assert (full.event.old_number, full.event.state, full.event.priority.value) == ("2024050310000017", "closed", "P2")
    assert full.event.acknowledged_at == datetime(2024, 5, 3, 14, 5, tzinfo=UTC)
    assert full.requester is not None
    assert (full.requester.name, full.requester.email) == ("Ann Lee", "ann@example.com")
    assert "Age" not in full.event.fields
    assert cron.event.title == "Cron <root> said"


def test_every_ready_mapping_is_sound_and_says_its_source() -> None:
    assert set(ready()) == {"zammad", "glpi", "freshdesk", "zendesk", "otrs"}
    for name in ready():
        assert load(name).system == name


# -- what is wrong ---------------------------------------------------------------------------------------------------

HEAD = "Id,Subject,Status,Created at,Solved at\n"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("1,,Open,2024-05-03 14:02,", "line 3, column “Subject”: expected a title"),
        ("1,A,Opne,2024-05-03 14:02,", "line 3, column “Status”: expected one of New, Open, Pending"),
        ("1,A,Open,03/05/24 2pm,", "line 3, column “Created at”: expected a date and time such as 2024-05-31 16:45"),
        ("1,A,Open,,", "line 3, column “Created at”: expected when it was opened"),
        ("1,A,Solved,2024-05-03 14:02,2024-05-02 14:02", "line 3, column “Solved at”: expected a time that is not before the opening"),
        ("1,A,Solved,2024-05-03 14:02,2034-05-02 14:02", "line 3, column “Solved at”: expected a time that is not in the future"),
        ("1,A,Solved,2024-05-03 14:02,", "line 3, column “Solved at”: expected a time: it is resolved"),
        (",A,Open,2024-05-03 14:02,", "line 3, column “Id”: expected a number"),
        ("9,A,Open,2024-05-03 14:02,", "line 3, column “Id”: expected a number that is not in line 2 already, not “9”"),
    ],
)
def test_a_fault_is_named_by_line_and_column_and_nothing_is_imported(bring: Import, house: House, row: str, told: str) -> None:
    code, out, _ = bring(f"{HEAD}9,Good,Open,2024-05-03 14:02,\n{row}\n", "--mapping", "zendesk")
    assert code == 1
    assert told in out
    assert "nothing was imported" in out
    assert events(house, IncidentImported, RequestImported) == []


def test_the_line_is_that_of_the_file_also_after_quoted_line_breaks(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text('Id,Subject,Status,Created at\n1,"a\nb\nc",Open,2024-05-03 14:02\n\n2,x,Odd,2024-05-03 14:02\n')
    found = plan("zendesk", file)
    assert isinstance(found[0], Draft)
    assert isinstance(found[1], list)
    assert (found[1][0].line, found[1][0].column, found[1][0].value) == (6, "Status", "Odd")


def test_faulty_rows_can_be_left_out_and_are_kept_with_the_reasons(bring: Import, house: House, tmp_path: Path) -> None:
    text = f"{HEAD}1,Good,Open,2024-05-03 14:02,\n2,,Odd,2024-05-03 14:02,\n"
    code, out, _ = bring(text, "--mapping", "zendesk", "--skip-faulty")
    assert (code, "1 imported, 0 were here already, 1 faulty" in out) == (1, True)
    assert len(events(house, IncidentImported, RequestImported)) == 1
    kept = list(csv.reader(io.StringIO((tmp_path / "export.csv.faulty.csv").read_text(encoding="utf-8-sig"))))
    assert kept[0] == ["line", "what is wrong", "Id", "Subject", "Status", "Created at", "Solved at"]
    assert kept[1][0] == "3"
    assert "“Subject”: expected a title" in kept[1][1]
    assert "“Status”: expected one of" in kept[1][1]
    assert kept[1][2:] == ["2", "", "Odd", "2024-05-03 14:02", ""]


def test_a_dry_run_says_what_would_become_of_each_row_and_writes_nothing(bring: Import, house: House) -> None:
    code, out, _ = bring(ZENDESK, "--mapping", "zendesk", "--dry-run")
    assert code == 0
    assert out.splitlines() == [
        "line 2: 77 would be imported as incident, closed, 0 comments", "line 3: 78 would be imported as request, in progress, 0 comments",
        "2 would be imported, 0 are here already, 0 are faulty; nothing was written",
    ]
    assert events(house, IncidentImported, RequestImported) == []


@pytest.mark.parametrize("text", ["", "\x00\x00", "Id,Subject\n", '{"id": 1', "[1]\n"])
def test_a_file_that_holds_nothing_or_nonsense_is_no_traceback(bring: Import, text: str) -> None:
    code, out, said = bring(text, "--mapping", "zendesk", name="export.jsonl" if text.startswith(("{", "[")) else "export.csv")
    assert code in (0, 1)
    assert "Traceback" not in out + said


def test_a_row_with_more_columns_than_the_heading_is_named(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    file.write_text("Id,Subject\n1,a,b\n")
    with pytest.raises(Unreadable, match="line 2: expected 2 columns"):
        list(read(file))


# -- importing -------------------------------------------------------------------------------------------------------


def test_the_same_file_again_changes_nothing(bring: Import, house: House) -> None:
    assert "2 imported" in bring(ZENDESK, "--mapping", "zendesk")[1]
    before = events(house, object)
    code, out, _ = bring(ZENDESK, "--mapping", "zendesk", "--json")
    said = json.loads(out)
    assert code == 0
    assert (said["imported"], said["already_here"], [row["outcome"] for row in said["rows"]]) == (0, 2, ["already here"] * 2)
    assert events(house, object) == before


def test_another_system_of_the_same_tool_is_another_ticket(bring: Import, house: House) -> None:
    bring(ZENDESK, "--mapping", "zendesk")
    assert "2 imported" in bring(ZENDESK, "--mapping", "zendesk", "--system", "zendesk-emea")[1]
    assert len(events(house, IncidentImported, RequestImported)) == 4


def test_people_are_registered_once_and_those_who_are_known_are_found(bring: Import, house: House) -> None:
    again = open_house(house.settings, first_admin=False)
    ann = again.directory.open_account(login="ann", name="Ann Lee", role="agent", password="long enough pw", email="Ann@example.com")
    again.close()
    bring(ZENDESK, "--mapping", "zendesk")
    found = [event for event in events(house, IncidentImported, RequestImported) if isinstance(event, IncidentImported | RequestImported)]
    assert found[0].requester == ann
    bring(FRESHDESK, "--mapping", "freshdesk")
    names = [event.name for event in events(house, PersonRegistered) if isinstance(event, PersonRegistered)]
    assert sorted(names) == ["Administrator", "Ann Lee", "Bob", "Nora Berg"]


def test_comments_of_a_file_of_their_own_come_with_their_tickets(bring: Import, house: House, tmp_path: Path) -> None:
    said = tmp_path / "comments.csv"
    said.write_text(
        "Ticket id,Comment,Author,Created at,Public\n77,Is it fixed?,Ann Lee,2024-05-03 14:30,true\n"
        "77,No.,Somebody Else,2024-05-03 14:05,false\n"
    )
    bring(ZENDESK, "--mapping", "zendesk", "--comments", str(said))
    comments = [event for event in events(house, TicketCommentImported) if isinstance(event, TicketCommentImported)]
    assert [(event.text, event.author_name, event.visibility.value) for event in comments] == [
        ("No.", "Somebody Else", "internal"), ("Is it fixed?", "Ann Lee", "public"),
    ]


def test_a_faulty_comment_keeps_its_ticket_out(bring: Import, house: House, tmp_path: Path) -> None:
    said = tmp_path / "comments.csv"
    said.write_text("Ticket id,Comment,Created at\n77,Is it fixed?,yesterday\n")
    code, out, _ = bring(ZENDESK, "--mapping", "zendesk", "--comments", str(said), "--skip-faulty")
    assert code == 1
    assert "comments.csv, line 2, column “Created at”: expected a date and time" in out
    found = [event for event in events(house, IncidentImported, RequestImported) if isinstance(event, IncidentImported | RequestImported)]
    assert [event.old_number for event in found] == ["78"]


# -- mappings and laws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("system = 1", "mapping"), ('system = "x"\n[fields]\ntitle = ["T"]\nopened_at = ["O"]', "fields.number"),
        ('system = "x"\nodd = 1\n[fields]\n', "odd"), ('system = "x"\n[fields]\nnumber = ["N"]\ntitle = ["T"]\nopened_at = ["O"]\n[states]\n"a" = "b"', "states.a"),
        ('system = "x"\n[fields]\nnumber = ["N"]\ntitle = ["T"]\nopened_at = ["O"]\nwhat = ["W"]', "fields.what"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_by_its_member(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        parse(text)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a < b and c > d", "a < b and c > d"), ("<p>one</p><p>two</p>", "one\n\ntwo"), ("a<br/>b &amp; c", "a\nb & c"),
        ("<style>p {}</style><div>x</div>", "x"), ("R&amp;D", "R&D"), ("<b>bold", "bold"),
    ],
)
def test_html_becomes_the_text_that_a_reader_saw(source: str, text: str) -> None:
    assert text_of(source) == text


moments = st.datetimes(min_value=datetime(1995, 1, 1), max_value=datetime(2026, 1, 1)).map(lambda moment: moment.replace(microsecond=0, fold=0))


@pytest.mark.law
@given(moments, st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]), st.sampled_from(ready()))
def test_an_instant_is_read_back_from_every_format_of_a_mapping(moment: datetime, zone: str, name: str) -> None:
    mapping = msgspec.structs.replace(load(name), zone=zone)
    local = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(fold=0)
    wanted = local.astimezone(UTC)
    for form in ("%Y-%m-%d %H:%M:%S", mapping.dates[0]):
        found = read_time(local.strftime(form), mapping)
        assert found is not None
        assert abs(found - wanted) < timedelta(minutes=1)


cells = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=12).map(str.strip)
quoted = st.tuples(cells, cells).map("\n".join).map(str.strip)


@pytest.mark.law
@given(
    st.lists(st.tuples(st.just("x"), cells | quoted, cells), min_size=1, max_size=5), st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_spreadsheet_writes_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: Sequence[tuple[str, str, str]], delimiter: str, encoding: str, ending: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerows([("Number", "Title of it", "Text"), *rows])
    file = tmp_path_factory.mktemp("csv") / "export.csv"
    file.write_bytes(text.getvalue().encode(encoding))
    assert [tuple(record.cells.values()) for record in read(file)] == list(rows)
