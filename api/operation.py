"""Whether a process lives, whether it can do its work, and its figures: `/healthz`, `/readyz`, `/metrics`; of every kind of process.

`/healthz` asks nobody. What the others ask may hang with the database, so they ask on threads of their own and not for long.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.door import house_of
from api.house import House
from api.kafka_front import Front
from api.measures import LEADS, READY, exposition
from engine.clock import rfc3339
from engine.errors import StoreUnavailable, TocsinError
from engine.lease import Leadership
from engine.work import Unit, Work
from projections.kafka_relay import Relay
from projections.runner import Runner

VERSION: Final = version("tocsin")
PATIENCE_SECONDS: Final = 2.0
PROBE_BYTES: Final = 32 * 1024  # more than any page, so that it does not fit into one that is there already

if TYPE_CHECKING:
    from monitors.kafka_intake import KafkaIntake

router = APIRouter(tags=["operation"])
_asking = ThreadPoolExecutor(2, thread_name_prefix="operation")


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    return {"status": "ok", "version": VERSION}


@router.get("/readyz", summary="Can it do its work?")
async def readyz(request: Request) -> Response:
    """200 where it can; 503 with the reasons where it can't."""
    house, state = house_of(request), request.app.state
    asked = _asking.submit(_state, house, getattr(state, "runner", None), getattr(state, "leadership", None))
    found = await _soon(asked)
    if found is not None:
        reader, relay, front = (getattr(state, name, None) for name in ("reader", "relay", "front"))
        _add_kafka(found, reader, relay, front, alone=not hasattr(state, "runner"))
    if found is None:
        found = {"status": "not ready", "checks": {"store": "the database does not answer"}, "version": VERSION, "store": house.store_id}
    ready = found["status"] == "ok"
    headers = {} if ready else {"Retry-After": "5"}
    return Response(msgspec.json.encode(found), 200 if ready else 503, media_type="application/json", headers=headers)


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Figures of this process; what would have to be asked of a database that does not answer keeps its last value."""
    house, state = house_of(request), request.app.state
    found = await _soon(_asking.submit(_figures, house, getattr(state, "runner", None), getattr(state, "leadership", None)))
    if found is None:
        READY.set(0)
        found = exposition()
    content, media_type = found
    return Response(content, media_type=media_type)


async def _soon(asked: "Future[Any]") -> Any:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.wrap_future(asked)
    except TimeoutError:
        return None


def _figures(house: House, runner: Runner | None, leadership: Leadership | None) -> tuple[bytes, str]:
    LEADS.set(leadership is not None and leadership.leads)
    READY.set(_state(house, runner, leadership)["status"] == "ok")
    return exposition(house, runner)


def _state(house: House, runner: Runner | None, leadership: Leadership | None) -> dict[str, Any]:
    checks: dict[str, str] = {}
    state: dict[str, Any] = {
        "status": "not ready", "checks": checks, "version": VERSION, "store": house.store_id,
        "clock": "simulated" if house.clock.simulated else "real", "now": rfc3339(house.clock.now()),
    }
    if leadership is not None:
        state["leads"] = leadership.leads
    try:
        checks["store"] = _stores(house)
        state["position"] = house.store.head().position
        checks["clock"] = house.clock_trouble() or "ok"
        if runner is not None:
            checks["views"] = runner.failure or "ok"
            # Views that lack an event are degraded, not broken: it is told, and the process stays ready.
            state |= {"views_position": runner.position, "lag_events": runner.lag, "dead_letters": runner.parked}
    except StoreUnavailable as error:
        checks["store"] = str(error)
    if all(text == "ok" for text in checks.values()):
        state["status"] = "ok"
    return state


def _add_kafka(
    found: dict[str, Any], reader: "KafkaIntake | None", relay: Relay | None, front: Front | None, *, alone: bool
) -> None:
    """What keeps deliveries or events from going through Kafka.

    Args:
        alone: reading is all that this process does, so what keeps it from that makes it not ready.
    """
    if reader is not None:
        troubles = dict(reader.troubles)
        if not alone:
            found["kafka_in"] = troubles or "ok"
        elif troubles:
            found["checks"].update(troubles)
            found["status"] = "not ready"
    if relay is not None:
        found["kafka_out"] = relay.trouble or "ok"
    if front is not None:
        found["kafka_front"] = front.trouble or "ok"


def _stores(house: House) -> str:
    """Whether commits succeed; after one that did not, by trying, since nobody else may be about to."""
    if house.ledger.failure is None:
        return "ok"
    try:
        house.ledger.submit(Unit(_write, actor="tocsin")).result(PATIENCE_SECONDS)
    except (TocsinError, TooLate) as error:
        return house.ledger.failure or str(error) or "does not answer"
    return "ok"


def _write(work: Work) -> None:
    """Something that needs space on the disk, and leaves nothing: a commit of nothing would succeed on a full one."""
    work.try_room(PROBE_BYTES)
