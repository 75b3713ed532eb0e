"""What can be asked of a cluster and of no embedded log: its settings, its topics' settings, its ACLs.

An adapter for a cluster has an attribute `cluster` that keeps these promises; `cluster_of` finds
it. Nothing here changes anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from streams.broker.port import Log

Operations = frozenset[str]
"""What the one who asks may do with a thing, in Kafka's words: `read`, `write`, `describe` …"""


class TopicFound(msgspec.Struct, frozen=True):
    """A topic as it is."""

    name: str
    partitions: int
    replicas: int = 0
    """The fewest of any partition; 0 where there is no such thing."""
    id: str = ""
    """Another one after it was deleted and made anew."""
    settings: Mapping[str, str] = {}
    """In force now, whoever set them; empty where they may not be read."""
    may: Operations | None = None
    """None where the cluster does not say."""


class ClusterFound(msgspec.Struct, frozen=True):
    """A cluster as it is."""

    id: str
    brokers: int
    settings: Mapping[str, str] = {}
    """Of one of its brokers; empty where they may not be read."""
    may: Operations | None = None


class Cluster(Protocol):
    """Answers about a cluster."""

    @property
    def bootstrap(self) -> str:
        """The brokers to begin with, as they were given."""

    @property
    def replication(self) -> int:
        """Replicas that the options ask for in new topics; -1 leaves it to the brokers."""

    async def reach(self, seconds: float) -> None:
        """Returns when a broker has answered. Raises `LogError` with what stands in the way, at
        once where waiting does not help (login, certificate), else after so many seconds."""

    async def facts(self) -> ClusterFound: ...

    async def found(
        self, names: Collection[str], *, settings: bool = True
    ) -> dict[str, TopicFound | None]:
        """Those of these topics that are there; None for one that may not be looked at."""

    async def group_operations(self, groups: Collection[str]) -> dict[str, Operations | None]:
        """What may be done with each of these groups, whether or not it is there."""

    async def require_transactions(self, transactional_id: str) -> None:
        """A transaction could be begun under this id, of which nobody makes use now. Raises
        `LogError`: K066 where the cluster has no transactions, K062 where an ACL is missing."""


def cluster_of(log: Log) -> Cluster | None:
    """The cluster behind this log, or None where there is none: an embedded log."""
    found: Cluster | None = getattr(log, "cluster", None)
    return found


def on_this_machine(bootstrap: str) -> bool:
    """Whether all these brokers (`HOST:PORT`, several with commas) are named as this machine's."""
    hosts = [each.strip().rpartition(":")[0].strip("[]") for each in bootstrap.split(",")]
    return all(host == "localhost" or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
