"""How Kafka's brokers are spoken to: TLS or not, and as whom. `kafka_network.py` connects by it."""

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Mechanism(StrEnum):
    """How a user proves to be it (SASL)."""

    SCRAM_SHA_512 = "SCRAM-SHA-512"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    PLAIN = "PLAIN"  # the password itself is sent


class Unusable(Exception):
    """A file is not what it has to be; the message names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What a connection shows and asks for.

    The files are read at each connection: what was renewed or mended in them counts from the next one on.

    Attributes:
        tls: speak TLS; brokers' certificates and host names are verified then, always.
        ca_file: certificates (PEM) that the brokers' must come from; None: those that the system trusts.
        certificate_file, key_file: our own certificate with its chain, and its key (PEM), for brokers that ask for one; both or none.
        user: the SASL user; None: no SASL.
        password_file: holds the user's password.
    """

    tls: bool = False
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    mechanism: Mechanism = Mechanism.SCRAM_SHA_512

    @property
    def protocol(self) -> str:
        """Kafka's name for it."""
        return ("SASL_" if self.user is not None else "") + ("SSL" if self.tls else "PLAINTEXT")

    @property
    def sent_user(self) -> str | None:
        """The user as it is sent: SCRAM writes a comma and an equals sign in another way (RFC 5802, 5.1)."""
        if self.user is None or self.mechanism is Mechanism.PLAIN:
            return self.user
        return self.user.replace("=", "=3D").replace(",", "=2C")

    def check(self) -> None:
        """Read every file.

        Raises:
            Unusable: one is missing, unreadable or something else.
        """
        if self.user is not None:
            self.password()
        if self.tls:
            self.context()

    def password(self) -> str:
        """The user's password.

        Raises:
            Unusable: its file cannot be read, or is empty.
        """
        assert self.password_file is not None, "a user has a password"
        found = _text(self.password_file, "TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password").strip()
        if not found:
            raise Unusable(f"TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password: {self.password_file} is empty")
        return found

    def context(self) -> ssl.SSLContext:
        """How TLS is spoken.

        Raises:
            Unusable: a file cannot be read, or is not what it has to be.
        """
        if self.ca_file is not None:
            expected = "TOCSIN_KAFKA_CA_FILE: expected a file of certificates (PEM)"
            _text(self.ca_file, expected)
            try:
                found = ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                raise Unusable(f"{expected}: {self.ca_file}: {error}") from error
        else:
            found = ssl.create_default_context()
        if self.certificate_file is not None and self.key_file is not None:
            expected = "TOCSIN_KAFKA_CERTIFICATE_FILE: expected a file with our certificate (PEM)"
            _text(self.certificate_file, expected)
            key = _text(self.key_file, "TOCSIN_KAFKA_KEY_FILE: expected a file with the certificate's key (PEM)")
            if "ENCRYPTED" in key:  # the library would ask for a passphrase on the terminal
                raise Unusable(f"TOCSIN_KAFKA_KEY_FILE: expected a key without a passphrase: {self.key_file} has one")
            try:
                found.load_cert_chain(self.certificate_file, self.key_file)
            except OSError as error:
                raise Unusable(f"{expected}, and TOCSIN_KAFKA_KEY_FILE its key: {error}") from error
        return found


def _text(file: Path, expected: str) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{expected}: {error}") from error
