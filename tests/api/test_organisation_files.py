"""People, teams and services in the terminal: one by one, and from CSV files that are applied whole or not at all."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.command.root import main
from api.house import House
from api.organisation_file import KINDS, Report, apply_file
from engine.errors import InvalidInput, NotFound
from engine.person import Person
from engine.service import Service, service_id

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """A command's arguments to (exit code, standard output, standard error), on a store of its own."""
    monkeypatch.setattr("api.command.serving.configure_logs", lambda: None)  # it would outlive what is captured here
    monkeypatch.setenv("COLUMNS", "200")

    def of(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tocsin", *arguments, "--data", str(tmp_path / "store" / "data")])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return of


@pytest.fixture
def files(house: House) -> Any:
    """(kind, text) to the report of applying it."""

    def apply(kind: str, text: str | bytes, **more: Any) -> Report:
        return apply_file(house.ledger, house.directory, kind, text if isinstance(text, bytes) else text.encode(), **more)

    yield apply
    house.close()


def what(report: Report) -> list[str]:
    return [row.what for row in report.rows]


def test_teams_and_services_are_added_changed_and_listed(run: Run) -> None:
    assert run("team", "add", "Web", "--level", "2")[1].endswith("team Web: new\n")
    assert run("team", "add", "Web", "--level", "2")[1] == "team Web: as it is\n"
    assert run("team", "add", "Web", "--email", "web@example.org")[1] == "team Web: changed\n"
    code, out, _ = run("service", "add", "shop", "--owner", "Web", "--tier", "1", "--depends-on", "db", "--depends-on", "mail")
    assert (code, out) == (0, "service shop: new\n  no service db is registered\n  no service mail is registered\n")
    assert json.loads(run("team", "list", "--json")[1])[0] | {"version": 0} == {
        "name": "Web", "level": 2, "email": "web@example.org", "members": 0, "services": 1, "version": 0,
    }
    (row,) = json.loads(run("service", "list", "--json")[1])
    assert (row["owner_team"], row["tier"], row["depends_on"], row["open_tickets"]) == ("Web", 1, ["db", "mail"], 0)
    assert "shop" in run("service", "list")[1]
    assert json.loads(run("service", "list", "--heard", "--json")[1]) == []


@pytest.mark.parametrize(("arguments", "told"), [
    (("team", "add", " "), "name: expected the team's name"),
    (("team", "add", "Web", "--level", "4"), "level: expected a support level: 1, 2 or 3"),
    (("team", "add", "Web", "--email", "no address"), "email: expected an address"),
    (("service", "add", "shop", "--tier", "0"), "tier: expected a tier from 1"),
    (("service", "add", "shop", "--depends-on", "shop"), "depends_on: expected other services than itself"),
    (("service", "add", "sh\x07op"), "name: expected the service's name"),
])
def test_what_cannot_be_is_said_in_one_line(run: Run, arguments: tuple[str, ...], told: str) -> None:
    run("migrate")
    code, out, said = run(*arguments)
    assert (code, out) == (1, "")
    assert told in said
    assert said.count("\n") == 1


def test_a_file_is_tried_applied_and_applied_again(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("login,name,role,team,email\nnora,Nora Berg,agent,Web,nora@example.org\nluis,Luis,lead,,\n")
    code, out, _ = run("user", "import", str(file), "--dry-run")
    assert (code, "2 new, 0 changed, 0 as they are; nothing was applied" in out) == (0, True)
    assert "line 2: nora: new; no team Web is registered" in out
    assert json.loads(run("user", "list", "--json")[1]) == []
    report = json.loads(run("user", "import", str(file), "--json")[1])
    assert (report["applied"], [row["what"] for row in report["rows"]]) == (True, ["new", "new"])
    assert "0 new, 0 changed, 2 as they are" in run("user", "import", str(file))[1]
    assert json.loads(run("user", "list", "--json")[1]) == [
        {"login": "luis", "name": "Luis", "team": None, "role": "lead"},
        {"login": "nora", "name": "Nora Berg", "team": "Web", "role": "agent"},
    ]
    file.write_text("login,role\nnora,boss\nmaya,agent\n")
    code, out, said = run("user", "import", str(file))
    assert (code, out.splitlines()) == (1, [
        "line 2, column role: expected one of requester, agent, lead, auditor, admin, monitor",
        "line 3, column name: expected the person's name",
    ])
    assert said.endswith("2 of 2 rows are wrong; nothing was applied\n")


def test_applying_twice_records_nothing_new(files: Any, house: House) -> None:
    texts = {
        "user": "login;name;role;email\nNora;Nora;agent;nora@example.org\n",
        "team": "name;level\nWeb;2\nDesk;\n",
        "service": 'name;owner;tier;depends_on\nshop;Web;1;"db; mail"\ndb;;2;\n',
    }
    for kind, text in texts.items():
        assert set(what(files(kind, text))) == {"new"}
    before = house.ledger.last_position
    for kind, text in texts.items():
        assert set(what(files(kind, text))) == {"as it is"}
    assert house.ledger.last_position == before
    known = house.ledger.get(Service, service_id("shop")).known
    assert known is not None
    assert known.depends_on == ("db", "mail")


def test_a_dry_run_and_a_fault_record_nothing(files: Any, house: House) -> None:
    before = house.ledger.last_position
    assert what(files("team", "name,level\nWeb,1\n", dry_run=True)) == ["new"]
    report = files("team", "name,level\nWeb,1\nDesk,9\n")
    assert (report.applied, what(report)) == (False, ["new", "fault"])
    assert house.ledger.last_position == before
    assert what(files("team", "name,level\nWeb,1\n")) == ["new"]


def test_what_a_file_leaves_out_stays_and_an_empty_cell_takes_away(files: Any, house: House) -> None:
    files("service", "name,owner,tier,description\nshop,Web,1,Sells\n")
    assert what(files("service", "name,tier\nshop,\n")) == ["as it is"]
    assert what(files("service", "name,owner\nshop,\n")) == ["changed"]
    known = house.ledger.get(Service, service_id("shop")).known
    assert known is not None
    assert (known.owner_team, known.tier, known.description) == (None, 1, "Sells")


@pytest.mark.parametrize(("text", "line", "column", "expected"), [
    (b"", 1, "", "a first row that names its columns: name, level, email"),
    (b"name,rank\n", 1, "rank", "one of name, level, email"),
    (b"name,name\n", 1, "name", "each column once"),
    (b"level\n1\n", 1, "level", ""),
    (b"name,level\nWeb,two\n", 2, "level", "a support level: 1, 2 or 3"),
    (b"name,level\nWeb\n", 2, "", "2 cells as in the first row, not 1"),
    (b"name,level\n\nWeb,1\nWeb,2\n", 4, "name", "each name once; Web is in line 3 already"),
    (b'name\n"Two\nlines"\nWeb\xff\n', 4, "", "text in UTF-8; byte 0xff is none"),
    (b'name\n"Two\nlines"\n', 2, "name", "the team's name: at most 200 characters, all of them visible"),
    (b'name\nWeb\n"open', 3, "", "a row of CSV (unexpected end of data)"),
    (b"name,email\nWeb,nobody\n", 2, "email", "an address such as nora@example.org"),
])
def test_a_fault_is_named_by_line_and_column(files: Any, text: bytes, line: int, column: str, expected: str) -> None:
    report = files("team", text)
    first = report.faults[0]
    if text.startswith(b"level"):
        column, expected = "name", "a column name"
    assert (first.line, first.column, first.expected) == (line, column, expected)
    assert not report.applied


def test_a_file_that_would_hold_others_up_too_long_is_refused(files: Any) -> None:
    report = files("team", "name\n" + "".join(f"T{number}\n" for number in range(5_001)))
    assert not report.applied
    assert [(row.line, row.expected) for row in report.faults] == [(5_002, "at most 5,000 rows; cut the file into several")]


def test_columns_in_any_order_with_a_mark_and_either_separator_mean_the_same(files: Any) -> None:
    assert what(files("team", "\ufefflevel;NAME\r\n3;Web\r\n")) == ["new"]
    assert what(files("team", "name,level\nWeb,3\n")) == ["as it is"]


@given(rows=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=3)), max_size=5), kind=st.sampled_from(sorted(KINDS)))
def test_whatever_the_cells_hold_each_row_is_answered_for(rows: list[tuple[str, str]], kind: str) -> None:
    from api.organisation_file import _rows

    columns = list(KINDS[kind].columns)[:2]
    text = "\n".join([",".join(columns), *(f"{a},{b}" for a, b in rows)])
    for found in _rows(KINDS[kind], text.encode("utf-8", "surrogatepass")):
        assert isinstance(found, tuple) or (found.what == "fault" and found.expected)


