"""What webhooks are sent: one function a shape, from a message to a URL, a body and headers. Pure.

`tocsin` is for programs: signed, and with a person's title left out, since a program that may read the ticket asks for it. The
others are for people who read, so what could be taken for markup or for a call to everybody is taken apart.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from api.notices.message import TEST, Message
from api.notices.signature import signed
from engine.clock import rfc3339
from engine.notice import Purpose
from engine.recipient import Recipient, Shape

JSON: Final = {"Content-Type": "application/json", "User-Agent": "Tocsin"}
# A zero-width space after it: to be read, not to be obeyed.
_APART: Final = "\u200b"
_NTFY_PRIORITY: Final = {"P1": 5, "P2": 4, "P3": 3, "P4": 2, "P5": 2}


@dataclass(frozen=True, slots=True)
class Letter:
    """A request that is ready to leave."""

    url: str
    content: bytes
    headers: dict[str, str]


def shaped(recipient: Recipient, message: Message) -> Letter:
    """The request for this recipient."""
    url, document = _SHAPES[recipient.shape](recipient.target, message)
    content = msgspec.json.encode(document)
    headers = {**JSON, "webhook-id": str(message.id)}
    if recipient.secret:
        headers |= signed(recipient.secret, str(message.id), message.at, content)
    return Letter(url, content, headers)


def _tocsin(url: str, message: Message) -> tuple[str, Any]:
    data: dict[str, Any] = {"notice": str(message.id)}
    if message.purpose != TEST:
        data |= {
            "ticket": message.number, "ticket_id": str(message.thread), "title": None if message.personal else message.title,
            "priority": message.priority, "state": message.state, "open": message.is_open, "service": message.service,
            "team": message.team, "since": rfc3339(message.since) if message.since else None, "rule": message.rule,
            "rulebook_version": message.rulebook_version, "link": message.link,
        }
    return url, {"type": f"notice.{message.purpose}", "timestamp": rfc3339(message.at), "data": data}


def _slack(url: str, message: Message) -> tuple[str, Any]:
    lines = [f"*{_for_slack(message.headline)}*", *(f"{_for_slack(name)}: {_for_slack(value)}" for name, value in message.facts())]
    if message.link:
        lines.append(f"<{_for_slack(message.link)}|{_for_slack(message.number)}>")
    # `text` is what a notification shows; the block is what the channel shows.
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)[:3_000]}}
    return url, {"text": _for_slack(message.headline), "blocks": [block]}


def _for_slack(text: str) -> str:
    """Its three escapes; without them `<!channel>` would call everybody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mattermost(url: str, message: Message) -> tuple[str, Any]:
    lines = [f"**{_for_markdown(message.headline)}**", *(f"{_for_markdown(name)}: {_for_markdown(value)}" for name, value in message.facts())]
    if message.link:
        lines.append(f"[{message.number}]({message.link})")
    return url, {"text": "\n".join(lines)}


def _for_markdown(text: str) -> str:
    apart = text.replace("@", f"@{_APART}")
    return re.sub(r"([\\`*_{}\[\]()#+!|~<>-])", r"\\\1", apart)


def _teams(url: str, message: Message) -> tuple[str, Any]:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": [
            {
                "type": "TextBlock", "text": _for_card(message.headline), "weight": "bolder", "size": "medium", "wrap": True,
                "color": "good" if message.purpose == Purpose.END else "attention",
            },
            {"type": "FactSet", "facts": [{"title": name, "value": _for_card(value)} for name, value in message.facts()]},
        ],
    }
    if message.link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": message.number, "url": message.link}]
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return url, {"type": "message", "attachments": [attachment]}


def _for_card(text: str) -> str:
    """Cards know bold, lists and links."""
    return re.sub(r"([*_\[\]()])", r"\\\1", text)


def _ntfy(url: str, message: Message) -> tuple[str, Any]:
    """By its JSON interface: the URL of a topic is taken apart, since headers cannot carry every letter."""
    parts = urlsplit(url)
    before, _, topic = parts.path.rstrip("/").rpartition("/")
    over = message.purpose == Purpose.END
    document = {
        "topic": unquote(topic), "title": message.headline,
        "message": "\n".join(f"{name}: {value}" for name, value in message.facts()),
        "priority": 3 if over or message.purpose == TEST else _NTFY_PRIORITY.get(message.priority, 3),
        "tags": ["white_check_mark" if over else "bell" if message.purpose == TEST else "rotating_light"],
    }
    if message.link:
        document["click"] = message.link
    return urlunsplit((parts.scheme, parts.netloc, before or "/", parts.query, "")), document


_SHAPES: Final[dict[Shape, Callable[[str, Message], tuple[str, Any]]]] = {
    Shape.TOCSIN: _tocsin, Shape.SLACK: _slack, Shape.TEAMS: _teams, Shape.MATTERMOST: _mattermost, Shape.NTFY: _ntfy,
}
