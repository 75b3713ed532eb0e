"""One node of the broker: its folder, its settings, the command that runs it."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streams.broker.devbroker import faults, features
from streams.broker.devbroker.probe import HOST

LOGGING = Path(__file__).with_name("log4j2.yaml")
LOG_TAIL = 15
FLAGS = ("-Xms192m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Small and quick to start: about 200 MB a node, and the light compiler only."""


class Node(msgspec.Struct, frozen=True):
    """One node as it was started; `pid` 0 means that it was not."""

    id: int
    port: int
    """Clients speak to it here."""
    controller_port: int
    """The nodes speak to each other here."""
    pid: int = 0

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


def home(folder: Path, node: int) -> Path:
    """Everything of the node."""
    return folder / f"node-{node}"


def log_file(folder: Path, node: int) -> Path:
    """What the node said since its last start."""
    return home(folder, node) / "broker.log"


def properties_file(folder: Path, node: int) -> Path:
    """Its settings as it was started with them."""
    return home(folder, node) / "server.properties"


def mark(folder: Path, node: Node) -> str:
    """What the command line of the node's process has, and of no other."""
    return str(properties_file(folder, node.id))


def settings(
    folder: Path, node: Node, cluster: Sequence[Node], given: Mapping[str, str]
) -> dict[str, str]:
    """The node's Kafka settings; those given win."""
    copies, in_sync = str(min(3, len(cluster))), str(min(2, len(cluster)))
    voters = ",".join(f"{each.id}@{HOST}:{each.controller_port}" for each in cluster)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{node.address},CONTROLLER://{HOST}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.address}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(home(folder, node.id) / "data"),
        # A misspelt topic is an error, as on any cluster that somebody looks after.
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # 50 partitions each by default: seconds of creating and loading that nobody here needs.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        # A killed node is let in again when its old self has been given up: 4 s instead of 9.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        # A group of one or two members need not wait three seconds for more of them.
        "group.initial.rebalance.delay.ms": "0",
        # Who is dead is missed after six seconds, by the newer group protocol (KIP-848), too.
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        "group.consumer.heartbeat.interval.ms": "2000",
        # A project that lies for a fortnight goes on where it stood.
        "offsets.retention.minutes": str(30 * 24 * 60),
        "log.cleaner.dedupe.buffer.size": str(4 << 20),  # of 128 MB: the heap has 256
        **given,
    }


def prepare(
    folder: Path, node: Node, cluster: Sequence[Node], *, cluster_id: str, given: Mapping[str, str]
) -> None:
    """The node can be started: its settings stand in its folder, which belongs to the cluster."""
    data = home(folder, node.id) / "data"
    data.mkdir(parents=True, exist_ok=True)
    identity = data / "meta.properties"
    if not identity.exists():
        # All that `kafka-storage format` would have done, 0.8 s sooner.
        lines = f"version=1\nnode.id={node.id}\ncluster.id={cluster_id}\n"
        (data / features.FILE).write_bytes(features.checkpoint())
        identity.write_text(lines, encoding="utf-8")
    text = "".join(
        f"{key}={escaped(value)}\n" for key, value in settings(folder, node, cluster, given).items()
    )
    properties_file(folder, node.id).write_text(text, encoding="utf-8")
    log = log_file(folder, node.id)
    if log.exists():
        log.replace(log.with_name("broker.log.1"))


def escaped(value: str) -> str:
    """As Java reads it back from a properties file."""
    plain = value.replace("\\", "\\\\").replace("\n", "\\n")
    return "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in plain)


def command(folder: Path, node: Node, java: Path, flags: Sequence[str]) -> list[str]:
    """What runs the node; its class path comes in the environment."""
    return [
        str(java),
        *FLAGS,
        *flags,
        f"-XX:ErrorFile={home(folder, node.id)}/java-crash.log",
        f"-Dlog4j2.configurationFile={LOGGING}",
        "kafka.Kafka",
        str(properties_file(folder, node.id)),
    ]


def choose_ports(size: int, port: int) -> list[Node]:
    """Nodes on ports that are free now: `port` and the next ones, or any if `port` is 0.

    Refuses a port that is taken. The controllers take any: nobody but the nodes speaks to them.
    """
    held: list[socket.socket] = []
    try:
        chosen = []
        for number in range(1, size + 1):
            own = _hold(port + number - 1 if port else 0, held)
            chosen.append(Node(number, own, _hold(0, held)))
        return chosen
    finally:
        for each in held:
            each.close()


def _hold(port: int, held: list[socket.socket]) -> int:
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.append(taken)
    # As the broker does: an address whose connections are only fading away counts as free.
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((HOST, port))
        taken.listen(1)
    except (OSError, OverflowError) as error:
        raise faults.port_taken(port, getattr(error, "strerror", None) or str(error)) from None
    return int(taken.getsockname()[1])


def tail(log: Path) -> list[str]:
    """The last lines that the node wrote."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return list(deque((line.rstrip("\n") for line in file), maxlen=LOG_TAIL))
    except OSError:
        return []
