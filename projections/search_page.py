"""Questions about what tickets say: a search in the words of people, and tickets like this one that were solved.

`projections/search.py` keeps the index; who a ticket is with and how it stands is asked of the work queue's tables.

Very common words are in most tickets, and weighing each of them would take a second. So the newest `MOST_WEIGHED` that fit
are weighed, which are all of them wherever somebody looks for something in particular.
"""

import math
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from engine.clock import from_micros, micros
from engine.errors import InvalidInput
from engine.ticket import MEANINGS, OPEN, Meaning
from projections.page import Page, checked_limit, from_cursor, to_cursor
from projections.projection import batched
from projections.queue_page import AS_THEN, rows_of
from projections.search import INDEXED
from projections.ticket_row import TicketRow
from projections.views import Reader

LONGEST_QUERY: Final = 500
MOST_WORDS: Final = 24
MOST_WEIGHED: Final = 2_000
# A shorter last word is taken as a whole: what begins with one letter is nearly everything.
LEAST_PREFIX: Final = 2

# How much a word in a column says about the ticket, in the order of the index.
WEIGHTS: Final[Mapping[str, float]] = {
    "number": 12.0, "other_numbers": 12.0, "title": 8.0, "description": 2.0, "item": 3.0, "fields": 1.5, "hosts": 4.0, "alerts": 1.5,
    "service": 3.0, "person": 3.0, "solution": 5.0, "public": 1.0, "internal": 1.0,
}
OPEN_FAVOUR: Final = 0.15
NEW_FAVOUR: Final = 0.25
NEW_DAYS: Final = 45.0

FIELDS: Final = ("service", "team", "state", "kind", "priority", "requester", "host", "number")
# Fields that are words of the index. The others are asked of the tickets as they stand.
_IN_INDEX: Final[Mapping[str, str]] = {
    "service": "service", "requester": "person", "host": "hosts", "number": "{number other_numbers}",
}
_OPEN: Final = "open"
_STATES: Final = frozenset({_OPEN, *MEANINGS, *Meaning})
_PRIORITIES: Final = ("P1", "P2", "P3", "P4", "P5")
_KINDS: Final = ("incident", "request")
_PART: Final = re.compile(r'(?P<minus>-)?(?:(?P<field>[A-Za-z]+):)?(?:"(?P<quoted>[^"]*)(?:"|$)|(?P<word>\S+))')
_NUMBER: Final = re.compile(r"[A-Za-z]{3}-?[0-9]{1,12}")

_WEIGHTS: Final = ", ".join(str(WEIGHTS[name]) for name in INDEXED)
_DAY: Final = 86_400_000_000

# Characters of a snippet, and the texts that it may be taken from; what a list shows beside is not among them.
SNIPPET: Final = 180
TOLD: Final = ("description", "solution", "public", "internal", "alerts", "hosts", "fields", "item", "other_numbers")
# Of these, what was there from the beginning.
OPENING: Final = ("description", "fields", "item")
_WORD: Final = re.compile(r"[^\W_]+")