def test_somebody_new_from_a_file_signs_in_after_a_password_was_set(house: House, files: Any) -> None:
    import asyncio

    from engine.errors import NotAllowed

    files("user", "login,name,role\nnora,Nora,agent\n")
    with pytest.raises(NotAllowed):
        asyncio.run(house.directory.sign_in("nora", "", "127.0.0.1"))
    house.directory.change_password("nora", "a long password")
    assert asyncio.run(house.directory.sign_in("nora", "a long password", "127.0.0.1")).role == "agent"
    files("user", "login,role\nnora,lead\n")
    assert asyncio.run(house.directory.sign_in("nora", "a long password", "127.0.0.1")).role == "lead"


def test_a_changed_address_is_found_and_the_old_one_is_free(house: House, files: Any) -> None:
    files("user", "login,name,role,email\nnora,Nora,agent,a@example.org\n")
    nora = house.directory.person_of("nora")
    assert house.directory.change_person("nora", email="b@example.org") == "changed"
    assert house.directory.change_person("nora", email="b@example.org") == "as it is"
    assert (house.directory.person_of("b@example.org"), house.directory.person_of("a@example.org")) == (nora, None)
    assert what(files("user", "login,name,role,email\nluis,Luis,agent,a@example.org\n")) == ["new"]
    report = files("user", "login,email\nluis,b@example.org\n")
    assert (report.rows[0].column, report.rows[0].expected) == ("email", "an address that nobody else has")
    with pytest.raises(InvalidInput, match="email"):
        house.directory.change_person("luis", email="b@example.org")
    with pytest.raises(NotFound):
        house.directory.change_person("nobody", name="N")


