"""What happened, in words for people: one sentence for each event that a history shows.

Every sentence goes through `_`, the translator that the page brings along (gettext); names stand in braces, so a
translation may move them. `data` beside a sentence holds the exact fields.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from engine.alert import (
    AlertAcknowledged,
    AlertEpisodeEnded,
    AlertEpisodeMissed,
    AlertEpisodeOpened,
    AlertHeardAgain,
    AlertListed,
    AlertSenderJoined,
    AlertSenderLeft,
    AlertSeverityChanged,
    AlertSourceJoined,
    AlertSourceLeft,
    AlertWentStale,
)
from engine.correlation import CorrelationAlertEnded, CorrelationAlertJoined, CorrelationIncidentOpened
from engine.event import Event, Fact
from engine.incident import (
    IncidentImpactSet,
    IncidentImported,
    IncidentOpened,
    IncidentRecovered,
    IncidentRelapsed,
    IncidentResolved,
)
from engine.notice import (
    NoticeAbandoned,
    NoticeCourseBegun,
    NoticeFailed,
    NoticeOccasionEnded,
    NoticeRequested,
    NoticeRetried,
    NoticeSent,
)
from engine.observation import Severity
from engine.request import RequestApproved, RequestDeclined, RequestFulfilled, RequestImported, RequestSubmitted
from engine.ticket import (
    TicketAcknowledged,
    TicketAssigned,
    TicketCancelled,
    TicketCategorised,
    TicketClosed,
    TicketCommented,
    TicketCommentImported,
    TicketEscalated,
    TicketFileAttached,
    TicketHeld,
    TicketLinked,
    TicketLinkRenewed,
    TicketPrioritySet,
    TicketReopened,
    TicketReported,
    TicketResumed,
    TicketTriaged,
    Visibility,
)
from engine.timer import TimerCancelled, TimerFired, TimerSet

Translate = Callable[[str], str]


def as_is(text: str) -> str:
    """The translator of the source language, English."""
    return text


@dataclass(frozen=True, slots=True)
class Names:
    """How ids read aloud; each gives a word to show in any case."""

    person: Callable[[UUID], str]
    ticket: Callable[[UUID], str]
    alert: Callable[[UUID], str]


@dataclass(frozen=True, slots=True)
class Telling:
    """What a sentence may need: the translator, names, and whose history it is told in."""

    translate: Translate
    names: Names
    subject: UUID


# The state of affairs after these is another one: they are marked in a timeline.
KEY: Final[frozenset[type[Event]]] = frozenset({
    IncidentOpened, IncidentImpactSet, IncidentRecovered, IncidentRelapsed, IncidentResolved, RequestSubmitted, RequestApproved,
    RequestDeclined, RequestFulfilled, TicketEscalated, TicketPrioritySet, TicketReopened, TicketClosed, TicketCancelled,
    AlertEpisodeOpened, AlertEpisodeEnded, AlertSeverityChanged, IncidentImported, RequestImported,
})


def sentence(fact: Fact, telling: Telling) -> str:
    """One line without a full stop; the stored name of an event that nobody has put into words."""
    words = _WORDS.get(type(fact.event))
    return fact.type if words is None else words(fact.event, fact, telling)


def _incident_opened(event: IncidentOpened, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.rule is not None and event.alert is not None:
        return _("Opened by rule “{rule}” (version {version}) from {alert}").format(
            rule=event.rule, version=event.rule_version, alert=telling.names.alert(event.alert)
        )
    if event.requester is not None:
        return _("Opened for {person} as {priority}").format(
            person=telling.names.person(event.requester), priority=event.priority.value
        )
    return _("Opened as {priority}").format(priority=event.priority.value)


def _imported(event: IncidentImported | RequestImported, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    said = _("Imported from {system}, where it was {number}").format(system=event.system, number=event.old_number)
    if event.code is not None and event.solution:
        return _("{imported}. How it ended there, {code}: {solution}").format(
            imported=said, code=resolution(event.code, _), solution=event.solution
        )
    if event.solution:
        return _("{imported}. How it ended there: {solution}").format(imported=said, solution=event.solution)
    return said


def _impact_set(event: IncidentImpactSet, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Impact set to {impact} and urgency to {urgency}: priority {priority}").format(
        impact=_level(event.impact.value, _), urgency=_level(event.urgency.value, _), priority=event.priority.value
    )


def _level(level: str, _: Translate) -> str:
    return {"high": _("high"), "medium": _("medium"), "low": _("low")}[level]


def _recovered(event: IncidentRecovered, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.proposed:
        return _("Recovered: its last firing alert ended. Somebody has it in hand, so resolving it is only proposed")
    return _("Recovered: its last firing alert ended")


def _relapsed(event: IncidentRelapsed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Relapsed: {alert} fires").format(alert=telling.names.alert(event.alert))


def _resolved(event: IncidentResolved, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    code = resolution(event.code, _)
    if event.automatic and event.rule is not None:
        return _("Resolved by rule “{rule}” (version {version}), {code}: {solution}").format(
            rule=event.rule, version=event.rule_version, code=code, solution=event.solution
        )
    return _("Resolved, {code}: {solution}").format(code=code, solution=event.solution)


def resolution(code: str, _: Translate) -> str:
    """A resolution code as people read it."""
    words = {
        "solved": _("solved"),
        "workaround": _("workaround"),
        "duplicate": _("duplicate"),
        "no_fault": _("no fault found"),
        "no_longer_reported": _("no longer reported"),
        "answered_by_document": _("answered by a document"),
        "restart": _("restart"),
    }
    return words.get(code, code)


def _submitted(event: RequestSubmitted, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    person = telling.names.person(event.requester)
    if event.needs_approval:
        return _("Submitted for {person}; it needs an approval").format(person=person)
    return _("Submitted for {person}").format(person=person)


def _approved(_event: RequestApproved, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Approved")


def _declined(event: RequestDeclined, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Declined: {reason}").format(reason=event.reason)


def _fulfilled(event: RequestFulfilled, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Fulfilled: {note}").format(note=event.note) if event.note else _("Fulfilled")


def _acknowledged(event: TicketAcknowledged, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Acknowledged by {person}").format(person=telling.names.person(event.by)) if event.by else _("Acknowledged")


def _assigned(event: TicketAssigned, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.assignee is not None:
        person = telling.names.person(event.assignee)
        if event.team:
            return _("Assigned to {person}, team {team}").format(person=person, team=event.team)
        return _("Assigned to {person}").format(person=person)
    return _("Assigned to team {team}").format(team=event.team) if event.team else _("Assigned to nobody")


def _commented(event: TicketCommented, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.template is not None:
        return _("Answered by itself with “{template}”").format(template=event.template)
    return _("Public comment") if event.visibility is Visibility.PUBLIC else _("Internal note")


def _comment_imported(event: TicketCommentImported, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    public = event.visibility is Visibility.PUBLIC
    who = telling.names.person(event.author) if event.author else event.author_name
    if who:
        words = _("Public comment of {person}, imported") if public else _("Internal note of {person}, imported")
        return words.format(person=who)
    return _("Public comment, imported") if public else _("Internal note, imported")


def _file_attached(event: TicketFileAttached, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    size = size_of(event.length, _)
    if event.visibility is Visibility.PUBLIC:
        return _("File attached: {name}, {size}").format(name=event.name, size=size)
    return _("File attached for the team: {name}, {size}").format(name=event.name, size=size)


def size_of(length: int, _: Translate) -> str:
    """A number of bytes as people say it; a KB has 1,024."""
    if length < 1_024:
        return _("{count} bytes").format(count=length)
    if length < 1_024 * 1_024:
        return _("{count} KB").format(count=_short(length / 1_024))
    return _("{count} MB").format(count=_short(length / 1_024 / 1_024))


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}".removesuffix(".0")


def _reported(event: TicketReported, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    seconds = round(event.seconds)
    if event.suggestions:
        return _("The form was filled in within {seconds} s; it had suggested: {titles}").format(
            seconds=seconds, titles="; ".join(event.suggestions)
        )
    return _("The form was filled in within {seconds} s").format(seconds=seconds)


def _triaged(event: TicketTriaged, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    rows = "; ".join(
        f"“{row.name}”: {', '.join(f'{effect(name, _)} {value}' for name, value in row.decided.items())}" for row in event.decisions
    )
    return _("Decided by the rulebook (version {version}): {rows}").format(version=event.rulebook_version, rows=rows)


def effect(name: str, _: Translate) -> str:
    """What a row of the rulebook decides, as people read it."""
    words = {
        "outcome": _("outcome"), "service": _("service"), "category": _("category"), "impact": _("impact"),
        "urgency": _("urgency"), "priority": _("priority"), "team": _("team"), "level": _("support level"),
        "reply": _("answered with"),
    }
    return words.get(name, name)


def _categorised(event: TicketCategorised, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Category: {category}").format(category=event.category) if event.category else _("Taken out of its category")


def _escalated(event: TicketEscalated, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.level is not None and event.team is not None:
        return _("Escalated to level {level}, team {team}: {reason}").format(level=event.level, team=event.team, reason=event.reason)
    if event.team is not None:
        return _("Escalated to team {team}: {reason}").format(team=event.team, reason=event.reason)
    return _("Escalated to level {level}: {reason}").format(level=event.level, reason=event.reason)


def _held(event: TicketHeld, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("On hold: {reason}").format(reason=event.reason)


def _resumed(_event: TicketResumed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Resumed")


def _priority_set(event: TicketPrioritySet, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Priority set to {priority}: {reason}").format(priority=event.priority.value, reason=event.reason)


def _reopened(event: TicketReopened, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Reopened: {reason}").format(reason=event.reason)


def _closed(_event: TicketClosed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Closed")


def _cancelled(event: TicketCancelled, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Cancelled: {reason}").format(reason=event.reason)


def _linked(event: TicketLinked, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    mine = fact.stream_id == telling.subject
    other = telling.names.ticket(event.to if mine else fact.stream_id)
    words = {
        "related": (_("Related to {ticket}"), _("{ticket} was linked as related")),
        "duplicate_of": (_("Duplicate of {ticket}"), _("{ticket} is a duplicate of this")),
        "caused_by": (_("Caused by {ticket}"), _("{ticket} is caused by this")),
        "parent_of": (_("Parent of {ticket}"), _("{ticket} is the parent of this")),
        "child_of": (_("Child of {ticket}"), _("{ticket} is a child of this")),
        "successor_of": (_("The condition of {ticket} came back"), _("The condition came back as {ticket}")),
    }
    return words[event.relation.value][0 if mine else 1].format(ticket=other)


def _link_renewed(_event: TicketLinkRenewed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("The requester’s private link was renewed; the one before is void")


def _episode_opened(event: AlertEpisodeOpened, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} fires ({severity}): {title}").format(
        alert=event.number, severity=severity_word(event.severity, _), title=event.title
    )


def severity_word(severity: Severity, _: Translate) -> str:
    """A severity as people read it."""
    return {
        Severity.CRITICAL: _("critical"), Severity.HIGH: _("high"), Severity.WARNING: _("warning"), Severity.INFO: _("info"),
    }[severity]


def _episode_ended(event: AlertEpisodeEnded, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    words = {
        "resolved": _("{alert} ended: resolved by its source"),
        "no_longer_reported": _("{alert} ended: no longer reported"),
        "newer_episode": _("{alert} ended: a newer episode began"),
    }
    return words.get(event.cause, _("{alert} ended")).format(alert=telling.names.alert(fact.stream_id))


def _episode_missed(_event: AlertEpisodeMissed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("A resolve told of an episode whose firing was not received; recorded as ended")


def _listed(event: AlertListed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} was listed: its firing arrived after its end").format(alert=event.number)


def _alert_acknowledged(_event: AlertAcknowledged, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} was acknowledged at its source").format(alert=telling.names.alert(fact.stream_id))


def _severity_changed(event: AlertSeverityChanged, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} is {severity} now").format(
        alert=telling.names.alert(fact.stream_id), severity=severity_word(event.severity, _)
    )


def _sender_joined(event: AlertSenderJoined, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{sender} reports {alert} too").format(sender=event.sender, alert=telling.names.alert(fact.stream_id))


def _sender_left(event: AlertSenderLeft, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{sender} resolved {alert}; others still report it").format(
        sender=event.sender, alert=telling.names.alert(fact.stream_id)
    )


def _source_joined(event: AlertSourceJoined, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{source} reports {alert} too").format(source=event.source, alert=telling.names.alert(fact.stream_id))


def _source_left(event: AlertSourceLeft, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{source} has stopped repeating {alert}; others still report it").format(
        source=event.source, alert=telling.names.alert(fact.stream_id)
    )


def _went_stale(_event: AlertWentStale, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} is stale: its source has stopped repeating it").format(
        alert=telling.names.alert(fact.stream_id)
    )


def _heard_again(_event: AlertHeardAgain, fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} is reported again").format(alert=telling.names.alert(fact.stream_id))


def _group_opened(event: CorrelationIncidentOpened, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.field == "alert":
        return _("{alert} has no open incident: one is opened").format(alert=telling.names.alert(event.alert))
    return _("{alert} has no open incident of {field} “{value}”: one is opened").format(
        alert=telling.names.alert(event.alert), field=event.field, value=event.value
    )


def _joined(event: CorrelationAlertJoined, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} joined {ticket}").format(
        alert=telling.names.alert(event.alert), ticket=telling.names.ticket(event.incident)
    )


def _member_ended(event: CorrelationAlertEnded, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{alert} fires no more in {ticket}").format(
        alert=telling.names.alert(event.alert), ticket=telling.names.ticket(event.incident)
    )


def _timer_set(event: TimerSet, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.purpose == "settle":
        return _("Will be resolved unless an alert fires again before the time is over")
    if event.purpose.startswith("notice-then:"):
        return _("The next will be told unless somebody takes it in hand before the time is over")
    if event.purpose.startswith("notice-again:"):
        return _("Everybody will be told again unless somebody takes it in hand before the time is over")
    return _("A timer was set ({purpose})").format(purpose=event.purpose)


def _timer_cancelled(_event: TimerCancelled, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("The timer was cancelled")


def _timer_fired(_event: TimerFired, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("The time is over")


def _course_begun(event: NoticeCourseBegun, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Notice rule “{rule}” (rulebook version {version}) holds").format(rule=event.rule.name, version=event.rulebook_version)


def _occasion_ended(_event: NoticeOccasionEnded, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("Its notices end")


def _notice_requested(event: NoticeRequested, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    words = {
        "firing": _("{recipient} is to be told"),
        "repeat": _("{recipient} is to be told again"),
        "escalation": _("{recipient} is to be told next, since nobody has taken it in hand"),
        "end": _("{recipient} is to be told that it is over"),
    }
    return words[event.purpose.value].format(recipient=event.recipient)


def _notice_sent(event: NoticeSent, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    if event.attempt > 1:
        return _("{recipient} was told, at attempt {attempt}").format(recipient=event.recipient, attempt=event.attempt)
    return _("{recipient} was told").format(recipient=event.recipient)


def _notice_failed(event: NoticeFailed, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{recipient} could not be told, attempt {attempt}: {reason}").format(
        recipient=event.recipient, attempt=event.attempt, reason=event.reason
    )


def _notice_abandoned(event: NoticeAbandoned, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("{recipient} could not be told, and it is not tried again: {reason}").format(recipient=event.recipient, reason=event.reason)


def _notice_retried(event: NoticeRetried, _fact: Fact, telling: Telling) -> str:
    _ = telling.translate
    return _("The notice to {recipient} is tried again").format(recipient=event.recipient)


_WORDS: Final[dict[type[Event], Callable[[Any, Fact, Telling], str]]] = {
    IncidentOpened: _incident_opened,
    IncidentImported: _imported,
    RequestImported: _imported,
    TicketCommentImported: _comment_imported,
    IncidentImpactSet: _impact_set,
    IncidentRecovered: _recovered,
    IncidentRelapsed: _relapsed,
    IncidentResolved: _resolved,
    RequestSubmitted: _submitted,
    RequestApproved: _approved,
    RequestDeclined: _declined,
    RequestFulfilled: _fulfilled,
    TicketAcknowledged: _acknowledged,
    TicketAssigned: _assigned,
    TicketCommented: _commented,
    TicketFileAttached: _file_attached,
    TicketEscalated: _escalated,
    TicketHeld: _held,
    TicketResumed: _resumed,
    TicketPrioritySet: _priority_set,
    TicketReopened: _reopened,
    TicketClosed: _closed,
    TicketCancelled: _cancelled,
    TicketReported: _reported,
    TicketTriaged: _triaged,
    TicketCategorised: _categorised,
    TicketLinked: _linked,
    TicketLinkRenewed: _link_renewed,
    AlertEpisodeOpened: _episode_opened,
    AlertEpisodeEnded: _episode_ended,
    AlertEpisodeMissed: _episode_missed,
    AlertListed: _listed,
    AlertAcknowledged: _alert_acknowledged,
    AlertSeverityChanged: _severity_changed,
    AlertSenderJoined: _sender_joined,
    AlertSenderLeft: _sender_left,
    AlertSourceJoined: _source_joined,
    AlertSourceLeft: _source_left,
    AlertWentStale: _went_stale,
    AlertHeardAgain: _heard_again,
    CorrelationIncidentOpened: _group_opened,
    CorrelationAlertJoined: _joined,
    CorrelationAlertEnded: _member_ended,
    TimerSet: _timer_set,
    TimerCancelled: _timer_cancelled,
    TimerFired: _timer_fired,
    NoticeCourseBegun: _course_begun,
    NoticeOccasionEnded: _occasion_ended,
    NoticeRequested: _notice_requested,
    NoticeSent: _notice_sent,
    NoticeFailed: _notice_failed,
    NoticeAbandoned: _notice_abandoned,
    NoticeRetried: _notice_retried,
}
SPOKEN: Final = frozenset(_WORDS)
