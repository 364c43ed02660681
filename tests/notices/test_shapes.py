"""What each shape makes of one notice."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from api.notices.message import TEST, Message
from api.notices.shapes import shaped
from api.notices.signature import checked_secret, new_secret, signed
from engine.errors import InvalidInput
from engine.notice import Purpose
from engine.recipient import Recipient, Shape, masked

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MESSAGE = Message(
    id=UUID(int=1), purpose=Purpose.FIRING, thread=UUID(int=2), at=NOON, number="INC-1", title="<!channel> @all [x](http://e) *down* & out",
    priority="P1", service="shop", team="web", state="new", is_open=True, since=NOON, rule="P1", rulebook_version=3,
    link="https://tocsin.example.org/console/tickets/INC-1",
)


def sent(shape: Shape, message: Message = MESSAGE, target: str = "https://receiver.example/a/b?k=v") -> tuple[str, Any]:
    recipient = Recipient(UUID(int=3))
    recipient.target, recipient.shape = target, shape
    letter = shaped(recipient, message)
    assert letter.headers["webhook-id"] == str(message.id)
    return letter.url, msgspec.json.decode(letter.content)


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of the Standard Webhooks reference libraries.
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_a_secret_is_made_as_the_specification_wants_it_and_another_one_is_refused() -> None:
    assert checked_secret(new_secret()) != new_secret()
    for wrong in ("", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"):
        with pytest.raises(InvalidInput, match="secret"):
            checked_secret(wrong)


def test_a_persons_title_is_not_sent_to_programs() -> None:
    _, document = sent(Shape.TOCSIN, replace(MESSAGE, personal=True))
    assert document["data"]["title"] is None


def test_slack_calls_nobody_that_a_title_names() -> None:
    url, document = sent(Shape.SLACK)
    assert url == "https://receiver.example/a/b?k=v"
    text = document["blocks"][0]["text"]["text"]
    assert "&lt;!channel&gt;" in text
    assert "<!" not in text
    assert text.endswith("<https://tocsin.example.org/console/tickets/INC-1|INC-1>")
    assert document["text"].startswith("INC-1 P1: &lt;!channel&gt;")


def test_mattermost_calls_nobody_and_links_nowhere_that_a_title_names() -> None:
    _, document = sent(Shape.MATTERMOST)
    assert "@all" not in document["text"]
    assert "\\[x\\]\\(http://e\\)" in document["text"]
    assert document["text"].endswith("[INC-1](https://tocsin.example.org/console/tickets/INC-1)")


def test_teams_gets_an_adaptive_card() -> None:
    _, document = sent(Shape.TEAMS)
    (attachment,) = document["attachments"]
    card = attachment["content"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert (document["type"], card["type"], card["version"]) == ("message", "AdaptiveCard", "1.4")
    assert "\\[x\\]" in card["body"][0]["text"]
    assert {"title": "Service", "value": "shop"} in card["body"][1]["facts"]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "INC-1", "url": MESSAGE.link}]


@pytest.mark.parametrize(("target", "url", "topic"), [
    ("https://ntfy.sh/on%20call", "https://ntfy.sh/", "on call"), ("https://ntfy.example/sub/topic/?auth=x", "https://ntfy.example/sub?auth=x", "topic"),
])
def test_ntfy_is_asked_at_its_root_for_the_topic(target: str, url: str, topic: str) -> None:
    asked, document = sent(Shape.NTFY, target=target)
    assert (asked, document["topic"], document["priority"], document["click"]) == (url, topic, 5, MESSAGE.link)
    assert document["title"].startswith("INC-1 P1: ")


@pytest.mark.parametrize("shape", list(Shape))
def test_a_test_can_be_sent_in_every_shape(shape: Shape) -> None:
    sent(shape, Message(id=UUID(int=1), purpose=TEST, thread=UUID(int=2), at=NOON))


@pytest.mark.parametrize(("target", "shown"), [
    ("https://hooks.example.org/services/T0/B0/abc?x=y", "https://hooks.example.org/…"), ("https://u:p@[::1]:8443/x", "https://[::1]:8443/…"),
    ("nora.berg@example.org", "n…@example.org"),
])
def test_an_address_is_shown_without_what_must_stay_secret(target: str, shown: str) -> None:
    assert masked(target) == shown