# Tickets like another: by so many of its rarest words, each of which at most so many tickets have.
MOST_TERMS: Final = 8
MOST_OF_A_TERM: Final = 500
MOST_WORDS_LOOKED_UP: Final = 48
MOST_ALIKE_WEIGHED: Final = 2_000
MOST_COMPARED: Final = 40
LEAST_LIKENESS: Final = 0.3
# What a rule wrote into the solution helps nobody who looks for one.
AUTOMATIC_WORTH: Final = 0.6
LABEL_WORTH: Final = 0.3
# A word that no other ticket has is perhaps a name, perhaps a number: it speaks a little against being the same.
OWN_WORTH: Final = 2.0
LONGEST_EXCERPT: Final = 280
_ALIKE: Final = ("title", "service", "hosts", "alerts", "item")
_IN_ALIKE: Final = f"{{{' '.join(_ALIKE)}}}"
_SOLVED: Final = f"t.meaning IN ('{Meaning.RESOLVED.value}', '{Meaning.CLOSED.value}')"
_SOLVED_OF: Final = (
    "FROM search_index AS f CROSS JOIN search_documents AS d ON d.ticket = f.rowid CROSS JOIN tickets AS t ON t.ticket = f.rowid "
    "WHERE f.search_index MATCH :match AND f.rowid <= :at AND f.rowid <> :ticket AND d.solved <= :at AND {then} ORDER BY f.rowid DESC"
)


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """A part of a snippet."""

    text: str
    hit: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that was found, and where its text says so.

    Attributes:
        snippet: pieces of the text around the words that were looked for, in order; empty where only filters were asked.
    """

    ticket: TicketRow
    snippet: list[Piece]


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket that was solved and speaks of much the same.

    Attributes:
        code: of its resolution; `fulfilled` for a request.
        solution: its beginning, at most 280 characters; empty where nothing was said.
        likeness: share of this ticket's words that stand there too, the rarer ones weighing more; from 0 to 1.
    """

    number: str
    kind: str
    title: str
    state: str
    service: str | None
    resolved_at: datetime | None
    code: str | None
    solution: str
    likeness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is looked for.

    Attributes:
        words: texts that must all stand in the ticket, each a word or a phrase.
        unfinished: whether the last of them may be the beginning of a word.
        without: texts that must not.
        fields: (field, value) that must hold; `not_fields` that must not.
    """

    words: tuple[str, ...] = ()
    unfinished: bool = False
    without: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    not_fields: tuple[tuple[str, str], ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.words or self.without or self.fields or self.not_fields)

    @property
    def number(self) -> str | None:
        """The ticket's number, where nothing but that was asked."""
        if len(self.words) == 1 and not (self.without or self.fields or self.not_fields) and _NUMBER.fullmatch(self.words[0]):
            text = self.words[0].upper()
            return text if "-" in text else f"{text[:3]}-{text[3:]}"
        return None

    def narrowed(self, **fields: str | None) -> "Asked":
        """With these fields besides.

        Raises:
            InvalidInput: a value outside its closed set.
        """
        more = []
        for name, value in fields.items():
            if value is None:
                continue
            plain = _plain(value).strip()
            known = _field(name, plain)
            if known is None:
                raise InvalidInput(name, _EXPECTED.get(name, "a word"))
            more.append((name, known))
        return replace(self, fields=(*self.fields, *more))


_EXPECTED: Final = {
    "state": f"open, or one of {', '.join(sorted(_STATES - {_OPEN}))}", "priority": "P1, P2, P3, P4 or P5", "kind": "incident or request",
}


def asked(text: str) -> Asked:
    """What somebody typed, whatever it is: never an error. docs/search.md tells the language.

    What looks like a field but is none, or has a value that it can't have, is looked for as text.
    """
    words: list[str] = []
    without: list[str] = []
    fields: list[tuple[str, str]] = []
    not_fields: list[tuple[str, str]] = []
    unfinished = False
    plain = _plain(text[:LONGEST_QUERY])
    for part in _PART.finditer(plain):
        name, value = (part["field"] or "").lower(), part["quoted"] if part["quoted"] is not None else part["word"]
        known = _field(name, value) if name in FIELDS else None
        if known is not None:
            (not_fields if part["minus"] else fields).append((name, known))
            continue
        said = f"{part['field']} {value}" if part["field"] else value
        if not _tokens(said):
            continue
        (without if part["minus"] else words).append(said)
        if not part["minus"]:
            unfinished = part["quoted"] is None and part.end() == len(plain) and said[-1].isalnum()
    return Asked(
        words=tuple(words[:MOST_WORDS]), unfinished=unfinished and len(words) <= MOST_WORDS, without=tuple(without[:MOST_WORDS]),
        fields=tuple(fields[:MOST_WORDS]), not_fields=tuple(not_fields[:MOST_WORDS]),
    )


