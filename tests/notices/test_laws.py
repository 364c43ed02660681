"""In any order of what can happen to a ticket: who was told of a beginning is told of its end, once, and nobody else is."""

import contextlib
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import IllegalTransition
from engine.event import Fact
from engine.incident import Incident
from engine.notice import NoticeOccasionEnded, NoticeRequested, Notices, Purpose, notices_id
from engine.priority import Priority
from engine.rulebook import NoticeRule, NoticeStep
from engine.work import Unit, Work
from tests.engine.belfry import Belfry, effort
from tests.notices.post import P1, Tower

pytestmark = pytest.mark.law

NORA: Final = UUID(int=7)
RULES: Final = (
    msgspec.structs.replace(P1, then=(NoticeStep(after_seconds=60, to=("lead",)),), repeat_seconds=45, most_repeats=2),
    NoticeRule(name="urgent", when="ticket.priority in ['P1', 'P2']", to=("lead", "on-call", "nobody")),
)
COMMANDS: Final[dict[str, dict[str, Any]]] = {
    "acknowledge": {"by": NORA}, "assign": {"team": None, "assignee": NORA}, "hold": {"reason": "the provider"}, "resume": {},
    "reopen": {"reason": "back"}, "cancel": {"reason": "a test"}, "close": {}, "comment": {},
}
STEPS: Final = ("fires", "ends", "later", "sent", "P1", "P2", "P4", "resolve", *COMMANDS)


class TallTower(Belfry, Tower):
    """A tower on a store of its own."""


def _act(tower: Tower, step: str) -> None:
    def decide(work: Work) -> None:
        incident = work.load(Incident, tower.incidents[0].id)
        if step in Priority.__members__:
            incident.set_priority(priority=Priority(step), reason="it is so")
        elif step == "resolve":
            incident.resolve(code="solved", solution="restarted", now=work.now)
        elif step == "sent":
            notices = work.load(Notices, notices_id(incident.id))
            for notice in list(notices.waiting):
                notices.sent(notice, answer="")
        elif step != "comment":
            getattr(incident, step)(**COMMANDS[step])

    with contextlib.suppress(IllegalTransition):
        tower.ledger.run(Unit(decide, actor=f"user:{NORA}"))


def _check(facts: list[Fact], *, is_open: bool) -> None:
    told: set[str] = set()
    expected: list[str] = []
    for fact in facts:
        event = fact.event
        if isinstance(event, NoticeOccasionEnded):
            assert expected == []
            told, expected = set(), sorted(told)
        elif isinstance(event, NoticeRequested):
            if event.purpose is Purpose.END:
                assert event.recipient == expected.pop(0)
            else:
                assert expected == []
                told.add(event.recipient)
    assert expected == []
    assert is_open or not told


@effort(60)
@given(st.lists(st.sampled_from(STEPS), max_size=25))
def test_who_was_told_that_it_began_is_told_once_that_it_is_over(steps: list[str]) -> None:
    tower = TallTower()
    try:
        tower.recipient("on-call", "lead")
        tower.rules(*RULES)
        tower.fires()
        for step in steps:
            match step:
                case "fires":
                    tower.fires()
                case "ends":
                    tower.ends()
                case "later":
                    tower.later(40)
                case _:
                    _act(tower, step)
        for incident in tower.incidents:
            stream = notices_id(incident.id)
            _check(tower.ledger.stream(stream), is_open=incident.is_open)
            assert tower.read_anew(Notices, stream).state() == tower.ledger.get(Notices, stream).state()
            if not incident.is_open:
                due = tower.ledger.store.due_timers(2**60, 100)
                assert [one for one in due if one.owner == incident.id.bytes and one.purpose.startswith("notice")] == []
    finally:
        tower.close()
