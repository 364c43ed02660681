"""`tocsin recipient` and `tocsin notify`: who can be told, a test of it, and what waits or could not be sent."""

import asyncio
import json
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from api.command.opening import DataOption, JsonOption, opened, viewed
from api.notices.message import TEST, Message
from api.notices.sender import Channels
from api.notices.signature import checked_secret, new_secret
from api.outbox import retry as retry_letter
from api.reading import plain
from engine.errors import InvalidInput, NotFound, TocsinError
from engine.recipient import Channel, Recipient, Shape, recipient_id
from engine.work import Unit, Work
from projections import outbox
from projections.page import MOST_ON_A_PAGE

out = Console(highlight=False, soft_wrap=True, markup=False)

recipients = typer.Typer()
notify = typer.Typer()

MailOption = Annotated[str | None, typer.Option("--mail", metavar="ADDRESS", help="Tell it by mail", show_default=False)]
WebhookOption = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="Tell it by webhook", show_default=False)]
ShapeOption = Annotated[Shape, typer.Option("--shape", help="What its webhook takes")]
LanguageOption = Annotated[str, typer.Option("--language", help="Of the text")]
SecretOption = Annotated[
    str | None, typer.Option("--secret", metavar="whsec_…", help="Sign webhooks with this instead of a new secret", show_default=False)
]


class Refusing(TocsinError):
    """The receiver did not take a test."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(recipients, name="recipient", help="Who can be told of tickets.", no_args_is_help=True)
    app.add_typer(notify, name="notify", help="Notices: a test, what waits, dead letters.", no_args_is_help=True)


@recipients.command("add")
def add(
    name: Annotated[str, typer.Argument(help="The name by which the rulebook knows it")],
    address: MailOption = None,
    webhook: WebhookOption = None,
    shape: ShapeOption = Shape.TOCSIN,
    language: LanguageOption = "en",
    secret: SecretOption = None,
    data: DataOption = None,
) -> None:
    """Make a recipient known; its address is sealed and not shown again."""
    _recorded(name, address, webhook, shape, language, secret, data, change=False)


@recipients.command("change")
def change(
    name: str,
    address: MailOption = None,
    webhook: WebhookOption = None,
    shape: ShapeOption = Shape.TOCSIN,
    language: LanguageOption = "en",
    secret: SecretOption = None,
    data: DataOption = None,
) -> None:
    """Lead a name elsewhere; a webhook gets a new secret unless one is given."""
    _recorded(name, address, webhook, shape, language, secret, data, change=True)


def _recorded(
    name: str, address: str | None, webhook: str | None, shape: Shape, language: str, secret: str | None, data: Any, *, change: bool
) -> None:
    if (address is None) == (webhook is None):
        raise InvalidInput("recipient", "either --mail ADDRESS or --webhook URL")
    made = None
    if secret is not None:
        checked_secret(secret)
    elif webhook is not None and shape is Shape.TOCSIN:
        secret = made = new_secret()
    values: dict[str, Any] = {
        "channel": Channel.MAIL if address is not None else Channel.WEBHOOK, "target": address or webhook or "", "secret": secret or "",
        "shape": shape, "language": language,
    }

    def decide(work: Work) -> str:
        recipient = work.load(Recipient, recipient_id(name))
        if change:
            _known(recipient, name).change(**values)
        else:
            recipient.add(name=name, **values)
        return recipient.place

    with opened(data) as house:
        place = house.ledger.run(Unit(decide, actor="tocsin"))
    out.print(f"{name} is told at {place}; try it: tocsin notify test {name}")
    if made is not None:
        out.print(f"signing secret (shown this once): {made}")


def _known(recipient: Recipient, name: str) -> Recipient:
    if not recipient.active:
        raise NotFound("recipient", name)
    return recipient


@recipients.command("list")
def list_recipients(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Who can be told; addresses are shown in part only."""
    with viewed(data) as (_, runner), runner.views.reader() as reader:
        rows = outbox.recipients(reader)
    if as_json:
        out.print(json.dumps(plain(rows), ensure_ascii=False))
        return
    _print(("name", "by", "leads to", "language"), [
        (row.name, row.channel if row.channel == Channel.MAIL else row.shape, row.place, row.language) for row in rows
    ])


@recipients.command("remove")
def remove(name: str, data: DataOption = None) -> None:
    """Tell it nothing more."""
    with opened(data, must_exist=True) as house:
        house.ledger.run(Unit(lambda work: _known(work.load(Recipient, recipient_id(name)), name).remove(), actor="tocsin"))
    out.print(f"{name} is told nothing more")


@notify.command("test")
def send_test(name: Annotated[str, typer.Argument(metavar="RECIPIENT")], data: DataOption = None) -> None:
    """Send a test notice now and say what the receiver answered."""
    with opened(data, must_exist=True) as house:
        recipient = _known(house.ledger.get(Recipient, recipient_id(name)), name)

        def message(work: Work) -> Message:
            return Message(id=work.new_id(), purpose=TEST, thread=recipient.id, at=work.now, language=recipient.language)

        made = house.ledger.run(Unit(message, actor="tocsin"))
        outcome = asyncio.run(Channels(house.settings, house.clock).send(recipient, made))

        def note(work: Work) -> None:
            work.load(Recipient, recipient.id).tested(outcome=outcome.word, answer=outcome.said)

        house.ledger.run(Unit(note, actor="tocsin"))
    if not outcome.sent:
        raise Refusing(f"{name} ({recipient.place}): {outcome.said}")
    out.print(f"sent to {name} ({recipient.place}): {outcome.said}")


@notify.command("list")
def list_notices(
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters")] = False, as_json: JsonOption = False, data: DataOption = None
) -> None:
    """Notices, the latest first."""
    with viewed(data) as (_, runner), runner.views.reader() as reader:
        rows = outbox.notices(reader, status="dead" if dead else None, limit=100).items
    if as_json:
        out.print(json.dumps(plain(rows), ensure_ascii=False))
        return
    _print(("notice", "ticket", "recipient", "why", "status", "attempts", "said"), [
        (str(row.id), row.number, row.recipient, row.purpose, row.status, str(row.attempts), row.said) for row in rows
    ])


@notify.command("retry")
def retry(
    notice: Annotated[str | None, typer.Argument(metavar="ID", show_default=False)] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="Every dead letter")] = False,
    data: DataOption = None,
) -> None:
    """Try a dead letter again; a running server sends it at once, another one when it starts."""
    if (notice is None) != all_of_them:
        raise InvalidInput("retry", "either a notice's ID or --all")
    with viewed(data) as (house, runner):
        rows = _dead(runner.views) if notice is None else [_one(runner.views, notice)]
        for row in rows:
            house.ledger.run(Unit(lambda work, row=row: retry_letter(work, row), actor="tocsin"))  # type: ignore[misc]  # bound per row
    out.print(f"{len(rows)} tried again")


def _dead(views: Any) -> list[outbox.NoticeRow]:
    found: list[outbox.NoticeRow] = []
    cursor = None
    with views.reader() as reader:
        while True:
            page = outbox.notices(reader, status="dead", cursor=cursor, limit=MOST_ON_A_PAGE)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found


def _one(views: Any, notice: str) -> outbox.NoticeRow:
    with views.reader() as reader:
        try:
            row = outbox.notice(reader, UUID(notice))
        except ValueError:
            row = None
    if row is None:
        raise NotFound("notice", notice)
    return row


def _print(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    out.print(table)
