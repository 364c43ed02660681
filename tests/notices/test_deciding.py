"""Who is to be told, and when: given what happened, the notices that stand in the log."""

from uuid import UUID

import msgspec
import pytest

from engine import notice
from engine.incident import Incident
from engine.notice import NoticeCourseBegun, NoticeRequested
from engine.priority import Level, Priority
from engine.recipient import Recipient, recipient_id
from engine.rulebook import NoticeRule, NoticeStep
from engine.work import Unit, Work
from tests.notices.post import P1, Tower

PERSISTENT = msgspec.structs.replace(
    P1, then=(NoticeStep(after_seconds=600, to=("lead",)), NoticeStep(after_seconds=1_800, to=("boss",))), repeat_seconds=420, most_repeats=3
)


def test_a_ticket_that_a_rule_holds_for_is_told_in_its_own_commit(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(P1)
    tower.fires("web-1")
    tower.fires("web-2", severity="warning")
    assert tower.told() == [("firing", "on-call")]
    facts = tower.ledger.read(0, 1_000)
    opened = next(fact for fact in facts if fact.type == "incident.opened.v1")
    begun = next(fact for fact in facts if isinstance(fact.event, NoticeCourseBegun))
    requested = next(fact for fact in facts if isinstance(fact.event, NoticeRequested))
    assert (opened.recorded_at, opened.correlation_id) == (requested.recorded_at, requested.correlation_id)
    assert (begun.cause, requested.cause, requested.actor) == (opened.reference, begun.reference, "tocsin")
    assert isinstance(begun.event, NoticeCourseBegun)
    assert (begun.event.rule, begun.event.rulebook_version) == (P1, 1)


def test_a_name_that_nobody_stands_behind_is_no_error_and_leaves_nothing(tower: Tower) -> None:
    tower.rules(P1)
    tower.fires()
    assert len(tower.incidents) == 1
    assert tower.events(NoticeCourseBegun, NoticeRequested) == []


def test_who_was_told_of_the_beginning_is_told_of_the_end_even_when_the_rule_holds_no_more(tower: Tower) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(P1, NoticeRule(name="web", when="ticket.service == 'web-1'", to=("on-call", "lead")))
    tower.fires()
    tower.act(tower.incidents[0], "set_priority", priority=Priority.P4, reason="it is night")
    tower.rules()
    tower.act(tower.incidents[0], "resolve", code="solved", solution="restarted", now=tower.clock.now())
    tower.act(tower.incidents[0], "close")
    assert tower.told() == [("firing", "on-call"), ("firing", "on-call"), ("firing", "lead"), ("end", "lead"), ("end", "on-call")]


def test_who_was_not_told_of_the_beginning_is_not_told_of_the_end(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(P1)
    tower.fires("web-2", severity="warning")
    tower.ends("web-2", severity="warning")
    assert tower.told() == []


def test_a_ticket_that_becomes_urgent_later_is_told_then_and_once(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(P1)
    tower.fires(severity="high")
    assert tower.told() == []
    tower.act(tower.incidents[0], "set_impact", impact=Level.HIGH, urgency=Level.HIGH)
    tower.act(tower.incidents[0], "set_priority", priority=Priority.P1, reason="it is worse")
    assert tower.told() == [("firing", "on-call")]


def test_a_new_rule_tells_nobody_of_what_somebody_only_acknowledges(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.fires()
    tower.rules(P1)
    tower.act(tower.incidents[0], "acknowledge", by=None)
    assert tower.told() == []


def test_an_unacknowledged_ticket_is_told_again_and_to_the_next(tower: Tower) -> None:
    tower.recipient("on-call", "lead", "boss")
    tower.rules(PERSISTENT)
    tower.fires()
    seen = [tower.told()]
    for seconds in (420, 180, 240, 420, 540, 420, 10_000):
        _all_sent(tower)
        tower.later(seconds)
        seen.append(tower.told()[sum(map(len, seen)) :])
    assert seen == [
        [("firing", "on-call")],
        [("repeat", "on-call")],                        # after 420 s
        [("escalation", "lead")],                       # 600
        [("repeat", "on-call"), ("repeat", "lead")],    # 840
        [("repeat", "on-call"), ("repeat", "lead")],    # 1,260: the third and last
        [("escalation", "boss")],                       # 1,800
        [], [],
    ]


def _all_sent(tower: Tower, place: int = 0) -> None:
    def decide(work: Work) -> None:
        notices = work.load(notice.Notices, notice.notices_id(tower.incidents[place].id))
        for waiting in list(notices.waiting):
            notices.sent(waiting, answer="204")

    tower.ledger.run(Unit(decide, actor="tocsin"))


def test_nobody_is_told_again_before_they_have_received_the_notice_before(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(PERSISTENT)
    tower.fires()
    tower.later(420)
    assert tower.told() == [("firing", "on-call")]
    _all_sent(tower)
    tower.later(420)
    assert tower.told() == [("firing", "on-call"), ("repeat", "on-call")]


@pytest.mark.parametrize("command", ["acknowledge", "take", "hold", "resolve", "cancel"])
def test_whoever_takes_it_in_hand_ends_repeats_and_escalation(tower: Tower, command: str) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(PERSISTENT)
    tower.fires()
    _all_sent(tower)
    nora = UUID(int=7)

    def decide(work: Work) -> None:
        incident = work.load(Incident, tower.incidents[0].id)
        match command:
            case "acknowledge":
                incident.acknowledge(by=nora)
            case "take":
                incident.assign(team=None, assignee=nora)
            case "hold":
                incident.hold(reason="the provider")
            case "resolve":
                incident.resolve(code="solved", solution="restarted", now=work.now)
            case _:
                incident.cancel(reason="a test")

    tower.ledger.run(Unit(decide, actor=f"user:{nora}"))
    tower.later(10_000)
    assert tower.told() == [("firing", "on-call")] + ([("end", "on-call")] if command in ("resolve", "cancel") else [])
    assert [due.purpose for due in tower.ledger.store.due_timers(2**60, 10) if due.purpose.startswith("notice")] == []


def test_being_given_a_ticket_is_not_taking_it(tower: Tower) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(PERSISTENT)
    tower.fires()
    tower.act(tower.incidents[0], "assign", team="web", assignee=UUID(int=9))
    tower.later(600)
    assert ("escalation", "lead") in tower.told()


def test_nobody_further_is_told_of_a_ticket_that_the_rule_holds_no_more_for(tower: Tower) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(PERSISTENT)
    tower.fires()
    tower.act(tower.incidents[0], "set_priority", priority=Priority.P4, reason="it is night")
    tower.later(10_000)
    assert tower.told() == [("firing", "on-call")]


def test_a_course_goes_by_the_rule_as_it_stood_when_it_began(tower: Tower) -> None:
    tower.recipient("on-call", "lead", "other")
    tower.rules(PERSISTENT)
    tower.fires()
    tower.rules(msgspec.structs.replace(P1, to=("other",)))
    tower.later(600)
    assert tower.told() == [("firing", "on-call"), ("escalation", "lead")]


def test_a_reopening_begins_anew(tower: Tower) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(PERSISTENT)
    tower.fires()
    tower.act(tower.incidents[0], "acknowledge", by=None)
    tower.act(tower.incidents[0], "resolve", code="solved", solution="restarted", now=tower.clock.now())
    tower.act(tower.incidents[0], "reopen", reason="back again")
    assert tower.told() == [("firing", "on-call"), ("end", "on-call"), ("firing", "on-call")]
    assert tower.notices().occasion == 2
    tower.later(600)
    assert tower.told()[3:] == [("escalation", "lead")]  # the first notices were not received yet, so they are not repeated


def test_what_was_imported_tells_nobody(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(NoticeRule(name="all", when="true", to=("on-call",)))

    def decide(work: Work) -> None:
        for channel in ("import", "portal"):
            work.adopt(Incident.open(
                work.new_id(), work.journal, number=work.number("INC"), title="It is slow", impact=Level.HIGH, urgency=Level.HIGH,
                now=work.now, channel=channel,
            ))

    tower.ledger.run(Unit(decide, actor="user:admin"))
    assert tower.told() == [("firing", "on-call")]


def test_a_ticket_that_is_over_in_the_unit_that_opens_it_tells_nobody(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(P1)

    def decide(work: Work) -> None:
        incident = work.adopt(Incident.open(
            work.new_id(), work.journal, number=work.number("INC"), title="It is slow", impact=Level.HIGH, urgency=Level.HIGH,
            now=work.now, channel="portal",
        ))
        incident.resolve(code="solved", solution="a restart", now=work.now)

    tower.ledger.run(Unit(decide, actor="user:admin"))
    assert tower.told() == []


def test_a_recipient_that_is_removed_is_told_nothing_more(tower: Tower) -> None:
    tower.recipient("on-call")
    tower.rules(P1)
    tower.fires()
    tower.ledger.run(Unit(lambda work: work.load(Recipient, recipient_id("on-call")).remove(), actor="user:admin"))
    tower.ends()
    assert tower.told() == [("firing", "on-call")]


def test_each_notice_has_an_id_of_its_own_that_anybody_can_compute(tower: Tower) -> None:
    tower.recipient("on-call", "lead")
    tower.rules(NoticeRule(name="P1", when="ticket.priority == 'P1'", to=("on-call", "lead")))
    tower.fires()
    tower.ends()
    ids = [event.notice for event in tower.events(NoticeRequested) if isinstance(event, NoticeRequested)]
    assert len(set(ids)) == 4
    assert {one.version for one in ids} == {5}
