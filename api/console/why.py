"""The why page: the chain of facts and rules behind a value or an event, ending in something from outside."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from markupsafe import Markup
from starlette.responses import Response

from api.access import Principal
from api.console import words
from api.console.language import gettext as _
from api.console.language import mark
from api.console.layout import ConsoleRoute, frame, reading, reading_views, render
from api.console.telling import sentence_of
from api.console.ticket import raw_json
from engine.delivery import DeliveryReceived
from engine.errors import InvalidInput, NotFound
from engine.event import Fact
from projections.history_page import HistoryItem, items
from projections.views import Reader
from projections.why import LONGEST_CHAIN, why

router = APIRouter(route_class=ConsoleRoute)

FIELDS: Final = {
    "state": mark("State"), "priority": mark("Priority"), "impact": mark("Impact"), "urgency": mark("Urgency"),
    "team": mark("Team"), "assignee": mark("With"), "level": mark("Support level"), "service": mark("Service"),
    "title": mark("Title"), "resolved_at": mark("Resolved"), "recovered": mark("Recovered"), "links": mark("Links"),
    "requester": mark("Requester"), "opened_at": mark("Opened"), "number": mark("Number"), "firing": mark("Firing"),
    "severity": mark("Severity"), "acknowledged": mark("Acknowledged"), "started_at": mark("Started"),
    "ended_at": mark("Ended"), "incident": mark("Incident"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One fact of a chain.

    Attributes:
        rule: the rule that decided it, with its version.
        href: where it can be looked at, if it has a page.
        outside: it came from outside: nothing in the log led to it.
    """

    item: HistoryItem
    title: Markup
    by_whom: str
    rule: str
    href: str
    outside: bool
    raw: str


@router.get("/console/why/{number}")
def why_page(
    request: Request, number: str, principal: Annotated[Principal, Depends(reading)], field: str | None = None, event: str | None = None
) -> Response:
    """Why a field of a ticket or alert has its value (`field`), or why an event happened (`event`)."""
    number = number.upper()
    with reading_views(request) as reader:
        around = frame(request, principal, reader, "")
        if event is not None:
            facts = _chain(reader, event, around.moment.position)
            chains = [("", _("What led to this"), _steps(reader, facts))]
        else:
            explained = why(reader, number, field or "state", as_of=around.moment.position)
            chains = []
            for one in explained:
                found = [_fact(reader, f"{reason.stream}:{reason.version}") for reason in one.chain]
                steps = _steps(reader, [fact for fact in found if fact is not None])
                chains.append((one.field, _value(one.field, one.value), steps))
    return render(
        request, "why.html", frame=around, number=number, field=field or ("" if event else "state"), chains=chains, fields=FIELDS,
        home=around.carry(f"/console/{'alerts' if number.startswith('ALT-') else 'tickets'}/{number}"),
    )


def _value(field: str, value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if field == "state" and isinstance(value, str):
        return words.word(words.STATES, value)
    return words.plain(str(value)) if value not in (None, "", []) else _("nothing")


def _chain(reader: Reader, reference: str, at: int | None) -> list[Fact]:
    """The fact and what led to it, back to what came from outside.

    Raises:
        InvalidInput: not the reference of an event.
        NotFound: there is no such event.
    """
    chain: list[Fact] = []
    found: Fact | None = _fact(reader, reference)
    if found is None or (at is not None and found.position > at):
        raise NotFound(_("event"), reference)
    while found is not None and len(chain) < LONGEST_CHAIN:
        chain.append(found)
        found = _fact(reader, found.cause) if found.cause else None
    return chain


def _fact(reader: Reader, reference: str) -> Fact | None:
    stream, _colon, version = reference.rpartition(":")
    try:
        stream_id, number = UUID(stream), int(version)
        if not 0 < number < 2**31:
            raise ValueError
    except ValueError:
        raise InvalidInput("event", _("an event as STREAM:VERSION")) from None
    rows = reader.ledger.store.stream(stream_id.bytes, after=number - 1, upto=number)
    return reader.ledger.fact(rows[0]) if rows else None


def _steps(reader: Reader, facts: list[Fact]) -> list[Step]:
    steps = []
    for fact, item in zip(facts, items(reader, facts, _), strict=True):
        title, href = words.shown(sentence_of(fact, item)), ""
        if item.text is not None:
            title = Markup("{}: {}").format(words.shown(item.summary), words.shown_lines(item.text))
        if isinstance(fact.event, DeliveryReceived):
            href = f"/console/deliveries/{fact.stream_id}"
        rule = getattr(fact.event, "rule", None)
        version = getattr(fact.event, "rule_version", None)
        steps.append(
            Step(
                item=item, title=title, by_whom=item.actor, href=href, outside=fact.cause is None, raw=raw_json(item),
                rule=_("rule “%(rule)s”, version %(version)s") % {"rule": words.plain(rule), "version": version}
                if isinstance(rule, str) and version is not None else "",
            )
        )
    return steps
