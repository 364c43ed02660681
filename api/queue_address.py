"""What an address of the queue may ask for: names of its parameters, what they mean, and the one way to write them down.

The queue's page, saved views and what is shown as "here" in the navigation compare addresses in this form.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from engine.errors import InvalidInput, Phrase
from engine.saved_view import LONGEST_QUERY
from projections.queue_page import DEFAULT_SORT, NOBODY, SORTS, QueueFilter

ME: Final = "me"
# A filter of the address that is no single priority. The queue begins with these two, so its page is cut after them.
URGENT: Final = "P1-P2"
# Address parameters that narrow the list, in the order in which they are shown.
FILTERS: Final = ("kind", "priority", "service", "team", "assignee", "state", "meaning", "source")
SORT: Final = "sort"
LONGEST_VALUE: Final = 200


def filter_of(asked: Mapping[str, str], person: UUID | None) -> QueueFilter:
    """The filter that an address asks for; `assignee=me` is whoever looks.

    Raises:
        InvalidInput: a value outside its closed set.
    """
    values = {name: asked.get(name) or None for name in FILTERS}
    who = values["assignee"]
    assignee: UUID | str | None = person if who == ME else who
    if who not in (None, ME, NOBODY):
        try:
            assignee = UUID(who)
        except ValueError:
            raise InvalidInput("assignee", "me, nobody or a person's id") from None
    return QueueFilter(
        kind=values["kind"], priority=None if values["priority"] == URGENT else values["priority"], service=values["service"],
        team=values["team"], assignee=assignee, state=values["state"], meaning=values["meaning"], source=values["source"],
    )


def written(asked: Mapping[str, str]) -> str:
    """The parameters of an address that say what the queue shows, always in the same order; the rest (instant, page) left out."""
    values = {name: asked[name] for name in FILTERS if asked.get(name)}
    if asked.get(SORT) and asked[SORT] != DEFAULT_SORT:
        values[SORT] = asked[SORT]
    return urlencode(values)


def checked(query: str) -> str:
    """An address that somebody wants to keep, as `written`.

    Raises:
        InvalidInput: it asks for something that the queue does not know, or for nothing.
    """
    query = query.strip().removeprefix("?")
    if len(query) > LONGEST_QUERY:
        raise InvalidInput("query", Phrase("at most %s characters", LONGEST_QUERY))
    try:
        asked = dict(parse_qsl(query, max_num_fields=20, strict_parsing=bool(query)))
    except ValueError:
        raise InvalidInput("query", "parameters of the queue's address, such as team=Shop&sort=due") from None
    for name, value in asked.items():
        if name not in (*FILTERS, SORT):
            raise InvalidInput("query", Phrase("filters that the queue knows: %s; not %s", ', '.join((*FILTERS, SORT)), name))
        if len(value) > LONGEST_VALUE or not value.isprintable():
            raise InvalidInput("query", Phrase("values of at most %s visible characters", LONGEST_VALUE))
    if asked.get(SORT, DEFAULT_SORT) not in SORTS:
        raise InvalidInput("sort", Phrase("one of %s", ', '.join(SORTS)))
    filter_of(asked, None)
    found = written(asked)
    if not found:
        raise InvalidInput("query", "at least one filter or an order: the whole queue needs no name")
    return found
