"""Where monitors post: each source's own hook, and the APIs that we imitate so that senders need no change.

A 2xx is answered after the commit. What cannot be read is kept with the reason and answered in the sender's own terms.
"""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import SENDERS, Principal
from api.door import bearer, directory_of, house_of, identify
from api.kafka_front import Front, front_of
from api.kafka_reader import count
from api.measures import DELIVERIES
from api.problem import MEDIA_TYPE, RETRY_AFTER_SECONDS, TooLarge, Unauthenticated
from engine.delivery import MonitoringEvent
from engine.errors import InvalidInput, MalformedDelivery, NotAllowed, Overloaded, StoreUnavailable
from engine.person import Role
from monitors.adapter import Adapter
from monitors.intake import KEPT_OF_TOO_LARGE, Intake, Receipt, Rejected
from monitors.integrations import alertmanager_api, pagerduty
from monitors.json_body import read_json
from monitors.kafka_record import mark_of

router = APIRouter(tags=["intake"])
JSON: Final = "application/json"
PAGERDUTY_MAX_BYTES: Final = 512 * 1024
LONGEST_IDENTITY: Final = 255
ROUTING_KEY: Final = re.compile(rb'"routing_key"\s*:\s*"([!#-\[\]-~]{1,255})"')
# The same source speaks both: its change events come by another endpoint.
PAGERDUTY_CHANGES: Final = replace(pagerduty.ADAPTER, parse=pagerduty.parse_change)

_encode = msgspec.json.Encoder().encode

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"description": text, "content": {MEDIA_TYPE: {}}}
    for code, text in {
        400: "Not readable", 401: "No known token", 403: "The token is another source's", 404: "No such source",
        413: "Too large", 422: "Wrong shape", 503: "Nothing was stored; try again",
    }.items()
}


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_IDENTITY:
        raise InvalidInput("Idempotency-Key", f"1 to {LONGEST_IDENTITY} characters")
    return key


async def _sender(request: Request) -> Principal:
    """The monitor whose token this is (or an admin)."""
    principal = await identify(request)
    if principal is None or principal.person is not None:
        if bearer(request):
            await directory_of(request).refuse("unknown_token", "intake")
        raise Unauthenticated("a source's token is needed: Authorization: Bearer …, basic auth password, or ?token=")
    if principal.role not in SENDERS:
        await directory_of(request).refuse("role", "intake", principal)
        raise NotAllowed(f"the role {principal.role} may not deliver")
    return principal


async def _receive(request: Request, source: str, *, adapter: Adapter | None = None, limit: int | None = None) -> Receipt:
    house = house_of(request)
    content_type = request.headers.get("content-type", "")
    async with _body(request, source, adapter=adapter, limit=limit) as body:
        return await counted(
            house.intake, source, body, content_type=content_type, identity=_idempotency_key(request), adapter=adapter
        )


@asynccontextmanager
async def _body(request: Request, source: str, *, adapter: Adapter | None = None, limit: int | None = None) -> AsyncIterator[bytes]:
    """The body, up to the limit; the beginning of a larger one is kept."""
    limit = limit or house_of(request).settings.max_body_bytes
    try:
        async with request.app.state.bodies.of(request, limit) as body:
            yield body
    except TooLarge as error:
        raise TooLarge(limit, str(await _too_large(request, source, limit, adapter))) from error


async def _queue(request: Request, source: str, front: Front) -> Response:
    """Read a delivery and put it into Kafka; what cannot be read is refused as ever."""
    key = _idempotency_key(request)
    async with _body(request, source) as body:
        try:
            heard = await house_of(request).intake.hear(source, body, content_type=request.headers.get("content-type", ""), identity=key)
        except Rejected:
            count(None)
            raise
        delivery = await front.accept(heard, key)
    DELIVERIES.labels("queued").inc()
    mark = mark_of(house_of(request).vault, delivery)
    headers = {"Location": f"/api/v1/deliveries/{delivery}?queued={mark}"}
    return Response(_encode({"delivery": str(delivery), "observations": None}), 202, media_type=JSON, headers=headers)


async def _too_large(request: Request, source: str, limit: int, adapter: Adapter | None) -> UUID:
    """Keep the beginning of a body over the limit, with its size; the delivery."""
    intake = house_of(request).intake
    name = adapter.name if adapter else (await intake.profile_of(source)).adapter
    DELIVERIES.labels("rejected").inc()
    return await intake.reject(
        source, request.state.beginning[:KEPT_OF_TOO_LARGE], MalformedDelivery("$", f"a body of at most {limit} bytes", status=413),
        content_type=request.headers.get("content-type", ""), adapter=name, length=request.state.size,
    )


async def counted(
    intake: Intake, source: str, body: bytes, *, content_type: str, identity: str | None, adapter: Adapter | None
) -> Receipt:
    """Deliver, and count what became of it."""
    try:
        receipt = await intake.receive(source, body, content_type=content_type, identity=identity, adapter=adapter)
    except Rejected:
        count(None)
        raise
    count(receipt)
    return receipt


def _said(event: MonitoringEvent) -> dict[str, str | None]:
    said: dict[str, str | None] = {"disposition": event.disposition, "alert": event.alert_number, "incident": event.incident_number}
    if event.number is not None:
        said["number"] = event.number
    return said


