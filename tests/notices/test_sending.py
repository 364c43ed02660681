"""Notices on their way: a real receiver, a real mail server, the sender with its outbox. The clock stands until it is moved."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from api.notices.outcome import MOST_ATTEMPTS
from api.notices.sender import Channels, Sender
from api.notices.signature import new_secret
from api.settings import Settings
from engine.incident import Incident
from engine.notice import NoticeFailed, Notices, notices_id
from engine.priority import Level
from engine.recipient import Recipient, RecipientRemoved, Shape, recipient_id
from engine.rulebook import NoticeRule
from engine.work import Unit
from projections import outbox
from projections.outbox import NoticeRow
from projections.runner import Runner
from tests.notices.post import P1, PATIENCE, PostOffice, Receiver, Tower, serve, verified
from tests.stores import settings_at

BOTH = NoticeRule(name="P1", when="ticket.priority == 'P1'", to=("on-call", "lead"))


class Post:
    """The sender of a running process, and the outbox as its readers see it."""

    def __init__(self, tower: Tower, folder: Path, settings: Settings, behind: int | None) -> None:
        self._tower = tower
        self.runner = Runner(tower.ledger, folder / "views.db", page=1_000 if behind is None else 1)
        if behind is None:
            self.runner.start()
        else:
            while self.runner.position < behind:
                self.runner.step()
        self._changed = threading.Condition()
        self.runner.subscribe(self._tell)
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _tell(self, _: int) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        async def main() -> None:
            channels = Channels(self._settings, self._tower.clock)
            sender = Sender(
                self._tower.ledger, self.runner, channels, address="https://tocsin.example.org/", chance=random.Random(1)
            )
            self._task = asyncio.current_task()
            await sender.run()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(main())

    def rows(self) -> list[NoticeRow]:
        """All notices, the oldest first."""
        with self.runner.views.reader() as reader:
            return outbox.notices(reader, limit=500).items[::-1]

    def oldest(self) -> datetime | None:
        """Since when the oldest notice waits."""
        with self.runner.views.reader() as reader:
            return outbox.waiting_since(reader)

    def wait(self, until: Callable[[list[NoticeRow]], bool]) -> list[NoticeRow]:
        with self._changed:
            assert self._changed.wait_for(lambda: until(self.rows()), PATIENCE), self.rows()
        return self.rows()

    def statuses(self, *expected: str) -> list[NoticeRow]:
        """Wait until the notices have these statuses."""
        return self.wait(lambda rows: [row.status for row in rows] == list(expected))

    def close(self) -> None:
        assert self._task is not None
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self.runner.close()


@contextmanager
def posting(tower: Tower, folder: Path, *, behind: int | None = None, **settings: Any) -> Iterator[Post]:
    """Args: behind: the views stand at this position until they are started."""
    post = Post(tower, folder, settings_at(folder / "data", **settings), behind)
    try:
        yield post
    finally:
        post.close()


INNER: dict[str, Any] = {"allowed_networks": "127.0.0.0/8", "plain_webhooks": True}


def test_a_firing_and_its_end_reach_a_receiver_signed_once_each(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    secret = new_secret()
    tower.recipient("on-call", target=receiver.url, secret=secret)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        post.statuses("sent")
        tower.ends()
        rows = post.statuses("sent", "sent")
    assert all(verified(secret, heard) for heard in receiver.heard)
    assert [heard.headers["webhook-id"] for heard in receiver.heard] == [str(row.id) for row in rows]
    began, ended = (heard.document for heard in receiver.heard)
    assert (began["type"], ended["type"]) == ("notice.firing", "notice.end")
    assert began["data"] == {
        "notice": str(rows[0].id), "ticket": "INC-1", "ticket_id": str(tower.incidents[0].id), "title": "web-1 is down",
        "priority": "P1", "state": "new", "open": True, "service": "web-1", "team": None, "since": "2026-03-02T10:00:30.000000Z",
        "rule": "P1", "rulebook_version": 1, "link": "https://tocsin.example.org/console/tickets/INC-1",
    }
    assert (ended["data"]["state"], ended["data"]["open"]) == ("resolved", False)


def test_what_fails_is_tried_again_under_the_same_id_and_later_each_time(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(500, {}, b"boom"), (503, {}, b""), (429, {}, b"")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    pauses = []
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        for attempt in (1, 2, 3):
            (row,) = post.wait(lambda rows, attempt=attempt: [row.attempts for row in rows] == [attempt])  # type: ignore[misc]  # bound per attempt
            assert row.due_at is not None
            assert post.oldest() == row.requested_at
            pauses.append((row.due_at - tower.clock.now()).total_seconds())
            tower.clock.set(row.due_at)
        (row,) = post.statuses("sent")
        assert post.oldest() is None
    assert row.attempts == 4
    assert len({heard.headers["webhook-id"] for heard in receiver.heard}) == 1
    assert [round(pause / expected) for pause, expected in zip(pauses, (5, 15, 45), strict=True)] == [1, 1, 1]
    assert [event.reason for event in tower.events(NoticeFailed) if isinstance(event, NoticeFailed)] == ["500 boom", "503", "429"]


def test_a_receiver_that_asks_for_patience_gets_it(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(429, {"Retry-After": "120"}, b""), (503, {"Retry-After": "Mon, 02 Mar 2026 11:00:30 GMT"}, b"")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        (row,) = post.wait(lambda rows: [row.attempts for row in rows] == [1])
        assert row.due_at is not None
        assert (row.due_at - row.requested_at).total_seconds() == 120
        tower.clock.set(row.due_at)
        (row,) = post.wait(lambda rows: [row.attempts for row in rows] == [2])
    assert str(row.due_at) == "2026-03-02 11:00:30+00:00"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 302])
def test_what_a_receiver_will_never_take_is_a_dead_letter_at_once_until_somebody_tries_again(
    tower: Tower, receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.answers = [(status, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}, b"no_service")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        (row,) = post.statuses("dead")
        assert str(status) in row.said
        assert len(receiver.heard) == 1
        tower.ledger.run(Unit(lambda work: work.load(Notices, notices_id(row.ticket_id)).retry(row.id), actor="user:admin"))
        post.statuses("sent")
    assert [heard.path for heard in receiver.heard] == ["/hook/s3cr3t-path"] * 2


def test_a_receiver_that_is_gone_is_removed(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(410, {}, b"")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        post.statuses("dead")
    assert [event.reason for event in tower.events(RecipientRemoved) if isinstance(event, RecipientRemoved)] == ["gone"]
    assert not tower.ledger.get(Recipient, recipient_id("on-call")).active


def test_a_receiver_that_comes_back_is_told_everything_in_order(tower: Tower, tmp_path: Path) -> None:
    receiver = Receiver()
    server = serve(receiver)
    server.shutdown()
    server.server_close()
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        post.wait(lambda rows: [row.attempts for row in rows] == [1])
        tower.ends()
        rows = post.wait(lambda rows: len(rows) == 2)
        assert tower.incidents[0].state_name == "resolved"  # the ticket knows nothing of it
        assert [(row.status, row.attempts) for row in rows] == [("waiting", 1), ("waiting", 0)]
        server = serve(receiver, receiver.port)
        tower.clock.advance(60)
        post.statuses("sent", "sent")
        server.shutdown()
        server.server_close()
    assert [heard.document["type"] for heard in receiver.heard] == ["notice.firing", "notice.end"]


def test_a_notice_that_nobody_takes_becomes_a_dead_letter(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(500, {}, b"")] * MOST_ATTEMPTS
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        for attempt in range(1, MOST_ATTEMPTS):
            post.wait(lambda rows, attempt=attempt: [row.attempts for row in rows] == [attempt])  # type: ignore[misc]  # bound per attempt
            tower.clock.advance(5_000)
        (row,) = post.statuses("dead")
    assert (row.attempts, len(receiver.heard)) == (MOST_ATTEMPTS, MOST_ATTEMPTS)


def test_a_slow_recipient_holds_up_nobody_else(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    slow = Receiver(hold=threading.Event())
    server = serve(slow)
    tower.recipient("on-call", target=slow.url)
    tower.recipient("lead", target=receiver.url)
    tower.rules(BOTH)
    assert slow.hold is not None
    with posting(tower, tmp_path, **INNER) as post:
        for number in range(20):
            tower.fires(f"web-{number}")
        receiver.wait(lambda heard: len(heard) == 20)
        assert 0 < len(slow.heard) <= 4
        slow.hold.set()
        post.statuses(*["sent"] * 40)
    server.shutdown()
    server.server_close()


def test_a_mail_is_one_of_its_tickets_thread_and_says_that_a_program_wrote_it(
    tower: Tower, post_office: PostOffice, tmp_path: Path
) -> None:
    tower.recipient("on-call", target="nora@example.org")
    tower.rules(P1)
    with posting(tower, tmp_path, smtp=f"smtp://127.0.0.1:{post_office.port}", mail_from="tocsin@example.org") as post:
        tower.fires()
        post.statuses("sent")
        tower.ends()
        rows = post.statuses("sent", "sent")
    began, ended = post_office.mails
    assert (began["Subject"], ended["Subject"]) == ("INC-1 P1: web-1 is down", "Over: INC-1 P1: web-1 is down")
    assert [mail["Message-ID"] for mail in (began, ended)] == [f"<{row.id}@example.org>" for row in rows]
    assert began["References"] == ended["References"] == f"<{tower.incidents[0].id}@example.org>"
    assert (began["Auto-Submitted"], began["To"], began["From"]) == ("auto-generated", "nora@example.org", "Tocsin <tocsin@example.org>")
    assert began["List-Id"] == "Tocsin <notices.example.org>"
    assert began["Date"] == "Mon, 02 Mar 2026 10:00:30 +0000"
    assert began.get_content().replace("\r\n", "\n") == (
        "INC-1 P1: web-1 is down\n\nState: new\nService: web-1\nSince: 2026-03-02 10:00:30 UTC\n"
        "Told by: rule “P1”, rulebook version 1\n\nhttps://tocsin.example.org/console/tickets/INC-1\n"
    )


def test_a_title_cannot_add_a_header_or_a_recipient(tower: Tower, post_office: PostOffice, tmp_path: Path) -> None:
    tower.recipient("on-call")
    tower.rules(NoticeRule(name="all", when="true", to=("on-call",)))
    with posting(tower, tmp_path, smtp=f"smtp://127.0.0.1:{post_office.port}") as post:
        tower.ledger.run(Unit(lambda work: work.adopt(Incident.open(
            work.new_id(), work.journal, number="INC-1", title="down\r\nBcc: eve@example.org\r\n\r\nGive me", impact=Level.HIGH,
            urgency=Level.HIGH, now=work.now, channel="api",
        )), actor="user:nora"))
        post.statuses("sent")
    (mail,) = post_office.mails
    assert mail["Bcc"] is None
    assert post_office.recipients == ["on-call@example.org"]
    assert "Bcc: eve@example.org" in mail["Subject"]


@pytest.mark.parametrize(("refusal", "status"), [("451 later", "waiting"), ("554 never, on-call@example.org", "dead")])
def test_a_mail_server_says_whether_trying_again_makes_sense(
    tower: Tower, post_office: PostOffice, tmp_path: Path, refusal: str, status: str
) -> None:
    post_office.refusals = [refusal]
    tower.recipient("on-call")
    tower.rules(P1)
    with posting(tower, tmp_path, smtp=f"smtp://127.0.0.1:{post_office.port}") as post:
        tower.fires()
        (row,) = post.wait(lambda rows: [row.attempts for row in rows] == [1])
    assert (row.status, row.said) == (status, refusal.replace("on-call@example.org", "…"))


def test_without_a_mail_server_a_mail_waits_and_says_why(tower: Tower, tmp_path: Path) -> None:
    tower.recipient("on-call")
    tower.rules(P1)
    with posting(tower, tmp_path) as post:
        tower.fires()
        (row,) = post.wait(lambda rows: [row.attempts for row in rows] == [1])
    assert (row.status, row.said) == ("waiting", "no mail server is set (TOCSIN_SMTP)")
    assert len(tower.incidents) == 1


@pytest.mark.parametrize("settings", [{"allowed_networks": "127.0.0.0/8"}, {"plain_webhooks": True}, {}])
def test_an_inner_address_hears_nothing_unless_it_is_allowed(
    tower: Tower, receiver: Receiver, tmp_path: Path, settings: dict[str, Any]
) -> None:
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **settings) as post:
        tower.fires()
        (row,) = post.statuses("dead")
    assert "allow" in row.said
    assert receiver.heard == []


@pytest.mark.parametrize("shape", list(Shape))
def test_what_a_receiver_repeats_of_its_own_address_or_secret_is_not_kept(
    tower: Tower, receiver: Receiver, tmp_path: Path, shape: Shape
) -> None:
    secret = new_secret()
    tower.recipient("on-call", target=receiver.url, secret=secret, shape=shape)
    receiver.answers = [(400, {}, f"{receiver.url} /hook/s3cr3t-path {secret}".encode())]
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        tower.fires()
        (row,) = post.statuses("dead")
    assert "s3cr3t" not in row.said
    assert secret not in row.said
    for file in tmp_path.glob("**/*"):
        if file.is_file():
            content = file.read_bytes()
            assert b"s3cr3t-path" not in content, file
            assert secret.encode() not in content, file


def test_the_outbox_is_the_same_when_it_is_rebuilt(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(500, {}, b""), (404, {}, b"")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        for number in range(3):
            tower.fires(f"web-{number}")
        post.wait(lambda rows: sorted(row.status for row in rows) == ["dead", "sent", "waiting"])
        assert post.runner.verify() is None


def test_a_view_that_is_made_anew_sends_nothing_again(tower: Tower, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(204, {}, b""), (500, {}, b"")]
    tower.recipient("on-call", target=receiver.url)
    tower.rules(P1)
    with posting(tower, tmp_path, **INNER) as post:
        receiver.hold = threading.Event()
        tower.fires("web-1")
        receiver.wait(lambda heard: len(heard) == 1)
        tower.fires("web-2")
        receiver.wait(lambda heard: len(heard) == 2)
        receiver.hold.set()
        first, second = post.wait(lambda rows: [(row.status, row.attempts) for row in rows] == [("sent", 1), ("waiting", 1)])
    *_, last = [fact.position for fact in tower.ledger.read(0, 1_000) if fact.type == "notice.requested.v1"]
    for file in tmp_path.glob("views.db*"):
        file.unlink()
    tower.clock.advance(60)
    # As the views stand there both notices wait; the log knows better of the first.
    with posting(tower, tmp_path, behind=last, **INNER) as post:
        assert [row.status for row in post.rows()] == ["waiting", "waiting"]
        receiver.wait(lambda heard: len(heard) == 3)
        post.runner.start()
        post.statuses("sent", "sent")
    assert [heard.headers["webhook-id"] for heard in receiver.heard] == [str(first.id), str(second.id), str(second.id)]
