"""Sentences for events that belong to no ticket: what a log or a chain of causes shows besides `projections/words.py`."""

from typing import Final

from api.console import words
from api.console.instants import many
from api.console.language import gettext as _
from api.console.language import mark
from engine.change import ChangeRecorded
from engine.delivery import DeliveryReceived, DeliveryRejected
from engine.event import Event, Fact
from engine.installation import InstallationRestored
from engine.person import (
    AccessRefused,
    AccountOpened,
    BodyRead,
    LanguageChosen,
    PasswordChanged,
    PersonChanged,
    PersonRegistered,
    RoleChanged,
    SignedIn,
    SignedOut,
    TokenCreated,
    TokenRevoked,
)
from engine.recipient import RecipientAdded, RecipientChanged, RecipientRemoved, RecipientTested
from engine.rule import RulePublished
from engine.rulebook import RulebookPublished
from engine.saved_view import ViewChanged, ViewRemoved, ViewSaved
from engine.service import ServiceRegistered
from engine.source import SourceAdded
from engine.target import TargetsSet
from engine.team import TeamRegistered
from projections.history_page import HistoryItem

_REFUSALS: Final = {
    "bad_credentials": mark("wrong name or password"), "too_many_attempts": mark("too many tries"),
    "role": mark("the role may not do it"), "unknown_token": mark("unknown token"),
}
_PLAIN: Final[dict[type[Event], str]] = {
    SignedIn: mark("Signed in"), SignedOut: mark("Signed out"), PasswordChanged: mark("A new password was set"),
    TokenRevoked: mark("A token was revoked"), PersonRegistered: mark("A person was registered"),
    LanguageChosen: mark("A language was chosen"), PersonChanged: mark("What is known of a person was changed"),
    ViewRemoved: mark("A saved view was removed"),
}
# With the name of what it happened to.
_NAMED: Final[dict[type[Event], str]] = {
    SourceAdded: mark("Source %s was configured"), RecipientAdded: mark("Recipient %s was added"),
    RecipientChanged: mark("Recipient %s was changed"), RecipientRemoved: mark("Recipient %s is told nothing more"),
    RecipientTested: mark("A test notice was sent to %s"), ViewSaved: mark("A view of the queue was saved: %s"),
    ViewChanged: mark("A saved view was changed: %s"),
}


def sentence_of(fact: Fact, item: HistoryItem) -> str:
    """What happened, in one line; names of others are shown as they are and must be escaped."""
    event = fact.event
    plain = _PLAIN.get(type(event))
    if plain is not None:
        return _(plain)
    named = _NAMED.get(type(event))
    if named is not None:
        return _(named) % getattr(event, "name", "")
    match event:
        case DeliveryReceived():
            said = many("%s observation", "%s observations", len(event.monitoring_events))
            return _("Delivery of %(source)s: %(said)s") % {"source": event.source, "said": said}
        case DeliveryRejected():
            return _("Delivery of %(source)s rejected: %(path)s") % {"source": event.source, "path": event.path}
        case AccountOpened():
            return _("An account was opened: %s") % words.word(words.ROLES, event.role)
        case RoleChanged():
            return _("The role is %s now") % words.word(words.ROLES, event.role)
        case TokenCreated():
            whose = event.source or words.word(words.ROLES, event.role)
            return _("A token was made for %s") % whose
        case AccessRefused():
            return _("Turned away: %(reason)s, %(route)s") % {"reason": words.word(_REFUSALS, event.reason), "route": event.route}
        case BodyRead():
            return _("The exact bytes of a delivery were read")
        case RulePublished():
            return _("Rule “%(rule)s” was published, version %(version)s") % {"rule": event.rule.name, "version": event.rule.version}
        case InstallationRestored():
            return _("The store was restored from a backup that ended at event %s") % event.position
        case ChangeRecorded():
            return _("%(number)s was told of: %(title)s") % {"number": event.number, "title": event.title}
    return _of_the_organisation(fact) or item.summary


def _of_the_organisation(fact: Fact) -> str:
    match fact.event:
        case RulebookPublished():
            return _("The rulebook was published, version %s") % fact.version
        case TargetsSet():
            return _("The table of targets was set, version %s") % fact.version
        case ServiceRegistered() as event:
            return _("Service %s was registered") % event.name
        case TeamRegistered() as event:
            return _("Team %s was registered") % event.name
    return ""
