"""A real application on a fresh embedded store, with a token for each role."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.house import House, open_house
from engine.person import Role
from projections.runner import Runner
from tests.stores import settings_at

Headers = dict[str, str]


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Closed by the application's end."""
    return open_house(settings_at(tmp_path / "data"))


@pytest.fixture
def client(house: House, tmp_path: Path) -> Iterator[TestClient]:
    runner = Runner(house.ledger, tmp_path / "data" / "views.db")
    with TestClient(create_app(house, runner), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def headers(house: House) -> Callable[[str], Headers]:
    """Role (for a monitor: `monitor:SOURCE`) to the headers of a token of that role."""
    made: dict[str, Headers] = {}

    def of(role: str) -> Headers:
        if role not in made:
            name, _, source = role.partition(":")
            token = house.directory.create_token(role=Role(name), source=source or None)
            made[role] = {"Authorization": f"Bearer {token}"}
        return made[role]

    return of
