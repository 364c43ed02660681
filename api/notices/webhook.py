"""Notices by webhook."""

from datetime import datetime

from api.notices.message import Message
from api.notices.outcome import Outcome, asked_wait, without_secrets
from api.notices.shapes import shaped
from api.outward import Answer, Forbidden, Guard, Unreachable, post
from engine.recipient import Recipient


async def send(recipient: Recipient, message: Message, guard: Guard, now: datetime) -> Outcome:
    """Post it once."""
    letter = shaped(recipient, message)
    try:
        answer = await post(letter.url, letter.content, letter.headers, guard)
    except Forbidden as error:
        return Outcome(sent=False, said=str(error), final=True)
    except Unreachable as error:
        return Outcome(sent=False, said=str(error))
    return _outcome(answer, recipient, now)


def _outcome(answer: Answer, recipient: Recipient, now: datetime) -> Outcome:
    status, body = answer.status, without_secrets(answer.beginning.decode(errors="replace"), recipient)
    said = f"{status} {body}".strip()
    if 200 <= status < 300:
        return Outcome(sent=True, said=said)
    if 300 <= status < 400:
        return Outcome(sent=False, said=f"{status}: it leads elsewhere; redirects are not followed", final=True)
    wait = asked_wait(answer.headers.get("retry-after"), now)
    # 408, 425, 429: not now. All other 4xx: never in this form.
    final = 400 <= status < 500 and status not in (408, 425, 429)
    return Outcome(sent=False, said=said, final=final, gone=status == 410, wait_seconds=wait)
