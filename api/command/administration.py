"""Sources, tokens, accounts, rules and the views: what an administrator does from the terminal, also beside a running server."""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api import connecting
from api.command.opening import DataOption, opened, viewed
from api.database import is_there
from api.house import House
from api.rulebook_file import read_rulebook
from api.settings import load_settings
from engine.errors import InvalidInput
from engine.identity import rule_id
from engine.notice import named
from engine.observation import Severity
from engine.recipient import Recipient, recipient_id
from engine.rule import Rule, TicketRule
from engine.rulebook import RULEBOOK, Rulebook, RulebookPublished
from engine.source import SourceAdded
from engine.work import Unit, Work

out = Console(highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for name, group, text in (
        ("source", sources, "Configured senders."), ("token", tokens, "Credentials of programs and monitors."),
        ("user", users, "People who may sign in."), ("rules", rules, "What is decided about tickets that open, and who is told."),
        ("clock", clock, "The wall clock, when it was stepped."),
    ):
        app.add_typer(group, name=name, help=text, no_args_is_help=True)

    @app.command()
    def rebuild(
        projection: Annotated[str | None, typer.Argument(help="One view; all of them by default", show_default=False)] = None,
        verify: Annotated[bool, typer.Option("--verify", help="Rebuild beside the live views and report the first difference")] = False,
        data: DataOption = None,
    ) -> None:
        """Rebuild the views from the log, beside the live ones, and switch."""
        with viewed(data) as (_, runner), _progress() as progress:
            bar = progress.add_task("reading the log", total=None)

            def tell(reached: int, head: int) -> None:
                progress.update(bar, completed=reached, total=head)

            if verify:
                difference = runner.verify(tell)
                progress.stop()
                if difference is not None:
                    out.print(f"[red]different:[/] {difference}")
                    raise typer.Exit(1)
                out.print(f"the views equal a rebuild at position {runner.position}")
            else:
                position = runner.rebuild(*([projection] if projection else []), progress=tell)
                progress.stop()
                out.print(f"rebuilt {projection or 'all views'} up to position {position}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )


sources = typer.Typer()
tokens = typer.Typer()
users = typer.Typer()
rules = typer.Typer()
clock = typer.Typer()


@sources.command("add")
def add_source(
    name: Annotated[str, typer.Argument(help="Name of the source; part of its alerts' identity")],
    adapter: Annotated[str, typer.Option("--adapter", help="Its format: alertmanager, grafana, pagerduty, generic, …")],
    zone: Annotated[str, typer.Option("--zone", help="IANA zone of times that carry none")] = "UTC",
    severity: Annotated[Severity, typer.Option("--severity", help="Where the sender gives none")] = Severity.WARNING,
    mapping: Annotated[Path | None, typer.Option("--mapping", exists=True, dir_okay=False, help="TOML mapping of a generic source")] = None,
    repeat: Annotated[float | None, typer.Option("--repeat-seconds", min=1, help="How often it repeats what still fires")] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore-label", help="A label that names the reporter, such as replica")] = None,
    same_as: Annotated[str | None, typer.Option("--same-as", help="The source whose alerts it reports too: one key is one alert of both")] = None,
    address: Annotated[str, typer.Option("--address", help="How the sender reaches this server")] = "http://127.0.0.1:8800",
    data: DataOption = None,
) -> None:
    """Configure a sender: prints its token, its address and the block to paste into the sender's settings."""
    event = SourceAdded(
        name=name, adapter=adapter, zone=zone, severity=severity, mapping=_mapping(mapping) if mapping else None,
        repeat_interval_seconds=repeat, ignored_labels=tuple(ignore or ()), identity=same_as,
    )
    connecting.check_source(event)
    with opened(data) as house:
        connecting.add_source(house, event, actor="tocsin")
        sheet = connecting.connect(house, name, house.settings.public_address or address, actor="tocsin")
    out.print(f"token    {sheet.token}\naddress  {sheet.address}\n", markup=False)
    out.print(sheet.block, markup=False)


def _mapping(file: Path) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as error:
        raise InvalidInput("mapping", f"TOML in UTF-8: {error}") from error


@tokens.command("create")
def create_token(
    role: Annotated[str, typer.Option("--role", help="requester, agent, lead, auditor, admin or monitor")],
    source: Annotated[str | None, typer.Option("--source", help="The source that a monitor reports for")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Register this key (a PagerDuty routing key) instead of a new one")] = None,
    data: DataOption = None,
) -> None:
    """Make a credential for a program; prints the token alone."""
    with opened(data) as house:
        print(house.directory.create_token(role=role, source=source, value=value))  # noqa: T201  # alone on standard output


@tokens.command("revoke")
def revoke_token(token: Annotated[str, typer.Argument(help="The token itself")], data: DataOption = None) -> None:
    """Make a token void at once."""
    with opened(data, must_exist=True) as house:
        house.directory.revoke_token(token)
    out.print("revoked")


@users.command("add")
def add_user(
    login: Annotated[str, typer.Argument(help="Short name to sign in with")],
    name: Annotated[str, typer.Option("--name", help="The person's name")],
    role: Annotated[str, typer.Option("--role", help="requester, agent, lead, auditor or admin")] = "agent",
    email: Annotated[str | None, typer.Option("--email")] = None,
    team: Annotated[str | None, typer.Option("--team")] = None,
    password: Annotated[str, typer.Option("--password", prompt=True, hide_input=True, confirmation_prompt=True)] = "",
    data: DataOption = None,
) -> None:
    """Register a person who may sign in."""
    with opened(data) as house:
        house.directory.open_account(login=login, name=name, role=role, password=password, email=email, team=team)
    out.print(f"{login} may sign in as {role}")


@users.command("role")
def change_role(login: str, role: str, data: DataOption = None) -> None:
    """Give an account another role, in force at once."""
    with opened(data, must_exist=True) as house:
        house.directory.change_role(login, role)
    out.print(f"{login} is {role} now")


@users.command("password")
def change_password(
    login: str,
    password: Annotated[str, typer.Option("--password", prompt=True, hide_input=True, confirmation_prompt=True)] = "",
    data: DataOption = None,
) -> None:
    """Set a new password."""
    with opened(data, must_exist=True) as house:
        house.directory.change_password(login, password)
    out.print(f"the password of {login} is changed")


@rules.command("check")
def check_rules(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A rulebook or a ticket rule, in TOML")],
    data: DataOption = None,
) -> None:
    """Say what is wrong with a file of rules, by line and column; nothing is put in force.

    Where there is a store, also which recipients its notices name that nobody has added.
    """
    if _is_ticket_rule(file):
        read_rule(file)
        out.print(f"{file}: a ticket rule, and right")
        return
    edition = read_rulebook(_text_of(file))
    out.print(
        f"{file}: a rulebook, and right: {len(edition.decisions)} decisions, {len(edition.notices)} notices, "
        f"{len(edition.templates)} templates"
    )
    if is_there(load_settings(data=data)):
        with opened(data) as house:
            _tell_of_strangers(house, edition)


def _tell_of_strangers(house: House, edition: RulebookPublished) -> None:
    """A notice to nobody is lost without a word, so say it where the rule is written."""
    strangers = [name for name in named(edition.notices) if not house.ledger.get(Recipient, recipient_id(name)).active]
    if strangers:
        out.print(f"but nobody has added these recipients, so they are told nothing: {', '.join(strangers)} (tocsin recipient add NAME …)")


@rules.command("show")
def show_rulebook(data: DataOption = None) -> None:
    """Print the rulebook in force, to change it and publish it again."""
    with opened(data, must_exist=True) as house:
        typer.echo(house.ledger.get(Rulebook, RULEBOOK).text, nl=False)


@rules.command("publish")
def publish_rules(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A rulebook, or a ticket rule (name, opens_at, group_by, …)")],
    data: DataOption = None,
) -> None:
    """Put a rulebook or a ticket rule in force; all of it, or nothing where there is a fault."""
    if _is_ticket_rule(file):
        _publish_ticket_rule(read_rule(file), data)
        return
    edition = read_rulebook(_text_of(file))

    def decide(work: Work) -> int:
        book = work.load(Rulebook, RULEBOOK)
        book.publish(edition)
        return book.version

    with opened(data) as house:
        version = house.ledger.run(Unit(decide, actor="tocsin"))
        out.print(f"the rulebook is in force as version {version}")
        _tell_of_strangers(house, edition)


def _publish_ticket_rule(rule: TicketRule, data: Path | None) -> None:
    def decide(work: Work) -> int:
        stream = work.load(Rule, rule_id(rule.name))
        stream.publish(rule)
        return stream.version

    with opened(data) as house:
        version = house.ledger.run(Unit(decide, actor="tocsin"))
    out.print(f"rule {rule.name} is in force as version {version}")


def _is_ticket_rule(file: Path) -> bool:
    """A ticket rule says its name first of all; a rulebook is tables."""
    try:
        return "name" in tomllib.loads(_text_of(file))
    except tomllib.TOMLDecodeError:
        return False  # said by line and column when it is read


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(str(file), "UTF-8 text") from error


def read_rule(file: Path) -> TicketRule:
    """A rule from its TOML file.

    Raises:
        InvalidInput: not TOML, an unknown member, or a value of the wrong kind; names the line or the member.
    """
    try:
        content: dict[str, Any] = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(str(file), f"TOML: {error}") from error
    unknown = content.keys() - {field.name for field in msgspec.structs.fields(TicketRule)}
    if unknown:
        raise InvalidInput(min(unknown), "no such member; name, opens_at, group_by, settle_seconds, reopen_window_seconds")
    try:
        return msgspec.convert(content, TicketRule)
    except msgspec.ValidationError as error:
        raise InvalidInput(str(file), str(error)) from error


@clock.command("accept")
def accept_clock(data: DataOption = None) -> None:
    """Say that the wall clock is right although it was stepped; an event."""
    with opened(data, must_exist=True) as house:
        house.accept_clock()
    out.print("accepted")


@clock.callback()
def about_the_clock() -> None:
    """The wall clock, when it was stepped."""
