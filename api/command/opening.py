"""Opens the store for one command, beside a server that may be running, and closes it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from api.database import is_there
from api.house import House, open_house
from api.settings import BadSettings, Settings, load_settings
from projections.runner import Runner

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the store [default: $TOCSIN_DATA or ./data]", show_default=False)
]
AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="What was known at this instant, e.g. 2026-03-02T02:14:00Z", metavar="INSTANT", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table")]


@contextmanager
def opened(data: Path | None, *, must_exist: bool = False) -> Iterator[House]:
    """The store of these settings.

    Raises:
        BadSettings: it has to be there and is not.
    """
    settings = load_settings(data=data)
    if must_exist:
        must_be_there(settings)
    house = open_house(settings, first_admin=False)
    tell_of_key(house)
    try:
        yield house
    finally:
        house.close()


def tell_of_key(house: House) -> None:
    """Say on standard error where the master key lies, if it was made just now."""
    if house.new_key is not None:
        Console(stderr=True, highlight=False, soft_wrap=True, markup=False).print(
            f"master key made: {house.new_key.resolve()}\n  Back this up, apart from the data: without it sealed text is gone."
        )


def must_be_there(settings: Settings) -> None:
    """
    Raises:
        BadSettings: there is no store.
    """
    if not is_there(settings):
        if settings.server is not None:
            raise BadSettings("there is no store in the database that TOCSIN_DATABASE names: run tocsin migrate")
        raise BadSettings(f"there is no store in {settings.data}; name its folder with --data or TOCSIN_DATA")


@contextmanager
def viewed(data: Path | None) -> Iterator[tuple[House, Runner]]:
    """The store with its views brought up to the head of the log."""
    with opened(data, must_exist=True) as house:
        runner = Runner(house.ledger, house.settings.data / "views.db")
        try:
            runner.catch_up()
            yield house, runner
        finally:
            runner.close()
