"""`tocsin intake`: decides the deliveries that lie in Kafka; several processes share the partitions."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Final

import msgspec
import structlog
import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.command.opening import DataOption, opened
from api.command.serving import listen, say_ready
from api.house import House
from api.kafka_reader import start
from api.measures import READY, exposition
from api.settings import BadSettings, load_settings
from engine.errors import StoreUnavailable
from monitors.kafka_intake import SWITCH_SECONDS, KafkaIntake

JSON: Final = "application/json"

log = structlog.get_logger(__name__)


def register(app: typer.Typer) -> None:
    """Add this command."""

    @app.command()
    def intake(
        host: Annotated[str, typer.Option(help="Address of the port for /healthz, /readyz and /metrics")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=1, max=65535, help="Port for /healthz, /readyz and /metrics")] = 8802,
        reread: Annotated[
            bool, typer.Option("--reread", help="Read a partition from its first record where the topic lost records that were read before")
        ] = False,
        data: DataOption = None,
    ) -> None:
        """Decide the deliveries that lie in Kafka (TOCSIN_KAFKA), until told to stop; run as many as there are partitions."""
        if load_settings(data=data).kafka is None:
            raise BadSettings("TOCSIN_KAFKA: expected the bootstrap servers of the brokers that deliveries come from")
        bound = listen(host, port)
        stopping = threading.Event()

        def stop(_signal: int, _frame: FrameType | None) -> None:
            stopping.set()

        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, stop)
        sys.setswitchinterval(SWITCH_SECONDS)
        with opened(data) as house:
            reader = start(house, reread=reread)
            assert reader is not None, "TOCSIN_KAFKA is set"
            with _answering(bound, house, reader):
                say_ready(f"ready http://{host}:{port}")
                stopping.wait()
                reader.stop()


@contextlib.contextmanager
def _answering(bound: socket.socket, house: House, reader: KafkaIntake) -> Iterator[None]:
    """Answer what an operator asks, beside the work."""

    def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON)

    def checked() -> tuple[bool, dict[str, str]]:
        checks = {"store": house.ledger.failure or "ok"}
        try:
            checks["clock"] = house.clock_trouble() or "ok"
        except StoreUnavailable as error:
            checks["store"] = str(error)
        checks.update(reader.troubles)
        return all(text == "ok" for text in checks.values()), checks

    def readyz(_: Request) -> Response:
        ready, checks = checked()
        return Response(msgspec.json.encode({"status": "ok" if ready else "not ready", "checks": checks}), 200 if ready else 503, media_type=JSON)

    def metrics(_: Request) -> Response:
        READY.set(checked()[0])
        content, media_type = exposition(house)
        return Response(content, media_type=media_type)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    config = uvicorn.Config(Starlette(routes=routes), log_level="warning", access_log=False, server_header=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="operation", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
