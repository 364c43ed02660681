"""The ticket page: what happened, how it stands, what may be done; and the same as of any of its events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from api.access import Principal
from api.attaching import ACCEPTED
from api.commands import KINDS
from api.console import instants, words
from api.console.forms import check_form, read_form
from api.console.language import gettext as _
from api.console.language import language
from api.console.layout import ConsoleRoute, Frame, frame, reading, reading_views, render, working
from api.console.time_left import time_left
from api.door import directory_of, house_of
from api.presence import Presence
from engine.clock import rfc3339
from engine.errors import NotFound
from engine.incident import RESOLUTION_CODES
from engine.person import Person
from engine.request import ServiceRequest
from engine.rulebook import RULEBOOK, Rulebook, filled
from engine.ticket import Relation, TicketCommentImported
from projections.alert_page import AlertFilter, alerts
from projections.changes import changes_before
from projections.history_page import HistoryItem, history
from projections.organisation import team_names
from projections.queue_page import ticket
from projections.search_page import similar
from projections.ticket_row import TicketRow
from projections.views import Reader
from projections.words import size_of

if TYPE_CHECKING:
    from api.console.act import Obstacle

router = APIRouter(route_class=ConsoleRoute)

EVENTS_A_READ: Final = 500
# A longer life than this is read through the interface; its page shows the beginning of it.
MOST_EVENTS: Final = 2_000
MOST_ALERTS: Final = 10
CHANGES_HOURS: Final = 4.0
MOST_CHANGES: Final = 5
MOST_ALIKE: Final = 3
MOST_PEOPLE: Final = 300
SLIDER: Final = 1_000
# People may relate tickets by hand in these ways; the successor is correlation's word.
LINKABLE: Final = tuple(relation.value for relation in Relation if relation is not Relation.SUCCESSOR_OF)


@dataclass(frozen=True, slots=True)
class Line:
    """One event of the timeline."""

    item: HistoryItem
    title: Markup
    said: Markup
    by_whom: Markup
    raw: str
    why_href: str
    claimed: datetime | None
    size: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The slider over a ticket's life.

    Attributes:
        at: which event the page shows last, from 1; `count` is now.
        ticks: (x of 1,000, whether it changed the course).
        positions: of each event, for the script.
    """

    at: int
    count: int
    first: datetime
    last: datetime
    ticks: tuple[tuple[float, bool], ...]
    positions: str
    moments: str
    said: str
    earlier: str | None
    later: str | None


@router.get("/console/tickets/{number}")
def show(request: Request, number: str, principal: Annotated[Principal, Depends(reading)]) -> Response:
    return ticket_page(request, principal, number, None)


@router.post("/console/tickets/{number}/writing")
async def writing(request: Request, number: str, principal: Annotated[Principal, Depends(working)]) -> Response:
    """A sign that somebody writes on this ticket, for others who have it open."""
    check_form(request, principal, await read_form(request))
    assert principal.person is not None, "a session is somebody's"
    presence: Presence = request.app.state.presence
    presence.write(number.upper(), principal.person)
    return Response(status_code=204)


@router.get("/console/tickets/{number}/reply/{template}")
def reply(request: Request, number: str, template: str, _who: Annotated[Principal, Depends(working)]) -> Response:
    """The text of one of the rulebook's templates, filled in for this ticket.

    Raises:
        NotFound: there is no such ticket or template.
    """
    with reading_views(request) as reader:
        row = ticket(reader, number.upper())
    if row is None:
        raise NotFound(_("ticket"), number)
    return Response(reply_text(request, row, template), media_type="text/plain", headers={"Cache-Control": "no-store"})


