"""The search index's tables: what every ticket says, by whom it was said, and the words that find it.

`BRINGS` is the one place that says which event brings which text; `projections/search_page.py` asks the questions.

One document a ticket: words that must all occur may stand in its title, in a comment and in its solution. The index holds
no text of its own (FTS5 with external content): it is made of `search_documents` and `search_comments`, which are what a
rebuild is compared by.

Personal text stands here opened, in a file that only its owner may read. Whose it is stands beside it, so `forget` takes it
out, and what it leaves is what a rebuild gives once the person's key is destroyed: both know an erased text as none.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from engine.alert import AlertEpisodeOpened, AlertSeverityChanged
from engine.clock import micros
from engine.codec import ERASED
from engine.event import Event, Fact
from engine.incident import IncidentImported, IncidentOpened, IncidentResolved
from engine.person import PersonRegistered
from engine.request import RequestFulfilled, RequestImported, RequestSubmitted
from engine.ticket import MEANINGS, Meaning, TicketCommented, TicketCommentImported, TicketFileAttached, Visibility
from projections.projection import Projection, Table, rows_in

# A longer text is found by its beginning, a longer conversation by its first comments.
LONGEST_TEXT: Final = 10_000
MOST_COMMENTS: Final = 300
# What ten thousand alerts of one incident say is much the same; more of it would be indexed again with each of them.
MOST_ALERT_TEXT: Final = 3_000
LONGEST_LINE: Final = 300   # one label of an alert
# Labels that name the machine, whichever monitoring system says it.
HOST_LABELS: Final = ("host", "hostname", "instance", "node", "server", "pod")

# Columns of a document that a text stands in. `TITLES` and so on of one ticket are one column each of the index.
TEXTS: Final = (
    "number", "other_numbers", "title", "description", "item", "fields", "hosts", "alerts", "service", "person", "solution",
)
FACTS: Final = ("ticket", "id", "requester", "code", "automatic", "solved", "solved_at", "commented")
COLUMNS: Final = FACTS + TEXTS
_ROW: Final = attrgetter(*COLUMNS)
# Columns of the index, in its order; `public` and `internal` are the comments.
INDEXED: Final = (*TEXTS, "public", "internal")
# What belongs to the requester, and goes with them.
PERSONAL: Final = ("title", "description", "fields", "person", "solution")

_DDL: Final = f"""
CREATE TABLE search_documents (
    ticket        INTEGER PRIMARY KEY,   -- position of the event that opened it
    id            BLOB    NOT NULL UNIQUE,
    requester     BLOB,                  -- whose title, description, fields, name and solution these are
    code          TEXT,                  -- of the resolution; of a request: fulfilled
    automatic     INTEGER NOT NULL,      -- resolved by a rule
    solved        INTEGER,               -- position of the event that brought the solution
    solved_at     INTEGER,               -- when that was, in µs since 1970
    commented     INTEGER NOT NULL,      -- how many comments there were, kept here or not
    number        TEXT    NOT NULL,
    other_numbers TEXT    NOT NULL,      -- under which it is known elsewhere, one a line
    title         TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    item          TEXT    NOT NULL,
    fields        TEXT    NOT NULL,
    hosts         TEXT    NOT NULL,      -- of its alerts, one a line
    alerts        TEXT    NOT NULL,      -- titles and labels of its alerts, one a line
    service       TEXT    NOT NULL,
    person        TEXT    NOT NULL,      -- the requester's name
    solution      TEXT    NOT NULL
);
-- Whose words are to be forgotten, or whose name has changed.
CREATE INDEX documents_by_requester ON search_documents (requester, ticket) WHERE requester IS NOT NULL;
CREATE TABLE search_comments (
    ticket     INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    visibility TEXT    NOT NULL,
    subject    BLOB,                     -- whose words they are
    text       TEXT    NOT NULL,
    PRIMARY KEY (ticket, position)
) WITHOUT ROWID;
CREATE INDEX comments_by_subject ON search_comments (subject, ticket) WHERE subject IS NOT NULL;   -- likewise
-- What alerts say whose incident is not there: not opened yet (by incident), or not worth one so far (by alert).
CREATE TABLE search_waiting (
    id     BLOB PRIMARY KEY,
    hosts  TEXT NOT NULL,
    alerts TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE search_people (
    person BLOB PRIMARY KEY,
    name   TEXT NOT NULL
) WITHOUT ROWID;
DROP VIEW IF EXISTS search_content;
CREATE VIEW search_content AS SELECT {", ".join(f"d.{column}" for column in ("ticket", *TEXTS))},
    (SELECT coalesce(group_concat(c.text, char(10)), '') FROM search_comments AS c
     WHERE c.ticket = d.ticket AND c.visibility = 'public') AS public,
    (SELECT coalesce(group_concat(c.text, char(10)), '') FROM search_comments AS c
     WHERE c.ticket = d.ticket AND c.visibility = 'internal') AS internal
    FROM search_documents AS d;
CREATE VIRTUAL TABLE search_index USING fts5
    ({", ".join(INDEXED)}, content = 'search_content', content_rowid = 'ticket',
     tokenize = 'unicode61 remove_diacritics 2', prefix = '3');
"""


class Document:
    """One ticket's texts so far."""

    __slots__ = (*COLUMNS, "comments", "stored")

    def __init__(self, ticket: int, stream_id: bytes) -> None:
        self.ticket, self.id = ticket, stream_id
        self.requester: bytes | None = None
        self.code: str | None = None
        self.automatic = False
        self.solved: int | None = None
        self.solved_at: int | None = None
        self.commented = 0
        self.number = self.other_numbers = self.title = self.description = self.item = self.fields = ""
        self.hosts = self.alerts = self.service = self.person = self.solution = ""
        self.stored: tuple[Any, ...] | None = None   # the row that it was read from
        self.comments: list[tuple[int, str, bytes | None, str]] = []   # new: position, visibility, subject, text

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> "Document":
        """The other way round; `row` holds `COLUMNS`."""
        document = cls(row[0], row[1])
        for name, value in zip(COLUMNS[2:], row[2:], strict=True):
            setattr(document, name, value)
        document.automatic = bool(document.automatic)
        document.stored = row
        return document

    def row(self) -> tuple[Any, ...]:
        found: tuple[Any, ...] = _ROW(self)
        return found

    # -- what events bring; the functions of BRINGS ------------------------------------------------------------------

    def incident_opened(self, event: IncidentOpened, _fact: Fact) -> None:
        self.open(event.number, event.title, event.description, event.service, event.requester)

    def request_submitted(self, event: RequestSubmitted, _fact: Fact) -> None:
        self.open(event.number, event.title, event.description, event.service, event.requester)
        self.item = _text(event.item)
        self.fields = _text("\n".join(f"{name}: {value}" for name, value in event.fields.items()))

    def imported(self, event: IncidentImported | RequestImported, fact: Fact) -> None:
        """What another tool says of it; there it had another number."""
        self.open(event.number, event.title, event.description, event.service, event.requester)
        self.other_numbers = _text(event.old_number)
        self.fields = _text("\n".join(f"{name}: {value}" for name, value in event.fields.items()))
        if event.resolved_at is not None and MEANINGS[event.state] in (Meaning.RESOLVED, Meaning.CLOSED):
            self.solve(fact.position, event.solution, event.code or "solved", event.resolved_at)

    def comment_imported(self, event: TicketCommentImported, fact: Fact) -> None:
        self.say(fact.position, event.text, event.visibility, event.subject)

    def open(self, number: str, title: str, description: str, service: str | None, requester: UUID | None) -> None:
        """What every opening says."""
        self.number, self.title, self.description, self.service = number, _text(title), _text(description), _text(service)
        self.requester = None if requester is None else requester.bytes

    def commented_on(self, event: TicketCommented, fact: Fact) -> None:
        self.say(fact.position, event.text, event.visibility, event.subject)

    def file_attached(self, event: TicketFileAttached, fact: Fact) -> None:
        """Its name is something that was said; what is in it is not read."""
        self.say(fact.position, event.name, event.visibility, event.subject)

    def say(self, position: int, text: str, visibility: Visibility, subject: UUID | None) -> None:
        """Something was said on it. `position` tells it from what was said before."""
        self.commented += 1
        text = _text(text)
        if text and self.commented <= MOST_COMMENTS:
            self.comments.append((position, visibility.value, None if subject is None else subject.bytes, text))

    def incident_resolved(self, event: IncidentResolved, fact: Fact) -> None:
        self.solve(fact.position, event.solution, event.code, event.resolved_at, automatic=event.automatic)

    def request_fulfilled(self, event: RequestFulfilled, fact: Fact) -> None:
        self.solve(fact.position, event.note, "fulfilled", event.fulfilled_at)

    def solve(self, position: int, solution: str, code: str, at: datetime, *, automatic: bool = False) -> None:
        """It was solved, and how."""
        self.solution, self.code, self.automatic, self.solved, self.solved_at = _text(solution), code, automatic, position, micros(at)

    @property
    def full(self) -> bool:
        """Whether nothing that an alert says would be added any more."""
        return len(self.hosts) >= MOST_ALERT_TEXT and len(self.alerts) >= MOST_ALERT_TEXT

    def hear(self, hosts: str, alerts: str) -> None:
        """What an alert of it says, so much of it as is new."""
        self.hosts, self.alerts = _added(self.hosts, hosts), _added(self.alerts, alerts)


# Which event of a ticket's own stream brings which text. An opening makes the document; a new kind of event that brings
# text has its line here and nothing else. (What an imported ticket was called goes to `other_numbers`, one a line.)
BRINGS: Final[Mapping[type[Event], Callable[[Document, Any, Fact], None]]] = {
    IncidentOpened: Document.incident_opened,
    RequestSubmitted: Document.request_submitted,
    IncidentImported: Document.imported,
    RequestImported: Document.imported,
    TicketCommented: Document.commented_on,
    TicketCommentImported: Document.comment_imported,
    TicketFileAttached: Document.file_attached,
    IncidentResolved: Document.incident_resolved,
    RequestFulfilled: Document.request_fulfilled,
}
OPENS: Final[frozenset[type[Event]]] = frozenset({IncidentOpened, IncidentImported, RequestSubmitted, RequestImported})


def _text(text: str | None) -> str:
    """As it is indexed: an erased text is none, and the marks of a snippet stand in no text."""
    if not text or text == ERASED:
        return ""
    if len(text) <= LONGEST_TEXT and text.isprintable():
        return text
    return text[:LONGEST_TEXT].replace("\x02", " ").replace("\x03", " ").replace("\0", " ")


def _line(text: str) -> str:
    return text if text.isprintable() and len(text) <= LONGEST_LINE else " ".join(_text(text[:LONGEST_LINE]).split("\n"))


def _added(known: str, more: str) -> str:
    if len(known) >= MOST_ALERT_TEXT:
        return known
    lines = known.split("\n") if known else []
    for line in more.split("\n"):
        if line and line not in lines and len(known) < MOST_ALERT_TEXT:
            lines.append(line)
            known = f"{known}\n{line}" if known else line
    return known


def _said(event: AlertEpisodeOpened) -> tuple[str, str]:
    """(hosts, titles and labels), one a line."""
    labels = event.labels
    hosts = [event.resource or "", *(labels[name] for name in HOST_LABELS if name in labels)]
    others = [event.title, event.service or "", *(value for name, value in labels.items() if name not in HOST_LABELS)]
    return "\n".join(map(_line, dict.fromkeys(hosts))), "\n".join(map(_line, dict.fromkeys(others)))


_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM search_documents WHERE id IN ({{keys}})"
_SELECT_OF: Final = f"SELECT {', '.join(COLUMNS)} FROM search_documents WHERE requester IN ({{keys}})"
_SELECT_TICKET: Final = f"SELECT {', '.join(COLUMNS)} FROM search_documents WHERE ticket IN ({{keys}})"
_PUT: Final = f"INSERT OR REPLACE INTO search_documents ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_INDEX: Final = f"INSERT INTO search_index (rowid, {', '.join(INDEXED)}) VALUES ({', '.join('?' * (1 + len(INDEXED)))})"
# FTS5 is told what to take out: it has no text of its own.
_UNINDEX: Final = (
    f"INSERT INTO search_index (search_index, rowid, {', '.join(INDEXED)}) "
    f"VALUES ('delete', {', '.join('?' * (1 + len(INDEXED)))})"
)
_FIRST_TEXT: Final = len(FACTS)


class _Batch:
    """What a batch of facts does to the documents, gathered and then written at once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._documents: dict[bytes, Document] = {}
        # id -> [hosts, alerts], or None where there is nothing (any more)
        self._waiting: dict[bytes, tuple[str, str] | None] = {}
        self._had_waiting: set[bytes] = set()
        self._names: dict[bytes, str] = {}

    def take(self, facts: Sequence[Fact]) -> None:
        self._load(facts)
        for fact in facts:
            event = fact.event
            brings = BRINGS.get(type(event))
            if brings is not None:
                document = self._opened(fact) if type(event) in OPENS else self._documents[fact.stream_id.bytes]
                brings(document, event, fact)
            elif isinstance(event, AlertEpisodeOpened):
                told = self._documents.get(event.incident.bytes) if event.incident else None
                if told is None or not told.full:
                    self._hear(fact.stream_id.bytes, event.incident, _said(event))
            elif isinstance(event, AlertSeverityChanged):
                if event.incident is not None:
                    said = self._waiting.get(fact.stream_id.bytes)
                    self._waiting[fact.stream_id.bytes] = None
                    self._hear(fact.stream_id.bytes, event.incident, said or ("", ""))
            elif isinstance(event, PersonRegistered):
                self._names[event.person.bytes] = _text(event.name)
        self._write()

    def _load(self, facts: Sequence[Fact]) -> None:
        tickets: dict[bytes, None] = {}
        waiting: dict[bytes, None] = {}
        people: dict[bytes, None] = {}
        for fact in facts:
            event = fact.event
            if isinstance(event, AlertEpisodeOpened | AlertSeverityChanged):
                if event.incident is not None:
                    tickets[event.incident.bytes] = waiting[event.incident.bytes] = None
                waiting[fact.stream_id.bytes] = None
            elif isinstance(event, PersonRegistered):
                people[event.person.bytes] = None
            elif type(event) in OPENS:
                waiting[fact.stream_id.bytes] = None
            else:
                tickets[fact.stream_id.bytes] = None
        for row in rows_in(self._connection, _SELECT, list(tickets)):
            self._documents[row[1]] = Document.from_row(row)
        for row in rows_in(self._connection, _SELECT_OF, list(people)):
            self._documents.setdefault(row[1], Document.from_row(row))
        for id_, hosts, alerts in rows_in(
            self._connection, "SELECT id, hosts, alerts FROM search_waiting WHERE id IN ({keys})", list(waiting)
        ):
            self._waiting[id_] = (hosts, alerts)
            self._had_waiting.add(id_)

    def _opened(self, fact: Fact) -> Document:
        key = fact.stream_id.bytes
        document = self._documents[key] = Document(fact.position, key)
        said = self._waiting.get(key)
        if said is not None:
            document.hear(*said)
            self._waiting[key] = None
        return document

    def _hear(self, alert: bytes, incident: UUID | None, said: tuple[str, str]) -> None:
        document = self._documents.get(incident.bytes) if incident else None
        if document is not None:
            document.hear(*said)
            return
        key = incident.bytes if incident else alert
        before = self._waiting.get(key) or ("", "")
        self._waiting[key] = (_added(before[0], said[0]), _added(before[1], said[1]))

    def _write(self) -> None:
        connection = self._connection
        self._name()
        changed = [document for document in self._documents.values() if document.stored != document.row()]
        _replace(connection, changed)
        gone = [(key,) for key, said in self._waiting.items() if said is None and key in self._had_waiting]
        connection.executemany("DELETE FROM search_waiting WHERE id = ?", gone)
        connection.executemany(
            "INSERT INTO search_waiting (id, hosts, alerts) VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET hosts = excluded.hosts, alerts = excluded.alerts",
            [(key, *said) for key, said in self._waiting.items() if said is not None],
        )

    def _name(self) -> None:
        """Put the requesters' present names into documents that are new or whose requester has a new name."""
        connection = self._connection
        wanted = {document.requester for document in self._documents.values() if document.stored is None and document.requester}
        found = dict(rows_in(connection, "SELECT person, name FROM search_people WHERE person IN ({keys})", sorted(wanted - self._names.keys())))
        found |= self._names
        for document in self._documents.values():
            if document.requester in found:
                document.person = found[document.requester]
        connection.executemany(
            "INSERT INTO search_people (person, name) VALUES (?, ?) ON CONFLICT (person) DO UPDATE SET name = excluded.name",
            list(self._names.items()),
        )


def _replace(connection: sqlite3.Connection, documents: Sequence[Document]) -> None:
    """Write documents with their new comments, and index them anew."""
    known = [document for document in documents if document.stored is not None]
    comments = _comments(connection, [document.ticket for document in known])
    connection.executemany(_UNINDEX, [
        (document.ticket, *document.stored[_FIRST_TEXT:], *_joined(comments.get(document.ticket, ())))
        for document in known if document.stored is not None
    ])
    connection.executemany(_PUT, [document.row() for document in documents])
    connection.executemany(
        "INSERT INTO search_comments (ticket, position, visibility, subject, text) VALUES (?, ?, ?, ?, ?)",
        [(document.ticket, *comment) for document in documents for comment in document.comments],
    )
    connection.executemany(_INDEX, [
        (document.ticket, *document.row()[_FIRST_TEXT:], *_joined([
            *comments.get(document.ticket, ()), *((visibility, text) for _, visibility, _, text in document.comments),
        ]))
        for document in documents
    ])


def _comments(connection: sqlite3.Connection, tickets: Sequence[int]) -> dict[int, list[tuple[str, str]]]:
    """Ticket -> (visibility, text) of its comments, oldest first."""
    found: dict[int, list[tuple[str, str]]] = {}
    sql = "SELECT ticket, visibility, text FROM search_comments WHERE ticket IN ({keys}) ORDER BY ticket, position"
    for ticket, visibility, text in rows_in(connection, sql, tickets):
        found.setdefault(ticket, []).append((visibility, text))
    return found


def _joined(comments: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """(public, internal), as `search_content` has them."""
    comments = list(comments)
    return (
        "\n".join(text for visibility, text in comments if visibility == "public"),
        "\n".join(text for visibility, text in comments if visibility == "internal"),
    )


def _apply(connection: sqlite3.Connection, facts: Sequence[Fact]) -> None:
    _Batch(connection).take(facts)


def forget(connection: sqlite3.Connection, subject: UUID) -> None:
    """Take everything that a person said, and their name, out of the documents and the index; within a transaction.

    What is left is what a rebuild gives after the person's key was destroyed. The words are gone from the pages of the file
    too: freed space is overwritten, and the index is merged into one segment, since FTS5 otherwise keeps deleted words until
    it merges. That takes seconds on a large store; erasing is rare. Copies of old pages stay in the write-ahead log until it
    is written back: `PRAGMA wal_checkpoint(TRUNCATE)` after the commit, as `erase` does.
    """
    connection.execute("PRAGMA secure_delete = ON")
    person = subject.bytes
    said = "SELECT DISTINCT ticket FROM search_comments WHERE subject = ?"
    keys = {row[0] for row in connection.execute(said, (person,))}
    keys |= {row[0] for row in connection.execute("SELECT ticket FROM search_documents WHERE requester = ?", (person,))}
    documents = [Document.from_row(row) for row in rows_in(connection, _SELECT_TICKET, sorted(keys))]
    for batch in _in_parts(documents):
        comments = _comments(connection, [document.ticket for document in batch])
        connection.executemany(_UNINDEX, [
            (document.ticket, *(document.stored or ())[_FIRST_TEXT:], *_joined(comments.get(document.ticket, ())))
            for document in batch
        ])
        for document in batch:
            if document.requester == person:
                for name in PERSONAL:
                    setattr(document, name, "")
        connection.executemany(
            "DELETE FROM search_comments WHERE ticket = ? AND subject = ?", [(document.ticket, person) for document in batch]
        )
        connection.executemany(_PUT, [document.row() for document in batch])
        left = _comments(connection, [document.ticket for document in batch])
        connection.executemany(_INDEX, [
            (document.ticket, *document.row()[_FIRST_TEXT:], *_joined(left.get(document.ticket, ()))) for document in batch
        ])
    connection.execute("UPDATE search_people SET name = '' WHERE person = ?", (person,))
    connection.execute("INSERT INTO search_index (search_index) VALUES ('optimize')")


def _in_parts(documents: Sequence[Document], size: int = 500) -> Iterator[Sequence[Document]]:
    for start in range(0, len(documents), size):
        yield documents[start : start + size]


def erase(connection: sqlite3.Connection, subject: UUID) -> None:
    """`forget`, committed, and the file's write-ahead log emptied of what stood there."""
    kept = connection.execute("PRAGMA secure_delete").fetchone()[0]
    connection.execute("BEGIN IMMEDIATE")
    try:
        forget(connection, subject)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute(f"PRAGMA secure_delete = {kept:d}")


PROJECTION: Final = Projection(
    name="search",
    version=1,
    tables=(
        Table("search_documents", "ticket"),
        Table("search_comments", "ticket, position"),
        Table("search_waiting", "id"),
        Table("search_people", "person"),
        # Made of the above and of nothing else; how its words lie in segments depends on how the log was cut into batches.
        Table("search_index", "number", compared=False),
    ),
    ddl=_DDL,
    events=frozenset(BRINGS) | {AlertEpisodeOpened, AlertSeverityChanged, PersonRegistered},
    apply=_apply,
)
