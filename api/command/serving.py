"""`tocsin serve`, and the same split for production: `tocsin api`, `tocsin worker`. And `tocsin migrate`, which makes the store."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from types import FrameType
from typing import Annotated, Final, TextIO, cast

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console

from api.app import create_app, create_worker
from api.command.opening import DataOption, opened, tell_of_key
from api.house import DEMO_MARK, House, open_house
from api.settings import BadSettings, load_settings
from api.watch import Streams
from engine import postgres_schema
from engine.delivery import DeliveryReceived, DeliveryRejected
from engine.store import SCHEMA_VERSION
from projections.runner import Runner

# A log that is longer is no new one, and is not read through at a start.
LOOKED_THROUGH: Final = 10_000
HostOption = Annotated[str, typer.Option(help="Address to listen on")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on")]
# How long a connection without a request is waited for at the end; within it, what was sent already is answered.
DRAIN_SECONDS: Final = 1.0
# The first descriptor that a socket unit of systemd hands over (sd_listen_fds).
HANDED_OVER: Final = 3
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class _Server(uvicorn.Server):
    """Says when it accepts requests; told to stop, it ends the live streams and answers whoever has got through to it."""

    def __init__(self, config: uvicorn.Config, ready: str, streams: Streams) -> None:
        super().__init__(config)
        self._ready, self._streams = ready, streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.end()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            say_ready(self._ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, take in what the kernel has accepted meanwhile, and let each connection end with an answer.

        Where several share a port the kernel has given each connection to one of them before that one knows. A listener that
        is closed resets those: so they are taken first.
        """
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        kept = [bound.dup() for bound in sockets or []]  # closing the loop's one must not close the port yet
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)
        for bound in kept:
            await self._take_in(bound)
        until = time.monotonic() + DRAIN_SECONDS
        while self.server_state.connections and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    async def _take_in(self, bound: socket.socket) -> None:
        taken: list[socket.socket] = []
        bound.setblocking(False)
        # Nothing else runs between the last look and the end of the listener.
        with bound, contextlib.suppress(BlockingIOError):
            while True:
                taken.append(bound.accept()[0])
        loop = asyncio.get_running_loop()
        for connection in taken:
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # it has hung up
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        kind = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]  # as uvicorn does: all kinds take these


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket of our own: with protocol 0 (asyncio's default) uvicorn's workers lose TCP_NODELAY.

    Args:
        shared: others of its kind may listen there too; the kernel shares connections out.

    Raises:
        BadSettings: the port is taken or not ours to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise BadSettings(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from error
    bound.set_inheritable(True)
    return bound


def say_ready(line: str) -> None:
    """Say that the process does its work now: one line on standard output, and to systemd (`Type=notify`)."""
    print(line, flush=True)  # noqa: T201  # the contract
    if told := os.environ.get("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
            there.sendto(b"READY=1", "\0" + told[1:] if told.startswith("@") else told)


def handed_over() -> list[socket.socket]:
    """Listening sockets of a systemd socket unit. They stay open while their processes are started anew: nobody is refused meanwhile."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    return [socket.socket(fileno=HANDED_OVER + number) for number in range(int(os.environ.get("LISTEN_FDS", "0")))]


class _Unfailing:
    """Standard error, for the log. What cannot be written there is left out: a full disk must not end whoever wanted to tell of it."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def configure_logs() -> None:
    """JSON lines to standard error, except on a terminal, where people read."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars, structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.format_exc_info, renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing())),
        cache_logger_on_first_use=True,
    )


def run_server(application: FastAPI, bound: socket.socket, where: str) -> None:
    """Serve until told to stop, also on what systemd hands over; `where` it is said on standard output once it accepts requests."""
    # What is here now stays; collecting it again and again, and every 700 objects, costs a tenth of a storm.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=5, lifespan="on",
    )
    _Server(config, f"ready {where}", application.state.streams).run(sockets=[bound, *handed_over()])


def url(host: str, port: int) -> str:
    """How a server that listens there is reached."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def register(app: typer.Typer) -> None:
    """Add these commands."""

    @app.command()
    def serve(
        demo: Annotated[bool, typer.Option("--demo", help="Fill an empty store with a plausible week, and let it live on")] = False,
        host: HostOption = "127.0.0.1",
        port: PortOption = 8800,
        data: DataOption = None,
    ) -> None:
        """Run everything in one process; with TOCSIN_KAFKA, deliveries and events through Kafka too."""
        settings = load_settings(data=data)
        if demo and host not in LOOPBACK:
            raise BadSettings("--demo: its accounts have known passwords, so it listens on 127.0.0.1 only")
        bound = listen(host, port)
        address = settings.public_address or url(host, port)
        if demo:
            from api import demo as week  # only here: nobody else needs it

            house, runner, finish = week.open_demo(settings, address)
        else:
            house = open_house(settings)
            _no_demo(house, host)
            runner, finish = Runner(house.ledger, settings.data / "views.db"), None
            _tell(house, address)
            _tell_where_to_begin(house, address)
        application = create_app(house, runner, reads=True, address=address)
        if finish is not None:
            finish(application)
        run_server(application, bound, f"http://{host}:{port}")

    @app.command()
    def api(host: HostOption = "127.0.0.1", port: PortOption = 8800, data: DataOption = None) -> None:
        """Serve HTTP alone: console, portal, interface and hooks. Timers, notices and the relay are a worker's.

        Several may run on one store, on one machine also on one port: the kernel shares connections out. It listens on a socket
        that systemd hands over besides (docs/deploy.md).
        """
        settings = load_settings(data=data)
        bound = listen(host, port, shared=True)
        house = open_house(settings)
        _no_demo(house, host)
        runner = Runner(house.ledger, settings.data / "views.db")
        _tell(house, settings.public_address or url(host, port))
        run_server(create_app(house, runner, works=False, address=settings.public_address or url(host, port)), bound, f"http://{host}:{port}")

    @app.command()
    def worker(
        host: HostOption = "127.0.0.1", port: Annotated[int, typer.Option(min=1, max=65535, help="Port of its state and metrics")] = 8801,
        data: DataOption = None,
    ) -> None:
        """Do what a store needs done: fire timers, send notices, publish to Kafka, keep this machine's views.

        Several may run on one store; one of them leads, the others stand by. It serves /healthz, /readyz and /metrics.
        """
        settings = load_settings(data=data)
        bound = listen(host, port)
        house = open_house(settings)
        runner = Runner(house.ledger, settings.data / "views.db")
        tell_of_key(house)
        run_server(create_worker(house, runner), bound, f"http://{host}:{port}")

    @app.command()
    def migrate(
        tables: Annotated[bool, typer.Option("--tables", help="Make no store in them: for tocsin copy and tocsin restore (PostgreSQL)")] = False,
        data: DataOption = None,
    ) -> None:
        """Create the store, or bring it up to this version.

        On PostgreSQL this is the only command that makes or changes tables. It works as the role of TOCSIN_DATABASE_OWNER; that of
        TOCSIN_DATABASE gets the right to add events and to read them, and none to change or remove one.
        """
        settings = load_settings(data=data)
        if settings.server is not None:
            address = settings.server.get_secret_value()
            owner = settings.database_owner.get_secret_value() if settings.database_owner else address
            role = conninfo_to_dict(address).get("user") if settings.database_owner else None
            before = postgres_schema.migrate(owner, role=str(role) if role else None)
            done = "was there already" if before == SCHEMA_VERSION else f"came from schema {before}" if before else "is new"
            Console(highlight=False).print(f"the database is at schema {SCHEMA_VERSION} ({done})")
        elif tables:
            raise BadSettings("--tables: expected TOCSIN_DATABASE=postgresql://…; a file needs no tables before it is filled")
        if tables:
            return
        with opened(data) as house:
            place = house.settings.data if settings.server is None else "the database"
            Console(highlight=False).print(f"the store in {place} is at schema {house.store.meta('schema_version')}")


def _no_demo(house: House, host: str) -> None:
    if house.store.meta(DEMO_MARK) is not None and host not in LOOPBACK:
        house.close()
        raise BadSettings("this store holds a demo, whose accounts have known passwords: it listens on 127.0.0.1 only")


def _tell(house: House, address: str) -> None:
    """What the first start has to say once, on standard error."""
    tell_of_key(house)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if house.first_admin is not None:
        login, password = house.first_admin
        console.print(f"first account: {login} / {password}   (shown this once)\n  {address}/console")


def _tell_where_to_begin(house: House, address: str) -> None:
    """While nothing has ever arrived, a start says where a monitor is connected."""
    if house.ledger.last_position > LOOKED_THROUGH:
        return
    if not house.store.log(0, 1, types=(DeliveryReceived.TOPIC, DeliveryRejected.TOPIC)):
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"nothing has been heard yet; connect a monitor: {address}/console/connect")
