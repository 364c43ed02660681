"""Notices by mail: plain text, one thread a ticket, marked as written by a program so that no out-of-office answers it."""

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib

from api.notices.message import Message
from api.notices.outcome import Outcome, without_secrets
from api.settings import BadSettings, Settings
from engine.recipient import Recipient

TIMEOUT_SECONDS: Final = 20.0
PORTS: Final = {"smtp": 25, "smtps": 465}
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
LONGEST_SUBJECT: Final = 200


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over.

    Attributes:
        tls: from the first byte on (smtps).
        needs_tls: nothing is sent before STARTTLS: a password never travels in clear, except to this machine itself.
    """

    host: str
    port: int
    user: str | None
    password: str | None
    sender: str
    tls: bool

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The server of these settings; None where there is none.

        Raises:
            BadSettings: the password's file cannot be read.
        """
        if settings.smtp is None:
            return None
        parts = urlsplit(settings.smtp.get_secret_value())
        password = unquote(parts.password) if parts.password else None
        if settings.smtp_password_file is not None:
            try:
                password = settings.smtp_password_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise BadSettings(f"TOCSIN_SMTP_PASSWORD_FILE: expected a file with the password: {error}") from error
        return cls(
            host=parts.hostname or "", port=parts.port or PORTS[parts.scheme], user=unquote(parts.username) if parts.username else None,
            password=password, sender=settings.mail_from, tls=parts.scheme == "smtps",
        )

    @property
    def needs_tls(self) -> bool:
        return self.user is not None and not self.tls and self.host not in LOOPBACK


async def send(recipient: Recipient, message: Message, server: MailServer | None) -> Outcome:
    """Hand it over once."""
    if server is None:
        return Outcome(sent=False, said="no mail server is set (TOCSIN_SMTP)")
    try:
        _refused, said = await aiosmtplib.send(
            letter(recipient, message, server.sender), sender=server.sender, recipients=[recipient.target],
            hostname=server.host, port=server.port, username=server.user, password=server.password if server.user else None,
            use_tls=server.tls, start_tls=False if server.tls else True if server.needs_tls else None, timeout=TIMEOUT_SECONDS,
        )
    except aiosmtplib.SMTPAuthenticationError as error:
        # The administrator's mistake, not the notice's: it waits until that is put right.
        return Outcome(sent=False, said=f"the mail server does not take the password ({error.code})")
    except aiosmtplib.SMTPRecipientsRefused as error:
        return _refusal(error.recipients[0], recipient)
    except aiosmtplib.SMTPResponseException as error:
        return _refusal(error, recipient)
    except (aiosmtplib.SMTPTimeoutError, TimeoutError):
        return Outcome(sent=False, said="the mail server took too long")
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return Outcome(sent=False, said=f"the mail server cannot be used now ({type(error).__name__})")
    return Outcome(sent=True, said=without_secrets(said, recipient))


def _refusal(error: aiosmtplib.SMTPResponseException, recipient: Recipient) -> Outcome:
    said = without_secrets(f"{error.code} {error.message}", recipient)
    return Outcome(sent=False, said=said, final=500 <= error.code < 600)


def letter(recipient: Recipient, message: Message, sender: str) -> EmailMessage:
    """The mail. Values are one line each by construction: the library refuses a header with a line end in it."""
    domain = sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Tocsin", addr_spec=sender)
    mail["To"] = Address(addr_spec=recipient.target)
    mail["Subject"] = _one_line(message.headline)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    # No mail has this id; readers put what refers to the same one into one thread.
    mail["References"] = mail["In-Reply-To"] = f"<{message.thread}@{domain}>"
    mail["List-Id"] = f"Tocsin <notices.{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    if message.priority == "P1":
        mail["Importance"] = "high"
    lines = [message.headline, "", *(f"{name}: {value}" for name, value in message.facts())]
    if message.link:
        lines += ["", message.link]
    mail.set_content("\n".join(_one_line(line, most=10_000) for line in lines) + "\n")
    return mail


def _one_line(text: str, *, most: int = LONGEST_SUBJECT) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:most]
