"""Actions to records: one step's outputs, rows, dead letters and offsets as one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Protocol

from streams.broker.port import (
    Committed,
    Header,
    Membership,
    Outgoing,
    Record,
    TopicPartition,
    Transaction,
    partition_for,
)
from streams.codec import kafka
from streams.engine.actions import Action, DeadLetter, Forget, Publish, PutControl, PutRow
from streams.event_rules import timestamp
from streams.topology.plan import Naming

MOST_RECORDS = 5_000
"""Records of one transaction; more waits for the next one."""


class Origin(Protocol):
    """Whatever knows where the record stood that actions follow from."""

    place: TopicPartition
    offset: int


@lru_cache(maxsize=16_384)
def partition_of(scope: str, partitions: int) -> int:
    """The partition that everything of a scope is in. Never asked of the log."""
    return partition_for(scope.encode(), partitions)


class Encoder:
    """Makes records of actions, for one pipeline."""

    def __init__(self, naming: Naming, partitions: int) -> None:
        self._naming = naming
        self._partitions = partitions

    def records(self, actions: Iterable[Action], origin: Origin | None = None) -> list[Outgoing]:
        """In the order of the actions. `origin`: the record they follow from, for dead letters."""
        ledger, partitions = self._naming.ledger, self._partitions
        return [
            Outgoing(
                ledger,
                f"{action.scope}|{action.part}".encode(),  # as `Address.key`, without the address
                action.data,
                (),
                partition_of(action.scope, partitions),
            )
            if isinstance(action, PutRow)
            else self._record(action, origin)
            for action in actions
            if not isinstance(action, Forget)
        ]

    def _record(self, action: Action, origin: Origin | None) -> Outgoing:
        if isinstance(action, Publish):
            value, headers = kafka.encode(action.event)
            return Outgoing(
                action.topic,
                action.scope.encode(),
                value,
                headers,
                partition_of(action.scope, self._partitions),
            )
        if isinstance(action, PutControl):
            return Outgoing(self._naming.control, action.key.encode(), action.data, (), 0)
        assert isinstance(action, DeadLetter), action
        return self._dead(action, origin)

    def _dead(self, letter: DeadLetter, origin: Origin | None) -> Outgoing:
        value, headers = kafka.encode(letter.event)
        partition = partition_of(letter.job, self._partitions)
        more = dlq_headers(
            topic=letter.topic,
            partition=partition,
            offset=origin.offset if origin and origin.place.topic == letter.topic else None,
            stage=letter.part,
            reason=letter.failure.code,
            error=letter.failure.message,
            attempts=letter.attempts,
            at=letter.at,
            job=letter.job,
            epoch=letter.epoch,
        )
        return Outgoing(self._naming.dead, letter.job.encode(), value, (*headers, *more), partition)

    def dead_record(
        self, record: Record, code: str, message: str, now: int, *, job: str = ""
    ) -> Outgoing:
        """A record that could not even be read: key, value and headers as they came (KT-5)."""
        more = dlq_headers(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            stage="",
            reason=code,
            error=message,
            attempts=1,
            at=now,
            job=job,
            epoch=0,
        )
        return Outgoing(
            self._naming.dead, record.key, record.value, (*record.headers, *more), record.partition
        )


def dlq_headers(
    *,
    topic: str,
    partition: int,
    offset: int | None,
    stage: str,
    reason: str,
    error: str,
    attempts: int,
    at: int,
    job: str,
    epoch: int,
) -> tuple[Header, ...]:
    """Origin and cause of a dead letter."""
    values = {
        "topic": topic,
        "partition": str(partition),
        "offset": "" if offset is None else str(offset),
        "stage": stage,
        "reason": reason,
        "error": error[:2_000],
        "attempts": str(attempts),
        "first-failed-at": timestamp(at),
        "job": job,
        "epoch": str(epoch) if epoch else "",
    }
    return tuple((f"streams-dlq-{name}", text.encode()) for name, text in values.items() if text)


def transaction(
    records: list[Outgoing],
    offsets: Mapping[TopicPartition, tuple[int, str]],
    membership: Membership | None,
) -> Transaction:
    """The one transaction of a step (R1: never without an input's offset)."""
    return Transaction(
        records=records,
        offsets={place: Committed(*position) for place, position in offsets.items()},
        membership=membership,
    )
