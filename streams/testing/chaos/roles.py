"""Which node of a cluster does what at the moment: whom to kill for the worst effect."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from streams.broker.kafka_batches import BatchReader
from streams.broker.kafka_internals import POSITIONS, TRANSACTIONS
from streams.broker.port import TopicPartition
from streams.testing.chaos.ground import Ground
from streams.testing.chaos.site import TEAM
from streams.testing.chaos.trial import Trial

Role = Literal["busiest leader", "group coordinator", "transaction coordinator", "controller"]
ROLES: tuple[Role, ...] = get_args(Role)
QUORUM = Path("data", "__cluster_metadata-0", "quorum-state")
"""Where each node notes whom it takes for the controller."""


async def node_of(role: Role, ground: Ground, trial: Trial) -> int:
    """The id of the node that has this role for the trial's pipeline."""
    if role == "controller":
        return _controller(ground)
    leaders = await _leaders(trial)
    if role == "busiest leader":
        mine = f"{trial.naming.prefix}."
        count = Counter(at for place, at in leaders.items() if place.topic.startswith(mine))
        ((address, _),) = count.most_common(1)
        return ground.node_at(address)
    if role == "group coordinator":
        return ground.node_at(_coordinator(leaders, POSITIONS, trial.naming.keeper_group))
    name = f"{trial.naming.pool_group('default')}.{TEAM[0].name}"
    return ground.node_at(_coordinator(leaders, TRANSACTIONS, name))


async def _leaders(trial: Trial) -> dict[TopicPartition, tuple[str, int]]:
    reader = BatchReader(trial.direct)
    topics = {place.topic for place in trial.capture.followed}
    try:
        return await reader.leaders(topics)
    finally:
        await reader.close()


def _coordinator(
    leaders: dict[TopicPartition, tuple[str, int]], topic: str, name: str
) -> tuple[str, int]:
    """Who leads the partition in which the cluster keeps what it knows of this name."""
    width = sum(place.topic == topic for place in leaders)
    return leaders[TopicPartition(topic, java_hash(name) % width)]


def java_hash(text: str) -> int:
    """How brokers number names: Java's hash of a text, without its sign."""
    found = 0
    for each in text:
        found = (31 * found + ord(each)) & 0xFFFFFFFF
    signed = found - (1 << 32) if found >= 1 << 31 else found
    return 0 if signed == -(1 << 31) else abs(signed)


def _controller(ground: Ground) -> int:
    """By the latest election that any node knows of."""
    seen = [json.loads(path.read_text()) for path in ground.folder.glob(f"node-*/{QUORUM}")]
    latest = max(seen, key=lambda each: (each["leaderEpoch"], each["leaderId"]))
    return int(latest["leaderId"])
