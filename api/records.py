"""Records over HTTP: lists, one record, opening one, and commands on it."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.responses import Response

from api.access import ADMINS, PEOPLE, READERS, WORKERS, Principal
from api.commands import (
    COMMANDS_OF,
    KINDS,
    Body,
    Context,
    OpenIncident,
    SubmitRequest,
    open_incident,
    shown,
    submit_request,
)
from api.door import allow, directory_of, house_of
from api.kafka_front import front_of, is_queued
from api.problem import MEDIA_TYPE, NoSuchBasis, TooLarge
from api.reading import WAIT_SECONDS, answer, page_of, plain, read
from api.writing import execute, expect_version
from engine.delivery import Delivery, DeliveryReceived, DeliveryRejected
from engine.errors import InvalidInput, NotAllowed, NotFound
from engine.identity import stream_id
from engine.person import AccessDay, BodyRead, Role
from engine.ticket import Ticket
from engine.work import Unit, Work
from monitors.json_body import read_json
from projections import alert_page, changes, delivery_page, queue_page, sources
from projections.page import Page
from projections.queue_page import QueueFilter
from projections.ticket_row import TicketRow
from projections.views import Reader

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"description": text, "content": {MEDIA_TYPE: {}}}
    for code, text in {
        400: "Not readable", 401: "Who are you?", 403: "Not allowed", 404: "Not found", 409: "Not possible in this state",
        412: "Changed meanwhile", 422: "A value is missing or wrong", 503: "Try again",
    }.items()
}


# A description may be 100,000 characters long; nothing that a person says is longer.
MOST_COMMAND_BYTES: Final = 1024 * 1024


class _StrictRequest(Request):
    """Reads a body once, bounded, and its JSON as strictly as intake does: duplicate keys, NUL and lone surrogates are named."""

    async def bounded_body(self) -> bytes:
        """Raises: TooLarge."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.stream():
            size += len(chunk)
            if size > MOST_COMMAND_BYTES:
                raise TooLarge(MOST_COMMAND_BYTES)
            chunks.append(chunk)
        self._body = b"".join(chunks)  # where `body` finds it
        return self._body

    async def json(self) -> Any:
        if not hasattr(self, "_document"):
            self._document = read_json(await self.body())
        return self._document


class StrictRoute(APIRoute):
    """A route whose JSON body is read strictly, before the framework would turn a fault into a general one."""

    def get_route_handler(self) -> Any:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            # A body here is JSON, whatever a client calls it: curl's `-d` calls it a form.
            headers = [*(pair for pair in request.scope["headers"] if pair[0] != b"content-type"), (b"content-type", b"application/json")]
            asked = _StrictRequest({**request.scope, "headers": headers}, request.receive)
            if request.method == "POST" and await asked.bounded_body():
                await asked.json()
            response: Response = await handler(asked)
            return response

        return strict


def only_recorded(basis: Annotated[str, Query(description="`occurred` exists for history and measures only")] = "recorded") -> None:
    """Raises: NoSuchBasis: these views know what was recorded, not when it was true."""
    if basis != "recorded":
        raise NoSuchBasis(f"basis: expected recorded; this view can't be asked by {basis}")


router = APIRouter(
    prefix="/api/v1", tags=["records"], route_class=StrictRoute, responses=PROBLEMS, dependencies=[Depends(only_recorded)]
)

