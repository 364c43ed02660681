"""`tocsin intake`: decides the deliveries that lie in Kafka; several processes share the partitions."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from api.app import create_intake
from api.command.opening import DataOption, tell_of_key
from api.command.serving import listen, run_server, url
from api.house import open_house
from api.kafka_reader import topics_of
from api.settings import BadSettings, load_settings


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
        settings = load_settings(data=data)
        if topics_of(settings) is None:
            raise BadSettings("TOCSIN_KAFKA: expected the bootstrap servers of the brokers that deliveries come from")
        bound = listen(host, port)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, _end)  # the server raises it again once all is finished
        from monitors.kafka_intake import SWITCH_SECONDS  # the library is loaded where there is a Kafka

        sys.setswitchinterval(SWITCH_SECONDS)
        house = open_house(settings, first_admin=False)
        tell_of_key(house)
        run_server(create_intake(house, reread=reread), bound, url(host, port))


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
