"""A Kafka that lets nobody in without a name, and nobody do what no ACL says.

One node on loopback, with two doors: a plain one where whoever comes is the administrator (it is
the test's own), and one with TLS and SASL, where everything that a user's cluster may ask for is on.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from streams.broker.devbroker.broker import start_broker, stop_broker

HOST = "127.0.0.1"
LIMIT = 30.0
PLAIN_USER, PLAIN_SECRET = "plain-user", "plain-secret-9c1"
_LOGIN = "org.apache.kafka.common.security"
_MECHANISMS = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,  # the client library's name for it
}


class SecuredBroker:
    """Where its doors are, and what its administrator can do."""

    def __init__(self, plain: str, secured: str, ca: Path) -> None:
        self.plain = plain
        self.secured = secured
        self.ca = ca
        self.admin = AdminClient({"bootstrap.servers": plain})

    def options(self, user: str, secret: str, mechanism: str = "SCRAM-SHA-256") -> dict[str, str]:
        """`kafka.options` of a user who logs in with a secret."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": mechanism,
            "sasl.username": user,
            "sasl.password": secret,
            "ssl.ca.location": str(self.ca),
        }

    def bearer(self, user: str) -> dict[str, str | bool]:
        """`kafka.options` of one who logs in with a token that it makes itself."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "OAUTHBEARER",
            "sasl.oauthbearer.config": f"principal={user}",
            "enable.sasl.oauthbearer.unsecure.jwt": True,
            "ssl.ca.location": str(self.ca),
        }

    def add_user(self, user: str, secret: str, mechanism: str = "SCRAM-SHA-256") -> None:
        """It may log in."""
        info = ScramCredentialInfo(_MECHANISMS[mechanism], 4096)
        change = UserScramCredentialUpsertion(user, info, secret.encode())
        for future in self.admin.alter_user_scram_credentials([change]).values():
            future.result(LIMIT)

    def allow(self, user: str, acls: list[dict]) -> None:
        """It may do exactly what these entries of `streams plan -o json` say."""
        bindings = [
            AclBinding(
                _RESOURCES[acl["resource"]],
                acl["name"],
                ResourcePatternType[acl["pattern"].upper()],
                f"User:{user}",
                "*",
                AclOperation[operation.upper()],
                AclPermissionType.ALLOW,
            )
            for acl in acls
            for operation in acl["operations"]
        ]
        for future in self.admin.create_acls(bindings).values():
            future.result(LIMIT)


@contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """It serves while the block runs."""
    keys = folder / "keys"
    keys.mkdir(parents=True)
    make_certificates(keys)
    plain, secured, controller = free_ports(3)
    try:
        start_broker(
            folder,
            port=plain,
            properties=_properties(keys, plain, secured, controller),
            record_archive=False,
        )
        yield SecuredBroker(f"{HOST}:{plain}", f"{HOST}:{secured}", keys / "ca.crt")
    finally:
        stop_broker(folder)


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nobody listens now."""
    held = [socket.create_server((HOST, 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def make_certificates(folder: Path) -> None:
    """An authority of our own (`ca.crt`), and what the broker shows (`broker.pem`)."""
    (folder / "names").write_text(f"subjectAltName=IP:{HOST},DNS:localhost\n")
    _authority(folder, "ca")
    _openssl(folder, f"req -newkey rsa:2048 -nodes -subj /CN={HOST} -keyout srv.key -out srv.csr")
    signed = "x509 -req -in srv.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30"
    _openssl(folder, f"{signed} -extfile names -out srv.crt")
    _openssl(folder, "pkcs8 -topk8 -nocrypt -in srv.key -out srv8.key")
    parts = [(folder / name).read_text() for name in ("srv8.key", "srv.crt", "ca.crt")]
    (folder / "broker.pem").write_text("".join(parts))
    _authority(folder, "stranger")


def _authority(folder: Path, name: str) -> None:
    new = "req -x509 -newkey rsa:2048 -nodes -days 30"
    _openssl(folder, f"{new} -subj /CN={name} -keyout {name}.key -out {name}.crt")


def _openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


def _properties(keys: Path, plain: int, secured: int, controller: int) -> dict[str, str]:
    doors = f"PLAINTEXT://{HOST}:{plain},SASL_SSL://{HOST}:{secured}"
    door = "listener.name.sasl_ssl"
    return {
        "listeners": f"{doors},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": doors,
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(keys / "ca.crt"),
        "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        f"{door}.scram-sha-256.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        f"{door}.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        f"{door}.plain.sasl.jaas.config": (
            f'{_LOGIN}.plain.PlainLoginModule required user_{PLAIN_USER}="{PLAIN_SECRET}";'
        ),
        f"{door}.oauthbearer.sasl.jaas.config": (
            f"{_LOGIN}.oauthbearer.OAuthBearerLoginModule required"
            ' unsecuredLoginStringClaim_sub="broker";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        # Kafka's default, and the danger: who asks for a topic that is gone gets an empty one.
        "auto.create.topics.enable": "true",
        "allow.everyone.if.no.acl.found": "false",
    }
