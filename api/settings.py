"""Settings: `TOCSIN_*` in the environment, or a TOML file named by `TOCSIN_SETTINGS`. An unknown key fails the start."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from engine.errors import TocsinError
from monitors.kafka_security import Mechanism

PREFIX: Final = "TOCSIN_"
SETTINGS_FILE: Final = "TOCSIN_SETTINGS"
FILE: Final = "sqlite:///"


class BadSettings(TocsinError):
    """A setting is unknown or has a value that cannot be; the message names it and says what was expected."""


def _instant(value: object) -> datetime | None:
    """An instant as text, or as TOML's own; a bare number would be taken for seconds since 1970."""
    if value is None:
        return None
    try:
        instant = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected an instant with its zone, such as 2026-03-02T10:00:30Z")


def _networks(value: object) -> object:
    """Networks as a list, or as text with commas between them."""
    texts = [text.strip() for text in value.split(",") if text.strip()] if isinstance(value, str) else value
    for text in texts if isinstance(texts, list | tuple) else ():
        try:
            ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"expected networks such as 10.1.0.0/16, 192.168.7.9; {text} is none") from None
    return texts


def _database(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not value.get_secret_value().startswith((FILE, "postgresql://", "postgres://")):
        raise ValueError("expected sqlite:///PATH or postgresql://user:password@host/database")
    return value


def _mail_server(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        try:
            parts = urlsplit(value.get_secret_value())
            right = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right:
            raise ValueError("expected smtp://user:password@host:587, or smtps://")
    return value


def _servers(value: str | None) -> str | None:
    servers = [server.strip().rpartition(":") for server in value.split(",")] if value is not None else []
    if not all(host and port.isdigit() and 0 < int(port) < 65_536 for host, _, port in servers):
        raise ValueError("expected bootstrap servers such as kafka1:9092,kafka2:9092")
    return value


class Portal(StrEnum):
    """Who may use the portal: anybody, who is signed in, or nobody."""

    OPEN = "open"
    SIGNED_IN = "signed-in"
    OFF = "off"


class IntakeWay(StrEnum):
    """What a hook does with a delivery before it answers."""

    DIRECT = "direct"  # it is decided
    KAFKA = "kafka"    # it lies in Kafka


# This machine, and what is never routed on the internet (RFC 1918, RFC 4193).
OWN_NETWORKS: Final = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


class Settings(BaseSettings):
    """What an installation may set.

    Attributes:
        data: folder of the embedded store.
        database: `sqlite:///PATH` or `postgresql://…`; None: `log.db` in the data folder.
        database_owner: the same database as the role that owns its tables, for `tocsin migrate` alone; None: the role of `database`.
        database_pooler: a pooler in transaction mode (pgbouncer) stands before PostgreSQL.
        kafka: bootstrap servers, comma-separated.
        kafka_deliveries: the topic of deliveries; what cannot be taken goes to that name with `.dead`.
        kafka_events: the topic that the log is published to; empty: it is not.
        kafka_group: the consumers' group that shares its partitions.
        kafka_tls: speak TLS to its brokers.
        kafka_ca_file: certificates that theirs must come from; None: those that the system trusts.
        kafka_certificate_file: our own certificate for brokers that ask for one, and `kafka_key_file` its key.
        kafka_user: whom its brokers know us as; `kafka_password_file` holds the password, `kafka_mechanism` says how it is proved.
        intake: what a hook does with a delivery: decide it, or put it into the topic.
        master_key_file: None: beside the data folder (`DATA.key`), never inside it.
        clock: the clock starts there (tests and demos); refused on a store of the real clock.
        public_address: how monitors and people reach this server, for links and for the blocks to paste.
        max_body_bytes: larger bodies are answered 413.
        max_file_bytes: a larger file on a ticket is answered 413; a form takes five at most.
        secure_cookies: set it where the console is served through TLS.
        smtp: the server that mail is handed to; `smtp_password_file` holds the password instead where that is set.
        mail_from: the sender of mails.
        allowed_networks: inner networks that webhooks may reach.
        plain_webhooks: allow webhooks over http.
        portal: who may open and follow tickets in the portal.
        portal_networks: your own networks, whose people meet a generous limit there.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data: Path = Path("data")
    database: Annotated[SecretStr | None, AfterValidator(_database)] = None
    database_owner: Annotated[SecretStr | None, AfterValidator(_database)] = None
    database_pooler: bool = False
    kafka: Annotated[str | None, AfterValidator(_servers)] = None
    kafka_deliveries: str = Field("tocsin.deliveries", pattern=r"^[a-zA-Z0-9._-]{1,240}$")
    kafka_events: str = Field("tocsin.events", pattern=r"^[a-zA-Z0-9._-]{0,249}$")
    kafka_group: str = Field("tocsin-intake", min_length=1, max_length=200)
    kafka_tls: bool = False
    kafka_ca_file: Path | None = None
    kafka_certificate_file: Path | None = None
    kafka_key_file: Path | None = None
    kafka_user: str | None = Field(None, min_length=1)
    kafka_password_file: Path | None = None
    kafka_mechanism: Mechanism = Mechanism.SCRAM_SHA_512
    intake: IntakeWay = IntakeWay.DIRECT
    master_key_file: Path | None = None
    clock: Annotated[datetime | None, BeforeValidator(_instant)] = None
    public_address: str | None = None
    max_body_bytes: int = Field(16 * 1024 * 1024, gt=0)
    max_file_bytes: int = Field(10 * 1024 * 1024, gt=0)
    secure_cookies: bool = False
    smtp: Annotated[SecretStr | None, AfterValidator(_mail_server)] = None
    smtp_password_file: Path | None = None
    mail_from: str = Field("tocsin@localhost", pattern=r"^[^\s@<>]+@[^\s@<>]+$")
    allowed_networks: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    plain_webhooks: bool = False
    portal: Portal = Portal.OPEN
    portal_networks: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = OWN_NETWORKS

    @model_validator(mode="after")
    def _kafka_is_named(self) -> "Settings":
        if self.intake is IntakeWay.KAFKA and self.kafka is None:
            raise ValueError("TOCSIN_INTAKE=kafka: expected TOCSIN_KAFKA to name the bootstrap servers")
        return self

    @model_validator(mode="after")
    def _kafka_is_secured(self) -> "Settings":
        if self.kafka_user is not None and self.kafka_password_file is None:
            raise ValueError("TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password of TOCSIN_KAFKA_USER")
        if self.kafka_user is None and self.kafka_password_file is not None:
            raise ValueError("TOCSIN_KAFKA_USER: expected the user whose password TOCSIN_KAFKA_PASSWORD_FILE holds")
        if self.kafka_certificate_file is not None and self.kafka_key_file is None:
            raise ValueError("TOCSIN_KAFKA_KEY_FILE: expected a file with the key of TOCSIN_KAFKA_CERTIFICATE_FILE")
        if self.kafka_certificate_file is None and self.kafka_key_file is not None:
            raise ValueError("TOCSIN_KAFKA_CERTIFICATE_FILE: expected a file with the certificate of TOCSIN_KAFKA_KEY_FILE")
        if self.kafka_tls:
            return self
        for name in ("kafka_ca_file", "kafka_certificate_file"):
            if getattr(self, name) is not None:
                raise ValueError(f"TOCSIN_KAFKA_TLS: expected true, since {PREFIX}{name.upper()} is set")
        if self.kafka_user is not None and self.kafka_mechanism is Mechanism.PLAIN:
            raise ValueError("TOCSIN_KAFKA_TLS: expected true, since TOCSIN_KAFKA_MECHANISM=PLAIN sends the password as it is")
        return self

    @property
    def master_key(self) -> Path:
        """Where the master key lies: outside the data folder, so that a copy of the data alone opens nothing."""
        return self.master_key_file or self.data.with_name(self.data.name + ".key")

    @property
    def restoring(self) -> Path:
        """Where a restore builds; there only while it runs, or where it was interrupted."""
        return self.data / "restoring"

    @property
    def address(self) -> str:
        """How people reach this server, in links."""
        return (self.public_address or "http://127.0.0.1:8800").rstrip("/")

    @property
    def log_file(self) -> Path:
        """The SQLite file of the log.

        Raises:
            BadSettings: the log is on a server, and what is asked for works on files.
        """
        if self.server is not None:
            raise BadSettings("TOCSIN_DATABASE: expected sqlite:///PATH, which this command works on; the log is on PostgreSQL")
        return self.data / "log.db" if self.database is None else Path(self.database.get_secret_value().removeprefix(FILE))

    @property
    def server(self) -> SecretStr | None:
        """The address of the PostgreSQL database, password included; None: the log is a file."""
        return None if self.database is None or self.database.get_secret_value().startswith(FILE) else self.database


def load_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings in force: overrides (command line), then the environment, then the settings file.

    Raises:
        BadSettings: an unknown key, or a value that cannot be.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    values: dict[str, Any] = {}
    file = environment.get(SETTINGS_FILE)
    if file:
        try:
            values.update(tomllib.loads(Path(file).read_text()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadSettings(f"{SETTINGS_FILE}: expected a TOML file at {file}: {error}") from error
        for name in values.keys() - Settings.model_fields.keys():
            raise BadSettings(f"{file}: {name}: no such setting{_near(name, Settings.model_fields)}")
    for key, value in environment.items():
        if not key.startswith(PREFIX) or key == SETTINGS_FILE:
            continue
        if key not in known:
            raise BadSettings(f"{key}: no such setting{_near(key, known)}")
        values[known[key]] = value
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        name = ".".join(str(part) for part in first["loc"]).upper()
        raise BadSettings(f"{PREFIX}{name}: {said}" if name else said) from error


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
