"""Apache Kafka that asks who you are: a port for users with passwords, one for certificates, and the plain one for the tests themselves.

Whoever comes through the plain one may do all, others what they were allowed.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.services.certificates import Authority, Certificate
from tests.services.kafka import Kafka, free_ports, running
from tests.services.kafka_program import ApacheKafka

# A comma and an equals sign are written in another way on the line.
USER: Final = "tocsin,site=1"
_PROPERTIES: Final = """
ssl.keystore.type=PEM
ssl.keystore.location={own}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "user_{user}"="plain secret";
"""


@dataclass(frozen=True)
class Secured:
    """A broker that runs. Its certificate is for 127.0.0.1, not for localhost.

    Attributes:
        kafka: by its plain port.
        password_port: speaks TLS and asks for a user.
        certificate_port: speaks TLS and asks for a certificate.
        authority: signed the broker's certificate, and `known`.
        stranger: an authority that the broker does not know.
    """

    kafka: Kafka
    password_port: int
    certificate_port: int
    authority: Authority
    stranger: Authority
    known: Certificate
    unknown: Certificate

    def allow(self, *rights: tuple[ResourceType, str, ACLOperation]) -> None:
        """Give `USER` and `known` these rights, which are all that they have; a name that ends with an asterisk is the beginning of one."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.address)
        try:
            admin.create_acls([
                ACL(principal, "*", operation, ACLPermissionType.ALLOW, ResourcePattern(
                    kind, name.removesuffix("*"), ACLResourcePatternType.PREFIXED if name.endswith("*") else ACLResourcePatternType.LITERAL,
                ))
                for principal in (f"User:{USER}", "User:CN=known") for kind, name, operation in rights
            ])
        finally:
            admin.close()

    def set_password(self, password: str) -> None:
        """Give `USER` a password, for SCRAM-SHA-512."""
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.address)
        try:
            done = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, password)])
        finally:
            admin.close()
        assert done == {USER: None}


@contextlib.contextmanager
def secured(program: ApacheKafka) -> Iterator[Secured]:
    """One for a while."""
    with tempfile.TemporaryDirectory(prefix="certificates") as name:
        folder = Path(name)
        authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        broker = authority.sign("broker", "127.0.0.1")
        password_port, certificate_port = free_ports(2)
        program = replace(
            program, listeners={"SASL_SSL": password_port, "SSL": certificate_port},
            properties=_PROPERTIES.format(own=broker.both, authority=authority.certificate, user=USER),
        )
        with running(program) as kafka:
            yield Secured(
                kafka, password_port, certificate_port, authority, stranger, authority.sign("known"), stranger.sign("unknown"),
            )