def _plain(text: str) -> str:
    """Without what no text holds and what an expression of the index can't hold."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(" " if character < " " or character == "\x7f" else character for character in text)


def _field(name: str, value: str) -> str | None:
    """A field's value as it is asked for; None where it can't have that value."""
    match name:
        case "state":
            state = value.lower().replace(" ", "_")
            return state if state in _STATES else None
        case "priority":
            return value.upper() if value.upper() in _PRIORITIES else None
        case "kind":
            return value.lower() if value.lower() in _KINDS else None
        case "team":
            return value or None
    return value if _tokens(value) else None


def _tokens(text: str) -> list[str]:
    """The words of a text, much as the index has them: letters and digits, without marks, small."""
    if not text.isascii():
        text = "".join(character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return _WORD.findall(text.lower())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', " ") + '"'


@dataclass(slots=True)
class _Plan:
    """An expression of the index, and conditions on tickets (`t`, and `v` as they were)."""

    match: str | None = None
    without: str | None = None
    versions: str = ""
    where: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def _plan(looked_for: Asked, columns: Sequence[str], *, past: bool) -> _Plan:
    plan = _Plan(versions=AS_THEN.format(ticket="t.ticket") if past else "")
    terms = []
    for place, word in enumerate(looked_for.words):
        last = place == len(looked_for.words) - 1
        beginning = last and looked_for.unfinished and len(_tokens(word)[-1]) >= LEAST_PREFIX
        terms.append(_quoted(word) + (" *" if beginning else ""))
    without = [_quoted(word) for word in looked_for.without]
    if len(columns) < len(INDEXED):  # words of columns that may not be read find nothing
        readable = f"{{{' '.join(columns)}}}"
        terms, without = [f"{readable} : {term}" for term in terms], [f"{readable} : {term}" for term in without]
    terms += [f"{_IN_INDEX[name]} : {_quoted(value)}" for name, value in looked_for.fields if name in _IN_INDEX]
    without += [f"{_IN_INDEX[name]} : {_quoted(value)}" for name, value in looked_for.not_fields if name in _IN_INDEX]
    plan.match = " AND ".join(terms) or None
    plan.without = " OR ".join(without) or None
    for pairs, negated in ((looked_for.fields, False), (looked_for.not_fields, True)):
        for place, (name, value) in enumerate(pairs):
            if name not in _IN_INDEX:
                condition = _condition(plan, name, value, f"{name}_{place}_{int(negated)}")
                plan.where.append(f"NOT coalesce({condition}, 0)" if negated else condition)
    return plan


def _condition(plan: _Plan, name: str, value: str, key: str) -> str:
    """What a field asks of a ticket, in SQL."""
    row = "v" if plan.versions else "t"
    if name == "state" and value == _OPEN:
        return f"{row}.meaning IN ({', '.join(repr(meaning.value) for meaning in sorted(OPEN))})" if plan.versions else "t.open = 1"
    if name == "priority":
        plan.values[key] = int(value[1])
        return f"{row}.priority = :{key}"
    plan.values[key] = value
    if name == "state":
        return f"({row}.state = :{key} OR {row}.meaning = :{key})"
    return f"{row}.team = :{key} COLLATE NOCASE" if name == "team" else f"t.kind = :{key}"


def search(
    reader: Reader, looked_for: Asked, *, internal: bool = True, as_of: int | None = None, cursor: str | None = None, limit: int = 25
) -> Page[Found]:
    """Tickets that fit, the best first; none where nothing was asked.

    A ticket whose number was typed alone comes first. Then better words (in the number, title and solution) weigh more, and
    open and newer tickets a little. Where no words are looked for the newest come first.

    Args:
        internal: whether words that stay inside are looked at and shown.
        as_of: a log position: only tickets that were opened by then, as they stood then. The words that find them are those
            that are known now; of these only what was said when they were opened is shown.

    Raises:
        InvalidInput: bad cursor or limit.
    """
    limit = checked_limit(limit)
    key = from_cursor(cursor, "search", (int, int))
    at = reader.at(as_of)
    newest, skipped = key or (at, 0)
    if skipped < 0:
        raise InvalidInput("cursor", "the `next` of a page of this list")
    columns = INDEXED if internal else tuple(name for name in INDEXED if name != "internal")
    plan = _plan(looked_for, columns, past=at < reader.position)
    plan.values["at"], newest = at, min(newest, at)
    tickets = [] if looked_for.nothing else _ranked(reader, plan, newest)
    exact = _numbered(reader, looked_for, newest)
    tickets = [*exact, *(ticket for ticket in tickets if ticket not in exact)]
    shown = tickets[skipped : skipped + limit]
    snippets = _snippets(reader, looked_for, shown, OPENING if at < reader.position else columns)
    items = [
        Found(ticket=row, snippet=snippets.get(ticket, [])) for ticket, row in zip(shown, rows_of(reader, shown, at), strict=True)
    ]
    more = to_cursor("search", [newest, skipped + limit]) if len(tickets) > skipped + limit else None
    return Page(items=items, next=more, position=at)


def numbered(reader: Reader, looked_for: Asked, *, as_of: int | None = None) -> str | None:
    """The number of the ticket that was asked for by its number, or by one that it has elsewhere; None where there is none."""
    found = _numbered(reader, looked_for, reader.at(as_of))
    row = reader.row("SELECT number FROM tickets WHERE ticket = :ticket", {"ticket": found[0]}) if len(found) == 1 else None
    return None if row is None else str(row[0])


def _numbered(reader: Reader, looked_for: Asked, newest: int) -> list[int]:
    if len(looked_for.words) != 1 or looked_for.without or looked_for.fields or looked_for.not_fields:
        return []
    values = {"number": looked_for.number, "newest": newest}
    own = reader.rows("SELECT ticket FROM search_documents WHERE ticket = (SELECT ticket FROM tickets WHERE number = :number) AND ticket <= :newest", values)
    word = looked_for.words[0]
    others = reader.rows(
        "SELECT d.ticket, d.other_numbers FROM search_index AS f JOIN search_documents AS d ON d.ticket = f.rowid "
        "WHERE f.search_index MATCH :match AND f.rowid <= :newest ORDER BY f.rowid DESC LIMIT 20",
        {"match": f"other_numbers : {_quoted(word)}", "newest": newest},
    )
    called = [ticket for ticket, names in others if word.casefold() in (name.casefold() for name in names.split("\n"))]
    return list(dict.fromkeys([*(row[0] for row in own), *called]))


def _ranked(reader: Reader, plan: _Plan, newest: int) -> list[int]:
    """Tickets that fit, the best first."""
    values = {**plan.values, "newest": newest, "most": MOST_WEIGHED, "match": plan.match, "without": plan.without}
    where = "".join(f" AND {condition}" for condition in plan.where)
    if plan.match is None:
        if plan.without is not None:
            where += " AND t.ticket NOT IN (SELECT rowid FROM search_index WHERE search_index MATCH :without)"
        found = reader.rows(
            f"SELECT t.ticket FROM tickets AS t {plan.versions} WHERE t.ticket <= :newest{where} ORDER BY t.ticket DESC LIMIT :most", values
        )
        return [row[0] for row in found]
    if plan.without is not None:
        values["match"] = f"({plan.match}) NOT ({plan.without})"
    # The index gives its rows newest first without sorting, and weighs only those that pass.
    found = reader.rows(
        f"SELECT f.rowid, bm25(search_index, {_WEIGHTS}), t.open, t.opened_at FROM search_index AS f "
        f"CROSS JOIN tickets AS t ON t.ticket = f.rowid {plan.versions} "
        f"WHERE f.search_index MATCH :match AND f.rowid <= :newest{where} ORDER BY f.rowid DESC LIMIT :most",
        values,
    )
    now = micros(reader.ledger.clock.now())
    worth = [(-_worth(now, weight, bool(is_open), opened_at), -ticket) for ticket, weight, is_open, opened_at in found]
    return [-ticket for _, ticket in sorted(worth)]


def _worth(now: int, weight: float, is_open: bool, opened_at: int) -> float:
    """How good an answer a ticket is: `weight` is bm25's, which is the better the less it is."""
    age = max(0.0, (now - opened_at) / _DAY)
    return -weight * (1 + OPEN_FAVOUR * is_open + NEW_FAVOUR * math.exp(-age / NEW_DAYS))


