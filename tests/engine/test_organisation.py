"""People, teams and services: what is registered, and that saying it again records nothing."""

from uuid import uuid4

import pytest

from engine.aggregate import Journal
from engine.errors import InvalidInput
from engine.person import Person
from engine.service import Service, service_id
from engine.team import Team, team_id


def journal() -> Journal:
    return Journal(actor="tocsin", correlation_id=uuid4())


def test_a_person_is_changed_once() -> None:
    person = Person(uuid4(), journal())
    person.register(name="Nora", email=None)
    assert person.change(name="Nora Berg", email="nora@example.org", team="Web") is not None
    assert person.change(name="Nora Berg", email="nora@example.org", team="Web") is None
    assert (person.name, person.email, person.team) == ("Nora Berg", "nora@example.org", "Web")


def test_a_service_names_what_it_needs_once_and_never_itself() -> None:
    service = Service(service_id("shop"), journal())
    service.register(name="shop", depends_on=["db", " mail ", "db"])
    assert service.known is not None
    assert service.known.depends_on == ("db", "mail")
    assert service.register(name="shop", depends_on=["db", "mail"]) is None
    with pytest.raises(InvalidInput, match="depends_on"):
        service.register(name="shop", depends_on=["shop"])


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "a\nb", "a\u202eb"])
def test_a_name_can_be_read(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        Team(team_id(name), journal()).register(name=name)
    with pytest.raises(InvalidInput, match="name"):
        Service(service_id(name), journal()).register(name=name)