def ticket_page(request: Request, principal: Principal, number: str, obstacle: "Obstacle | None") -> Response:
    """One ticket, with what stood in the way of a form if there is something.

    Raises:
        NotFound: there is no such ticket, or there was none at that instant.
    """
    number = number.upper()
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "")
        around.path = f"/console/tickets/{number}"
        row = ticket(reader, number, as_of=around.moment.position)
        if row is None:
            if around.moment.past and ticket(reader, number) is not None:
                raise NotFound(_("ticket at that time:"), number)
            raise NotFound(_("ticket"), number)
        events, complete = _events(reader, number)
        seen = [item for item in events if around.moment.position is None or item.position <= around.moment.position]
        around.here = "requests" if row.kind == "request" else "incidents"
        members = alerts(reader, filters=AlertFilter(incident=number), as_of=around.moment.position, limit=MOST_ALERTS).items
        changed = changes_before(reader, row.opened_at, hours=CHANGES_HOURS, service=row.service, as_of=around.moment.position)
        teams = team_names(reader)
        alike = similar(reader, number, as_of=around.moment.position, limit=MOST_ALIKE) or []
    # A refusal names facts by type and time; their sentences stand in the history.
    told = {(item.type, item.recorded_at): item for item in events}
    changed_since = [(at, told.get((kind, at)), kind) for kind, at in obstacle.changes] if obstacle else []
    legal = legal_commands(row, principal) if around.may_write else frozenset[str]()
    logins = directory_of(request).logins() if legal else {}
    book = _rulebook(request)
    wanted = request.query_params.get("reply")
    prepared = reply_text(request, row, wanted) if wanted and "comment" in legal else ""
    fragment = request.query_params.get("fragment")
    return render(
        request, "ticket_parts.html" if fragment else "ticket.html", status=obstacle.status if obstacle else 200, frame=around,
        row=row, lines=[_line(item, row, around) for item in reversed(seen)], replay=_replay(around, row, events, seen),
        complete=complete, alerts=members, changes=[(change, _before(change.occurred_at, row.opened_at)) for change in changed[:MOST_CHANGES]],
        legal=legal, obstacle=obstacle, changed_since=changed_since, typed=obstacle.typed if obstacle else {}, open_command=obstacle.command if obstacle else "",
        teams=teams, people=sorted(logins.items(), key=lambda pair: pair[1])[:MOST_PEOPLE], logins=logins,
        codes=RESOLUTION_CODES, relations=LINKABLE, file_kinds=ACCEPTED, alike=alike, lasted=_lasted(row, around),
        replies=list(dict.fromkeys(template.name for template in book.templates)) if "comment" in legal else [], prepared=prepared,
        categories=sorted({decision.category for decision in book.decisions if decision.category}),
        left=time_left(row, around.moment.instant or around.now),
    )


def _events(reader: Reader, number: str) -> tuple[list[HistoryItem], bool]:
    """(the events of a ticket, oldest first; whether these are all)."""
    found: list[HistoryItem] = []
    cursor: str | None = None
    while len(found) < MOST_EVENTS:
        page = history(reader, number, cursor=cursor, limit=EVENTS_A_READ, translate=_)
        if page is None:
            break
        found += page.items
        cursor = page.next
        if cursor is None:
            return found, True
    return found, not found


def _rulebook(request: Request) -> Rulebook:
    return house_of(request).ledger.get(Rulebook, RULEBOOK)


def reply_text(request: Request, row: TicketRow, name: str) -> str:
    """A template of the rulebook in the requester's language, else in the reader's, filled in for a ticket.

    Raises:
        NotFound: there is no such template.
    """
    house = house_of(request)
    requester = house.ledger.get(Person, row.requester_id) if row.requester_id else None
    template = _rulebook(request).template(name, (requester and requester.language) or language())
    if template is None:
        raise NotFound(_("template"), name)
    link = f"{house.settings.address}/portal/t/{row.number}"
    return filled(template.text, {"number": row.number, "title": row.title, "name": row.requester or "", "link": link}).strip()


def legal_commands(row: TicketRow, principal: Principal) -> frozenset[str]:
    """What the ticket's state allows, by the engine's own guards."""
    record = KINDS[row.kind](row.id)
    record.requester = row.requester_id
    record.state_name, record.acknowledged, record.level = row.state, row.acknowledged_at is not None, row.level
    if isinstance(record, ServiceRequest):
        record.approved = bool(row.approved)
    legal = set(record.legal_commands())
    if "assign" in legal and row.assignee_id != principal.person:
        legal.add("take")
    if row.requester_id == principal.person:
        legal -= {"approve"}  # nobody approves their own request
    return frozenset(legal)