# -- snippets --------------------------------------------------------------------------------------------------------


def _snippets(reader: Reader, looked_for: Asked, tickets: Sequence[int], columns: Sequence[str]) -> dict[int, list[Piece]]:
    """Ticket -> its text around what was looked for; where that stands in no text, the beginning of its description."""
    told = [name for name in TOLD if name in columns]
    found = {}
    for batch in batched(tickets):
        marks = ", ".join("?" * len(batch))
        for ticket, *texts in reader.rows(f"SELECT ticket, {', '.join(told)} FROM search_content WHERE ticket IN ({marks})", batch):
            found[ticket] = _snippet(texts, looked_for)
    return found


def _snippet(texts: Sequence[str], looked_for: Asked) -> list[Piece]:
    phrases = [(_tokens(word), looked_for.unfinished and word is looked_for.words[-1]) for word in looked_for.words]
    best: tuple[int, list[Piece]] = (0, [])
    for text in texts:
        around = _around(text, phrases)
        pieces = _marked(around, phrases) if around else []
        hits = len({piece.text.lower() for piece in pieces if piece.hit})
        if hits > best[0]:
            best = (hits, pieces)
        if hits and hits >= len(phrases):
            break
    return best[1] or ([Piece(_cut(texts[0], SNIPPET), False)] if texts[0] else [])