@router.post("/hooks/{source}", status_code=202, responses=PROBLEMS, summary="Deliver a source's native payload")
async def hook(source: str, request: Request) -> Response:
    """Single object, array or NDJSON, in the format of the source's adapter. 202 once everything is stored.

    With TOCSIN_INTAKE=kafka: 202 once the delivery lies in Kafka; `observations` is null then, and `Location` tells what became of it.
    """
    principal = await _sender(request)
    if principal.role is Role.MONITOR and principal.source != source:
        await directory_of(request).refuse("role", "intake", principal)
        raise NotAllowed(f"this token is for the source {principal.source}, not {source}")
    front = front_of(request.app)
    if front is not None:
        return await _queue(request, source, front)
    receipt = await _receive(request, source)
    answer = {"delivery": str(receipt.delivery), "observations": [_said(event) for event in receipt.monitoring_events]}
    headers = {"Tocsin-Position": str(receipt.position), "Location": f"/api/v1/deliveries/{receipt.delivery}"}
    return Response(_encode(answer), 202, media_type=JSON, headers=headers)


@router.post("/api/v2/alerts", status_code=200, responses=PROBLEMS, summary="Alertmanager API: post alerts")
async def alertmanager_alerts(request: Request) -> Response:
    """Alertmanager's own endpoint, so that Prometheus can point straight at Tocsin. The token selects the source."""
    principal = await _sender(request)
    source = principal.source or alertmanager_api.ADAPTER.name
    try:
        receipt = await _receive(request, source, adapter=alertmanager_api.ADAPTER)
    except MalformedDelivery as error:
        # Alertmanager answers its client errors with 400 and a bare JSON string.
        return Response(_encode(str(error)), 400, media_type=JSON)
    return Response(b"", 200, media_type=JSON, headers={"Tocsin-Position": str(receipt.position)})


# -- PagerDuty Events API v2 ---------------------------------------------------------------------------------------------


def _pagerduty_problem(status: int, errors: list[str], *, headers: dict[str, str] | None = None) -> Response:
    if status == 400:
        answer: dict[str, Any] = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    else:
        answer = {"status": "throttle exceeded" if status == 429 else "error", "message": errors[0], "errors": errors}
    return Response(_encode(answer), status, media_type=JSON, headers=headers)


async def _pagerduty(request: Request, kind: Callable[[Receipt], dict[str, Any]], adapter: Adapter) -> Response:
    """Take one event in and answer as PagerDuty does: 202, or 400 with the list of faults, or 429 / 5xx to try again."""
    try:
        async with request.app.state.bodies.of(request, PAGERDUTY_MAX_BYTES) as body:
            return await _pagerduty_event(request, body, kind, adapter)
    except TooLarge:
        source, _ = await _source_of_routing_key(request, request.state.beginning[:KEPT_OF_TOO_LARGE])
        if source is not None:
            await _too_large(request, source, PAGERDUTY_MAX_BYTES, adapter)
        return _pagerduty_problem(413, [f"the event is larger than {PAGERDUTY_MAX_BYTES} bytes"])
    except Overloaded as error:
        return _pagerduty_problem(429, [str(error)], headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    except StoreUnavailable as error:
        return _pagerduty_problem(503, [str(error)], headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


async def _pagerduty_event(
    request: Request, body: bytes, kind: Callable[[Receipt], dict[str, Any]], adapter: Adapter
) -> Response:
    source, fault = await _source_of_routing_key(request, body)
    if source is None:
        await directory_of(request).refuse("unknown_token", "intake")
        return _pagerduty_problem(400, [fault])
    house = house_of(request)
    content_type = request.headers.get("content-type", "")
    try:
        receipt = await counted(
            house.intake, source, body, content_type=content_type, identity=_idempotency_key(request), adapter=adapter
        )
    except Rejected as error:
        faults = error.error.errors if isinstance(error.error, pagerduty.InvalidEvent) else [str(error.error)]
        return _pagerduty_problem(400, faults)
    except InvalidInput as error:
        return _pagerduty_problem(400, [str(error)])
    return Response(_encode(kind(receipt)), 202, media_type=JSON, headers={"Tocsin-Position": str(receipt.position)})


async def _source_of_routing_key(request: Request, body: bytes) -> tuple[str | None, str]:
    """(the source that the routing key selects, what is wrong where there is none); a body of nobody's is not kept.

    Of a body that is no JSON the key is taken as it stands there: then the fault is kept as that source's.
    """
    fault = "'routing_key' is missing, or is no key that is registered here"
    try:
        event = read_json(body)
        key = event.get("routing_key") if isinstance(event, dict) else None
    except MalformedDelivery as error:
        found = ROUTING_KEY.search(body)
        key = found[1].decode() if found else None
        fault = str(error) if key is None else fault
    if not isinstance(key, str) or not key:
        key = bearer(request) or ""
    principal = await directory_of(request).whose_token(key) if key else None
    return (principal.source if principal and principal.role is Role.MONITOR else None), fault


@router.post("/v2/enqueue", status_code=202, summary="PagerDuty Events API v2: trigger, acknowledge, resolve")
async def pagerduty_enqueue(request: Request) -> Response:
    """Compatible with PagerDuty's Events API v2; `routing_key` is a key registered with `tocsin token create --value`."""

    def answer(receipt: Receipt) -> dict[str, Any]:
        event = receipt.monitoring_events[0]
        key = event.dedup_key if event.dedup_key is not None else event.observation.dedup_key
        return {"status": "success", "message": "Event processed", "dedup_key": key}

    return await _pagerduty(request, answer, pagerduty.ADAPTER)


@router.post("/v2/change/enqueue", status_code=202, summary="PagerDuty Events API v2: change events")
async def pagerduty_change(request: Request) -> Response:
    """A change is recorded (CHG-); it opens nothing and is shown beside incidents of the same time."""
    return await _pagerduty(request, lambda _: {"status": "success", "message": "Change event processed"}, PAGERDUTY_CHANGES)

