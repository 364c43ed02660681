"""How Kafka's brokers are spoken to: what cannot be is refused at the start, by the name of the setting."""

import subprocess
from pathlib import Path
from typing import Final

import pytest

from api.kafka_reader import topics_of
from api.settings import BadSettings, load_settings
from tests.process.server import COMMAND, PATIENCE, ROOT, environment
from tests.services.certificates import Authority
from tests.services.kafka import free_ports

SERVERS: Final = {"TOCSIN_KAFKA": "127.0.0.1:9093"}
# The paths are in a folder of the test's: a certificate, its key, a key with a passphrase, another's key, a password; the rest is wrong.
WRONG: Final = [
    ({"USER": "u"}, "TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password of TOCSIN_KAFKA_USER"),
    ({"PASSWORD_FILE": "password"}, "TOCSIN_KAFKA_USER: expected the user"),
    ({"USER": "", "PASSWORD_FILE": "password"}, "TOCSIN_KAFKA_USER: "),
    ({"USER": "u", "PASSWORD_FILE": "password", "MECHANISM": "PLAIN"}, "TOCSIN_KAFKA_TLS: expected true, since TOCSIN_KAFKA_MECHANISM=PLAIN"),
    ({"USER": "u", "PASSWORD_FILE": "password", "MECHANISM": "GSSAPI"}, "TOCSIN_KAFKA_MECHANISM: "),
    ({"USER": "u", "PASSWORD_FILE": "nowhere"}, "TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password: "),
    ({"USER": "u", "PASSWORD_FILE": "empty"}, "TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password: "),
    ({"TLS": "perhaps"}, "TOCSIN_KAFKA_TLS: "),
    ({"CA_FILE": "authority.pem"}, "TOCSIN_KAFKA_TLS: expected true, since TOCSIN_KAFKA_CA_FILE is set"),
    ({"CERTIFICATE_FILE": "own.pem", "KEY_FILE": "own.key"}, "TOCSIN_KAFKA_TLS: expected true, since TOCSIN_KAFKA_CERTIFICATE_FILE is set"),
    ({"TLS": "true", "CA_FILE": "nowhere"}, "TOCSIN_KAFKA_CA_FILE: expected a file of certificates (PEM): "),
    ({"TLS": "true", "CA_FILE": "password"}, "TOCSIN_KAFKA_CA_FILE: expected a file of certificates (PEM): "),
    ({"TLS": "true", "CERTIFICATE_FILE": "own.pem"}, "TOCSIN_KAFKA_KEY_FILE: expected a file with the key"),
    ({"TLS": "true", "KEY_FILE": "own.key"}, "TOCSIN_KAFKA_CERTIFICATE_FILE: expected a file with the certificate"),
    ({"TLS": "true", "CERTIFICATE_FILE": "nowhere", "KEY_FILE": "own.key"}, "TOCSIN_KAFKA_CERTIFICATE_FILE: "),
    ({"TLS": "true", "CERTIFICATE_FILE": "own.pem", "KEY_FILE": "nowhere"}, "TOCSIN_KAFKA_KEY_FILE: "),
    ({"TLS": "true", "CERTIFICATE_FILE": "own.pem", "KEY_FILE": "other.key"}, "TOCSIN_KAFKA_CERTIFICATE_FILE: "),
    ({"TLS": "true", "CERTIFICATE_FILE": "own.pem", "KEY_FILE": "locked.key"}, "TOCSIN_KAFKA_KEY_FILE: expected a key without a passphrase"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority(tmp_path, "authority")
    authority.sign("own")
    authority.sign("other")
    (tmp_path / "locked.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n")
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def settings_of(folder: Path, given: dict[str, str]) -> dict[str, str]:
    return {
        **SERVERS,
        **{f"TOCSIN_KAFKA_{name}": str(folder / value) if name.endswith("_FILE") else value for name, value in given.items()},
    }


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_what_cannot_be_is_refused_by_its_name(folder: Path, given: dict[str, str], told: str) -> None:
    with pytest.raises(BadSettings) as refused:
        topics_of(load_settings(settings_of(folder, given)))
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"TLS": "true"}, "SSL"),
        ({"TLS": "true", "CA_FILE": "authority.pem", "CERTIFICATE_FILE": "own.pem", "KEY_FILE": "own.key"}, "SSL"),
        ({"USER": "u", "PASSWORD_FILE": "password"}, "SASL_PLAINTEXT"),
        ({"TLS": "true", "USER": "u", "PASSWORD_FILE": "password", "MECHANISM": "PLAIN"}, "SASL_SSL"),
    ],
)
def test_the_settings_say_how_brokers_are_spoken_to(folder: Path, given: dict[str, str], protocol: str) -> None:
    topics = topics_of(load_settings(settings_of(folder, given)))
    assert topics is not None
    assert topics.security.protocol == protocol


@pytest.mark.process
def test_no_process_begins_with_a_file_that_it_cannot_use(folder: Path) -> None:
    settings = {**settings_of(folder, {"USER": "u", "PASSWORD_FILE": "nowhere"}), "TOCSIN_INTAKE": "kafka"}
    begun = [
        subprocess.Popen(
            [*COMMAND, role, "--port", str(port), "--data", str(folder / role)],
            cwd=ROOT, env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for role, port in zip(("serve", "api", "worker", "intake"), free_ports(4), strict=True)
    ]
    for process in begun:
        said, told = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (1, "")
        assert told.splitlines()[-1].startswith("tocsin: TOCSIN_KAFKA_PASSWORD_FILE: expected a file with the password: ")
        assert "Traceback" not in told