Reads = Annotated[Principal, Depends(allow(READERS))]
Writes = Annotated[Principal, Depends(allow(WORKERS))]
Anyone = Annotated[Principal, Depends(allow(PEOPLE))]
Administers = Annotated[Principal, Depends(allow(ADMINS))]
AsOf = Annotated[str | None, Query(description="what was known at this instant (RFC 3339), or at this log position")]
Cursor = Annotated[str | None, Query(description="`next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500)]


def ticket_filter(
    kind: Annotated[str | None, Query()] = None,
    priority: Annotated[str | None, Query()] = None,
    service: Annotated[str | None, Query()] = None,
    team: Annotated[str | None, Query()] = None,
    assignee: Annotated[str | None, Query(description="login or address, or `nobody`")] = None,
    state: Annotated[str | None, Query()] = None,
    meaning: Annotated[str | None, Query()] = None,
    source: Annotated[str | None, Query()] = None,
) -> dict[str, Any]:
    """The filters of ticket lists, as they stand in the address."""
    values = {
        "kind": kind, "priority": priority, "service": service, "team": team, "assignee": assignee, "state": state,
        "meaning": meaning, "source": source,
    }
    return {name: value for name, value in values.items() if value is not None}


Filters = Annotated[dict[str, Any], Depends(ticket_filter)]


async def filter_of(request: Request, values: dict[str, Any]) -> QueueFilter:
    """Raises: InvalidInput: a value outside its closed set, or an assignee that nobody is known by."""
    assignee = values.get("assignee")
    if assignee is not None and assignee != queue_page.NOBODY:
        values = {**values, "assignee": await person_of(request, "assignee", assignee)}
    return QueueFilter(**values)


async def person_of(request: Request, field: str, handle: str) -> UUID:
    """Raises: InvalidInput: nobody is known by this login, address or id."""
    try:
        return UUID(handle)
    except ValueError:
        found = await asyncio.to_thread(directory_of(request).person_of, handle)
    if found is None:
        raise InvalidInput(field, "a login, an address or a person's id")
    return found


# -- tickets -----------------------------------------------------------------------------------------------------------


@router.get("/queue", tags=["views"], summary="What needs somebody, now or as of an instant")
async def work_queue(
    request: Request, _: Reads, filters: Filters, as_of: AsOf = None, sort: str = queue_page.DEFAULT_SORT, cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Open tickets, by default by priority and then oldest first."""
    chosen = await filter_of(request, filters)
    page = await read(
        request,
        lambda reader, at: queue_page.queue(reader, filters=chosen, sort=sort, as_of=at, cursor=cursor, limit=limit),
        as_of=as_of,
    )
    return answer(page_of(page), headers={"Tocsin-Position": str(page.position)})


async def one_ticket(request: Request, principal: Principal, number: str, as_of: str | None = None) -> TicketRow:
    """A ticket that this principal may see.

    Raises:
        NotFound: no such ticket by then, or a requester asks for somebody else's.
    """
    row = await read(request, lambda reader, at: queue_page.ticket(reader, number, as_of=at), as_of=as_of)
    if row is None or (principal.role is Role.REQUESTER and row.requester_id != principal.person):
        raise NotFound("ticket", number)
    return row


@router.get("/tickets/{number}", tags=["views"], summary="A ticket, now or as of an instant")
async def ticket(request: Request, principal: Anyone, number: str, as_of: AsOf = None) -> Response:
    row = await one_ticket(request, principal, number, as_of)
    return answer(plain(row), headers={"ETag": f'"{row.version}"'})


async def _list(
    request: Request, kind: str, filters: dict[str, Any], sort: str, as_of: str | None, cursor: str | None, limit: int
) -> Response:
    chosen = await filter_of(request, {**filters, "kind": kind})
    page = await read(
        request,
        lambda reader, at: queue_page.tickets(reader, filters=chosen, sort=sort, as_of=at, cursor=cursor, limit=limit),
        as_of=as_of,
    )
    return answer(page_of(page), headers={"Tocsin-Position": str(page.position)})


@router.get("/incidents", summary="Incidents, closed ones included")
async def list_incidents(
    request: Request, _: Reads, filters: Filters, as_of: AsOf = None, sort: str = "newest", cursor: Cursor = None, limit: Limit = 50
) -> Response:
    return await _list(request, "incident", filters, sort, as_of, cursor, limit)


@router.get("/requests", summary="Service requests, closed ones included")
async def list_requests(
    request: Request, _: Reads, filters: Filters, as_of: AsOf = None, sort: str = "newest", cursor: Cursor = None, limit: Limit = 50
) -> Response:
    return await _list(request, "request", filters, sort, as_of, cursor, limit)


async def _one(request: Request, principal: Principal, kind: str, number: str, as_of: str | None) -> Response:
    row = await one_ticket(request, principal, number, as_of)
    if row.kind != kind:
        raise NotFound(kind, number)
    return answer(plain(row), headers={"ETag": f'"{row.version}"'})


@router.get("/incidents/{number}", summary="An incident, now or as of an instant")
async def get_incident(request: Request, principal: Anyone, number: str, as_of: AsOf = None) -> Response:
    return await _one(request, principal, "incident", number, as_of)


@router.get("/requests/{number}", summary="A service request, now or as of an instant")
async def get_request(request: Request, principal: Anyone, number: str, as_of: AsOf = None) -> Response:
    return await _one(request, principal, "request", number, as_of)


def context_of(request: Request, principal: Principal, work: Work, linked: Mapping[str, UUID] | None = None) -> Context:
    """What a command of this principal needs."""
    return Context(work=work, person=principal.person, handle=directory_of(request).handle, linked=linked or {})


async def linked_by(request: Request, body: Body) -> dict[str, UUID]:
    """The tickets that a command's body names, as far as they exist."""
    number = getattr(body, "to", None)
    if not number:
        return {}
    target = await read(request, lambda reader, _: queue_page.ticket_id(reader, number.strip().upper()))
    return {number: target[1]} if target else {}


@router.post("/incidents", status_code=201, summary="Open an incident")
async def post_incident(request: Request, principal: Writes, body: OpenIncident) -> Response:
    def decide(work: Work) -> tuple[int, Ticket, dict[str, Any]]:
        incident = open_incident(body, context_of(request, principal, work))
        return 201, incident, shown(work, incident, alerts=[], links=[])

    return (await execute(request, principal, decide)).response()


@router.post("/requests", status_code=201, summary="Submit a service request")
async def post_request(request: Request, principal: Anyone, body: SubmitRequest) -> Response:
    """An agent submits it on behalf of the requester; a requester for themselves."""
    if principal.role is Role.AUDITOR:
        raise NotAllowed("the role auditor may not do this")
    if principal.role is Role.REQUESTER and await asyncio.to_thread(directory_of(request).person_of, body.requester) != principal.person:
        raise NotAllowed("a requester submits requests for themselves only")

    def decide(work: Work) -> tuple[int, Ticket, dict[str, Any]]:
        submitted = submit_request(body, context_of(request, principal, work))
        return 201, submitted, shown(work, submitted, alerts=[], links=[])

    return (await execute(request, principal, decide)).response()


async def command(request: Request, principal: Principal, kind: str, number: str, name: str, content: Any) -> Response:
    """Run one command on one ticket.

    Raises:
        NotFound: no such ticket, or no such command.
        InvalidInput, IllegalTransition, StaleVersion: nothing was recorded.
    """
    known = COMMANDS_OF[kind].get(name)
    if known is None:
        raise NotFound("command", f"{name}; there are {', '.join(COMMANDS_OF[kind])}")
    shape, act = known
    body = parsed(shape, content)
    row = await found(request, number)
    if row.kind != kind:
        raise NotFound(kind, number)
    linked = await linked_by(request, body)

    def decide(work: Work) -> tuple[int, Ticket, dict[str, Any]]:
        record = work.load(KINDS[kind], row.id)
        expect_version(request, work, record)
        act(record, body, context_of(request, principal, work, linked))
        links = [{"number": link.number, "relation": link.relation} for link in row.links]
        return 200, record, shown(work, record, alerts=row.alerts, links=links)

    return (await execute(request, principal, decide)).response()


async def found(request: Request, number: str) -> TicketRow:
    """The ticket of this number, also one that was opened a moment ago.

    Raises:
        NotFound: there is none.
    """

    def ask(reader: Reader, _: int | None) -> TicketRow | None:
        return queue_page.ticket(reader, number)

    row = await read(request, ask)
    if row is None:
        await request.app.state.runner.reached(house_of(request).ledger.last_position, WAIT_SECONDS)
        row = await read(request, ask)
    if row is None:
        raise NotFound("ticket", number)
    return row


def parsed(shape: type[Body], content: Any) -> Body:
    """A command's body.

    Raises:
        InvalidInput: names the first member that is missing, unknown or wrong.
    """
    try:
        return shape.model_validate({} if content is None else content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(".".join(str(part) for part in first["loc"]) or "$", first["msg"]) from None


async def _content(request: Request) -> Any:
    body = await request.body()
    return read_json(body) if body else None


@router.post("/incidents/{number}/{name}", summary="Act on an incident")
async def act_on_incident(request: Request, principal: Writes, number: str, name: str) -> Response:
    """`acknowledge`, `assign`, `comment`, `escalate`, `hold`, `resume`, `set-priority`, `set-impact`, `resolve`, `reopen`, `close`, `cancel`, `link`."""
    return await command(request, principal, "incident", number, name, await _content(request))


@router.post("/requests/{number}/{name}", summary="Act on a service request")
async def act_on_request(request: Request, principal: Writes, number: str, name: str) -> Response:
    """As on an incident (without `set-impact` and `resolve`), and `approve`, `decline`, `fulfil`."""
    return await command(request, principal, "request", number, name, await _content(request))


# -- what monitors sent ------------------------------------------------------------------------------------------------


@router.get("/alerts", summary="Alerts")
async def list_alerts(
    request: Request, _: Reads, firing: bool | None = None, severity: str | None = None, service: str | None = None,
    source: str | None = None, incident: str | None = None, as_of: AsOf = None, cursor: Cursor = None, limit: Limit = 50,
) -> Response:
    def ask(reader: Reader, at: int | None) -> Page[Any]:
        chosen = alert_page.AlertFilter(firing=firing, severity=severity, service=service, source=source, incident=incident)
        return alert_page.alerts(reader, filters=chosen, as_of=at, cursor=cursor, limit=limit)

    return answer(page_of(await read(request, ask, as_of=as_of)))


@router.get("/alerts/{number}", summary="An alert with its episodes")
async def get_alert(request: Request, _: Reads, number: str, as_of: AsOf = None) -> Response:
    row = await read(request, lambda reader, at: alert_page.alert(reader, number, as_of=at), as_of=as_of)
    if row is None:
        raise NotFound("alert", number)
    return answer(plain(row))


@router.get("/deliveries", summary="Deliveries, rejected ones included")
async def list_deliveries(
    request: Request, _: Reads, source: str | None = None, rejected: bool | None = None, as_of: AsOf = None,
    cursor: Cursor = None, limit: Limit = 50,
) -> Response:
    page = await read(
        request,
        lambda reader, at: delivery_page.deliveries(reader, source=source, rejected=rejected, as_of=at, cursor=cursor, limit=limit),
        as_of=as_of,
    )
    return answer(page_of(page))


@router.get("/deliveries/{delivery}", summary="What was made of a delivery")
async def get_delivery(request: Request, principal: Annotated[Principal, Depends(allow(READERS | {Role.MONITOR}))], delivery: UUID, queued: str | None = None) -> Response:
    """Also for the monitor whose delivery it is. `queued`, of the address given at the receipt, tells one that waits from an unknown one."""
    record = await asyncio.to_thread(house_of(request).ledger.get, Delivery, delivery)
    said = record.received or record.rejected
    if said is None and _waits(request, principal, delivery, queued):
        return answer({"id": str(delivery), "state": "queued"})
    if said is None or (principal.role is Role.MONITOR and principal.source != said.source):
        raise NotFound("delivery", str(delivery))
    return answer(delivery_shape(delivery, said))


def _waits(request: Request, principal: Principal, delivery: UUID, mark: str | None) -> bool:
    """Whether the delivery was accepted and lies in Kafka."""
    front = front_of(request.app)
    source = principal.source if principal.role is Role.MONITOR else None
    return is_queued(house_of(request).vault, delivery, mark) or (front is not None and front.has_accepted(delivery, source))


def delivery_shape(delivery: UUID, said: DeliveryReceived | DeliveryRejected) -> dict[str, Any]:
    """A delivery with what was decided, observation by observation."""
    shape: dict[str, Any] = {
        "id": str(delivery), "source": said.source, "adapter": said.adapter, "received_at": said.received_at,
        "length": said.length, "body_kept": said.body is not None, "content_type": said.content_type,
    }
    if isinstance(said, DeliveryRejected):
        shape |= {"state": "rejected", "path": said.path, "reason": said.reason, "status": said.status, "truncated": said.truncated}
    else:
        observations = [
            {
                "disposition": event.disposition, "alert": event.alert_number, "incident": event.incident_number,
                "number": event.number, "rule": event.rule, "rule_version": event.rule_version, "observation": event.observation,
            }
            for event in said.monitoring_events
        ]
        shape |= {"state": "decided", "lost": said.lost, "identity": said.identity, "observations": observations}
    result: dict[str, Any] = plain(shape)
    return result


@router.get("/deliveries/{delivery}/body", summary="The exact bytes of a delivery (admin; the read is an event)")
async def get_body(request: Request, principal: Administers, delivery: UUID) -> Response:
    house = house_of(request)
    record = await asyncio.to_thread(house.ledger.get, Delivery, delivery)
    said = record.received or record.rejected
    if said is None:
        raise NotFound("delivery", str(delivery))
    content = await asyncio.to_thread(house.intake.body, said.body) if said.body else (None if said.length else b"")
    if content is None:
        raise NotFound("kept body of delivery", str(delivery))

    def decide(work: Work) -> None:
        day = work.load(AccessDay, stream_id("access", work.now.date().isoformat()))
        day.record(BodyRead(delivery=delivery, at=work.now))

    await house.ledger.commit(Unit(decide, actor=principal.actor))
    # Whatever a monitor sent, a browser only ever saves it.
    headers = {"Content-Disposition": f'attachment; filename="{delivery}"'}
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.get("/monitoring-events", summary="Monitoring events: every observation and what was decided")
async def list_monitoring_events(
    request: Request, _: Reads, source: str | None = None, disposition: str | None = None, alert: str | None = None,
    as_of: AsOf = None, cursor: Cursor = None, limit: Limit = 50,
) -> Response:
    page = await read(
        request,
        lambda reader, at: delivery_page.monitoring_events(
            reader,
            filters=delivery_page.MonitoringEventFilter(source=source, disposition=disposition, alert=alert),
            as_of=at, cursor=cursor, limit=limit,
        ),
        as_of=as_of,
    )
    return answer(page_of(page))


@router.get("/changes", summary="Recorded changes")
async def list_changes(request: Request, _: Reads, as_of: AsOf = None, cursor: Cursor = None, limit: Limit = 50) -> Response:
    page = await read(request, lambda reader, at: changes.changes(reader, as_of=at, cursor=cursor, limit=limit), as_of=as_of)
    return answer(page_of(page))


@router.get("/changes/{number}", summary="A recorded change")
async def get_change(request: Request, _: Reads, number: str) -> Response:
    row = await read(request, lambda reader, _: changes.change(reader, number))
    if row is None:
        raise NotFound("change", number)
    return answer(plain(row))


@router.get("/sources", summary="Configured senders")
async def list_sources(request: Request, _: Reads) -> Response:
    """All of them, by name, on one page."""
    rows, position = await read(request, lambda reader, _: (sources.sources(reader), reader.position))
    return answer({"items": plain(rows), "next": None, "position": position})


@router.get("/sources/{name}", summary="A configured sender")
async def get_source(request: Request, _: Reads, name: str) -> Response:
    row = await read(request, lambda reader, _: sources.source(reader, name))
    if row is None:
        raise NotFound("source", name)
    return answer(plain(row))