def _line(item: HistoryItem, row: TicketRow, around: Frame) -> Line:
    said = words.shown_lines(item.text) if item.text is not None else Markup("")
    if item.text is not None:
        of_requester = row.requester_id is not None and item.data.get("author") == str(row.requester_id)
        writer = (row.requester or item.actor) if of_requester else (item.author or item.actor)
        done = _("wrote, as the requester") if of_requester else _("wrote to the requester") if item.visibility == "public" else _("wrote to the team")
        title = Markup("<b>{}</b> {}").format(words.shown(writer), done)
        by_whom = Markup("{}").format(_("imported")) if item.type == TicketCommentImported.TOPIC else Markup("")
    elif item.file is not None:
        words_of = _("attached a file, for the requester too") if item.visibility == "public" else _("attached a file, for the team")
        title, by_whom = Markup("<b>{}</b> {}").format(words.shown(item.actor), words_of), Markup("")
    else:
        first, colon, rest = item.summary.partition(": ")
        title = Markup("<b>{}</b>{}").format(words.shown(first), Markup(": {}").format(words.shown(rest)) if colon else "")
        by_whom = _actor(item)
    claimed = item.occurred_at if abs((item.occurred_at - item.recorded_at).total_seconds()) >= 60 else None
    return Line(
        item=item, title=title, said=said, by_whom=by_whom, raw=raw_json(item), claimed=claimed,
        why_href=around.carry(f"/console/why/{row.number}?event={item.stream}:{item.version}"),
        size=size_of(item.file.length, _) if item.file else "",
    )


def _actor(item: HistoryItem) -> Markup:
    match item.actor_kind:
        case "person":
            return words.shown(item.actor)
        case "source":
            return Markup("{} {}").format(_("source"), words.shown(item.actor))
        case "visitor":
            return Markup("{}").format(_("by the portal, not signed in"))
        case "token":
            return Markup("{}").format(_("a program, by token"))
        case "timer":
            return Markup("{}").format(_("Tocsin, by timer"))
    return Markup("{}").format(_("Tocsin"))


def raw_json(item: HistoryItem) -> str:
    """The event as the log has it, for eyes."""
    envelope: dict[str, Any] = {
        "position": item.position, "type": item.type, "stream": str(item.stream), "version": item.version,
        "recorded_at": rfc3339(item.recorded_at), "actor": (item.actor_id and f"{item.actor_kind}:{item.actor_id}") or item.actor_kind,
        "cause": item.cause, "data": item.data,
    }
    text = msgspec.json.format(msgspec.json.encode(envelope), indent=2).decode()
    return "".join(character if character == "\n" else words.plain(character) for character in text) if not text.isascii() else text


def _replay(around: Frame, row: TicketRow, events: Sequence[HistoryItem], seen: Sequence[HistoryItem]) -> Replay | None:
    # What led to its opening belongs to the timeline, but there was no ticket yet that could be shown.
    opening = next((item.position for item in events if item.stream == row.id and item.version == 1), 0)
    events, seen = ([item for item in some if item.position >= opening] for some in (events, seen))
    if len(events) < 2 or not seen:
        return None
    count, at = len(events), len(seen)

    def href(index: int) -> str:
        if index == count:
            return around.back_to_now
        return around.with_query(as_of=None, as_of_position=str(events[index - 1].position))

    shown_now = seen[-1]
    return Replay(
        at=at, count=count, first=events[0].recorded_at, last=events[-1].recorded_at,
        ticks=tuple((round(index * SLIDER / (count - 1), 1), item.key) for index, item in enumerate(events)),
        positions=" ".join(str(item.position) for item in events),
        moments="\n".join(
            f"{instants.short_form(item.recorded_at, around.now)} · {words.plain(item.summary)[:120]}" for item in events
        ),
        said=f"{instants.short_form(shown_now.recorded_at, around.now)} · {words.plain(shown_now.summary)[:120]}",
        earlier=href(at - 1) if at > 1 else None, later=href(at + 1) if at < count else None,
    )


def _before(changed_at: datetime, opened_at: datetime) -> str:
    return instants.span((opened_at - changed_at).total_seconds())


def _lasted(row: TicketRow, around: Frame) -> str:
    """How long it took, or has been open."""
    end = row.resolved_at or around.moment.instant or around.now
    return instants.span((end - row.opened_at).total_seconds())
