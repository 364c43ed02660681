"""Saved views: addresses of the queue that somebody keeps under a name, for themselves or for everybody.

A shelf holds those of one person, or the shared ones; its order is the one in which they are shown. What an address may ask
for is the queue's business (`api/queue_address.py`); here it is text.
"""

from typing import Annotated, ClassVar, Final
from uuid import UUID

import msgspec

from engine.aggregate import Aggregate, Journal, applies
from engine.errors import InvalidInput, NotFound, Phrase
from engine.event import Event, Fact, Personal
from engine.identity import stream_id
from engine.ticket import plain_name

LONGEST_NAME: Final = 60
LONGEST_QUERY: Final = 2_000
MOST_VIEWS: Final = 50


class ViewSaved(Event, frozen=True):
    """An address of the queue is kept under a name, last on its shelf.

    Attributes:
        query: the address's parameters, encoded; without an instant.
        owner: whose it is; None: everybody's.
    """

    TOPIC: ClassVar[str] = "view.saved.v1"
    view: UUID
    name: Annotated[str, Personal("owner")]
    query: str
    owner: UUID | None = None


class ViewChanged(Event, frozen=True):
    """A saved view is called otherwise or stands elsewhere on its shelf; all of it as it is from here on.

    Attributes:
        place: on its shelf, from 0.
    """

    TOPIC: ClassVar[str] = "view.changed.v1"
    view: UUID
    name: Annotated[str, Personal("owner")]
    query: str
    place: int
    owner: UUID | None = None


class ViewRemoved(Event, frozen=True):
    """A saved view is kept no longer."""

    TOPIC: ClassVar[str] = "view.removed.v1"
    view: UUID
    owner: UUID | None = None


class SavedView(msgspec.Struct, frozen=True, kw_only=True):
    """One of a shelf."""

    view: UUID
    name: str
    query: str


def shelf_id(owner: UUID | None) -> UUID:
    """The shelf of a person; None: the shared one."""
    return stream_id("views", None if owner is None else str(owner))


class Shelf(Aggregate):
    """The saved views of one person, or of everybody, in their order."""

    KIND: ClassVar[str] = "views"

    def __init__(self, stream_id: UUID, journal: Journal | None = None) -> None:
        super().__init__(stream_id, journal)
        self.owner: UUID | None = None
        self.views: list[SavedView] = []

    def save(self, view: UUID, *, owner: UUID | None, name: str, query: str) -> Fact | None:
        """Keep an address; None where it is kept under this name already.

        Raises:
            InvalidInput: a name that cannot be or is another's, a query that is too long, or a full shelf.
        """
        name = _checked(name)
        if len(query) > LONGEST_QUERY:
            raise InvalidInput("query", Phrase("at most %s characters", LONGEST_QUERY))
        if any(one.name == name and one.query == query for one in self.views):
            return None
        self._free(name)
        if len(self.views) >= MOST_VIEWS:
            raise InvalidInput("name", Phrase("at most %s views; remove one first", MOST_VIEWS))
        return self.record(ViewSaved(view=view, name=name, query=query, owner=owner))

    def change(self, view: UUID, *, name: str | None = None, place: int | None = None) -> Fact | None:
        """Call it otherwise, or put it at another place (from 0; beyond the ends: at the end); None where nothing changes.

        Raises:
            NotFound: it is not on this shelf.
            InvalidInput: a name that cannot be or is another's.
        """
        at = self.place_of(view)
        known = self.views[at]
        to = at if place is None else min(max(place, 0), len(self.views) - 1)
        called = known.name if name is None else _checked(name)
        if called != known.name:
            self._free(called)
        elif to == at:
            return None
        return self.record(ViewChanged(view=view, name=called, query=known.query, place=to, owner=self.owner))

    def remove(self, view: UUID) -> Fact:
        """Keep it no longer.

        Raises:
            NotFound: it is not on this shelf.
        """
        self.place_of(view)
        return self.record(ViewRemoved(view=view, owner=self.owner))

    def place_of(self, view: UUID) -> int:
        """Where it stands, from 0.

        Raises:
            NotFound: it is not on this shelf.
        """
        for at, one in enumerate(self.views):
            if one.view == view:
                return at
        raise NotFound("saved view", str(view))

    def _free(self, name: str) -> None:
        if any(one.name == name for one in self.views):
            raise InvalidInput("name", Phrase("a name that no other view has; there is a %s already", name))

    @applies(ViewSaved)
    def _saved(self, event: ViewSaved) -> None:
        self.owner = event.owner
        self.views.append(SavedView(view=event.view, name=event.name, query=event.query))

    @applies(ViewChanged)
    def _changed(self, event: ViewChanged) -> None:
        self.views = moved(self.views, SavedView(view=event.view, name=event.name, query=event.query), event.place)

    @applies(ViewRemoved)
    def _removed(self, event: ViewRemoved) -> None:
        self.views = [one for one in self.views if one.view != event.view]


def moved(views: list[SavedView], view: SavedView, place: int) -> list[SavedView]:
    """These views with one of them as `view` says, at a place."""
    others = [one for one in views if one.view != view.view]
    return [*others[:place], view, *others[place:]]


def _checked(name: str) -> str:
    name = plain_name("name", name, "a name for the view")
    if len(name) > LONGEST_NAME:
        raise InvalidInput("name", Phrase("at most %s characters", LONGEST_NAME))
    return name