def test_an_address_may_go_from_one_to_the_next_within_a_file(house: House, files: Any) -> None:
    files("user", "login,name,role,email\nnora,Nora,agent,a@example.org\n")
    report = files("user", "login,name,role,email\nnora,Nora,agent,c@example.org\nluis,Luis,agent,a@example.org\n")
    assert what(report) == ["changed", "new"]
    assert house.directory.person_of("a@example.org") == house.directory.person_of("luis")
    report = files("user", "login,name,role,email\nx,X,agent,x@example.org\ny,Y,agent,x@example.org\n")
    assert [(row.line, row.column) for row in report.faults] == [(3, "email")]


def test_who_was_known_as_a_requester_gets_the_account(house: House, files: Any) -> None:
    from api.commands import Context
    from engine.work import Unit

    def decide(work: Any) -> Any:
        return Context(work=work, person=None, handle=house.directory.handle).requester("rita@example.org")

    rita = house.ledger.run(Unit(decide, actor="tocsin"))
    files("user", "login,name,role,email\nrita,Rita,requester,rita@example.org\n")
    assert house.directory.person_of("rita") == rita
    assert house.ledger.get(Person, rita).name == "Rita"
    report = files("user", "login,name,role\nrita@example.org,Other,agent\n")
    assert [(row.line, row.column) for row in report.faults] == [(2, "login")]


def test_a_password_is_in_no_report(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("login,name,role,password\nnora,Nora,agent,secret-canary\n")
    code, out, said = run("user", "import", str(file))
    assert code == 1
    assert re.search(r"column password: expected one of login, name, email, team, role", out)
    assert "canary" not in out + said