def _around(text: str, phrases: Sequence[tuple[list[str], bool]]) -> str:
    """The part of a text where the first of the phrases that it has begins; empty where it has none."""
    small = text.lower()
    begins = [small.find(tokens[0]) for tokens, _ in phrases]
    places = [begin for begin in begins if begin >= 0]
    if not places:  # perhaps with other marks on its letters: the beginning is looked at letter by letter
        return text[:SNIPPET] if not text.isascii() else ""
    begin = max(0, min(places) - SNIPPET // 3)
    part = text[begin : begin + SNIPPET]
    if begin:
        part = "… " + part.partition(" ")[2]
    return part.rpartition(" ")[0] + " …" if begin + SNIPPET < len(text) else part


def _marked(text: str, phrases: Sequence[tuple[list[str], bool]]) -> list[Piece]:
    found = [(match.start(), match.end(), "".join(_tokens(match[0]))) for match in _WORD.finditer(text)]
    hit = [False] * len(found)
    for tokens, unfinished in phrases:
        for first in range(len(found) - len(tokens) + 1):
            said = [found[first + place][2] for place in range(len(tokens))]
            if said[:-1] == tokens[:-1] and (said[-1] == tokens[-1] or (unfinished and said[-1].startswith(tokens[-1]))):
                hit[first : first + len(tokens)] = [True] * len(tokens)
    pieces: list[Piece] = []
    done = 0
    for (begin, end, _), is_hit in zip(found, hit, strict=True):
        if is_hit:
            if begin > done:
                pieces.append(Piece(text[done:begin], False))
            pieces.append(Piece(text[begin:end], True))
            done = end
    return [*pieces, Piece(text[done:], False)] if done < len(text) else pieces


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rpartition(" ")[0] + " …"


# -- have we had this before? ----------------------------------------------------------------------------------------


def similar(reader: Reader, number: str, *, as_of: int | None = None, limit: int = 5) -> list[Alike] | None:
    """Solved tickets that speak of the same as this one, the most alike first; None where there is no such ticket by then.

    Args:
        as_of: a log position; only what was solved by then is offered, and not what was solved anew since: the index knows
            the latest solution.

    Raises:
        InvalidInput: bad limit.
    """
    limit, at = checked_limit(limit), reader.at(as_of)
    mine = reader.row(
        f"SELECT d.ticket, {', '.join(f'd.{name}' for name in _ALIKE)} FROM search_documents AS d "
        "WHERE d.ticket = (SELECT ticket FROM tickets WHERE number = :number) AND d.ticket <= :at",
        {"number": number, "at": at},
    )
    if mine is None:
        return None
    ticket, title, *rest = mine
    often = _often(reader, title, rest)
    if not often:
        return []
    candidates = dict.fromkeys([*_sharing(reader, often, ticket, at), *_called_the_same(reader, title, ticket, at)])
    said = {token for name, text in zip(_ALIKE, (title, *rest), strict=True) if name != "alerts" for token in _tokens(text)}
    return _alike(reader, list(candidates), _weights(often, said), at, limit)


def _sharing(reader: Reader, often: Mapping[str, int], ticket: int, at: int) -> list[int]:
    """Solved tickets with any of the rarest words, by bm25."""
    shared = [(word, number) for word, number in often.items() if number > 1]
    rarest = sorted(shared, key=lambda pair: pair[1])[:MOST_TERMS]
    rare = [_quoted(word) for word, number in rarest if number <= MOST_OF_A_TERM]
    if not rare:
        return []
    found = reader.rows(
        f"SELECT f.rowid, bm25(search_index, {_WEIGHTS}) AS weight {_SOLVED_OF.format(then=_then_or_now(reader, at))} LIMIT :most",
        {"match": f"{_IN_ALIKE} : ({' OR '.join(rare)})", "at": at, "ticket": ticket, "most": MOST_ALIKE_WEIGHED},
    )
    found.sort(key=lambda row: (row[1], -row[0]))
    return [row[0] for row in found[:MOST_COMPARED]]


def _called_the_same(reader: Reader, title: str, ticket: int, at: int) -> list[int]:
    """The newest solved tickets whose titles hold all words of this title, however common those are.

    They are not weighed: bm25 looks a common word up in every ticket that has it.
    """
    words = [_quoted(token) for token in dict.fromkeys(_tokens(title))]
    if not words:
        return []
    found = reader.rows(
        f"SELECT f.rowid {_SOLVED_OF.format(then=_then_or_now(reader, at))} LIMIT :most",
        {"match": f"title : ({' AND '.join(words)})", "at": at, "ticket": ticket, "most": MOST_COMPARED},
    )
    return [row[0] for row in found]


def _then_or_now(reader: Reader, at: int) -> str:
    return "1" if at < reader.position else _SOLVED


def _often(reader: Reader, title: str, texts: Sequence[str]) -> dict[str, int]:
    """Words of a ticket, and how many tickets have each, counted no further than needed."""
    words = list(dict.fromkeys(token for text in (title, *texts) for token in _tokens(text) if len(token) > 1))
    often = {}
    for word in words[:MOST_WORDS_LOOKED_UP]:
        row = reader.row(
            "SELECT count(*) FROM (SELECT 1 FROM search_index WHERE search_index MATCH :match LIMIT :most)",
            {"match": f"{_IN_ALIKE} : {_quoted(word)}", "most": MOST_OF_A_TERM + 1},
        )
        often[word] = row[0] if row is not None else 0
    return often


def _weights(often: Mapping[str, int], said: Collection[str]) -> dict[str, float]:
    """How much a word says: the rarer, the more; less where only a label says it, or where nobody else does."""
    return {
        word: (math.log(1 + 2 * MOST_OF_A_TERM / number) if number > 1 else OWN_WORTH) * (1.0 if word in said else LABEL_WORTH)
        for word, number in often.items()
    }


def _alike(reader: Reader, tickets: Sequence[int], weights: Mapping[str, float], at: int, limit: int) -> list[Alike]:
    """The most alike among these that were solved at a position, the newer first among equals."""
    marks = ", ".join("?" * len(tickets))
    columns = ", ".join(f"d.{name}" for name in _ALIKE)
    rows = {
        row[0]: row
        for row in reader.rows(
            "SELECT d.ticket, d.number, t.kind, d.title, t.state, t.meaning, t.service, d.solved_at, d.code, d.solution, "
            f"d.automatic, {columns} FROM search_documents AS d JOIN tickets AS t ON t.ticket = d.ticket WHERE d.ticket IN ({marks})",
            list(tickets),
        )
    }
    total, offered = sum(weights.values()), []
    for ticket in sorted(tickets, reverse=True):
        _, number, kind, title, state, meaning, service, solved_at, code, solution, automatic, *texts = rows[ticket]
        if at < reader.position:
            state, meaning = _then(reader, ticket, at)
        likeness = sum(weights[term] for term in weights.keys() & {token for text in texts for token in _tokens(text)}) / total
        if meaning in (Meaning.RESOLVED, Meaning.CLOSED) and likeness >= LEAST_LIKENESS:
            offered.append((likeness * (AUTOMATIC_WORTH if automatic else 1.0), Alike(
                number=number, kind=kind, title=title, state=state, service=service, resolved_at=from_micros(solved_at), code=code,
                solution=_cut(solution, LONGEST_EXCERPT), likeness=round(likeness, 3),
            )))
    offered.sort(key=lambda pair: -pair[0])
    return [alike for _, alike in offered[:limit]]


def _then(reader: Reader, ticket: int, at: int) -> tuple[str, str]:
    """(state, meaning) of a ticket at a position at which it was there."""
    row = reader.row(
        "SELECT state, meaning FROM ticket_versions WHERE ticket = :ticket AND valid_from <= :at ORDER BY valid_from DESC LIMIT 1",
        {"ticket": ticket, "at": at},
    )
    assert row is not None
    return row[0], row[1]
