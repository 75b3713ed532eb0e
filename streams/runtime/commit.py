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
from streams.engine.messages import AnyEvent, StageEvent, encode_stage_event
from streams.engine.straight import Straight
from streams.event_rules import timestamp
from streams.runtime.call_values import Outcome
from streams.runtime.letters import letter as as_letter
from streams.topology.plan import Naming

MOST_RECORDS = 5_000
"""Records of one transaction; more waits for the next one."""
MOST_BYTES = 4 * 1024 * 1024
"""The same of the bytes in them, with what comes last on top."""


class Origin(Protocol):
    """Whatever knows where the record stood that actions follow from."""

    place: TopicPartition
    offset: int


@lru_cache(maxsize=65_536)
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
        found: list[Outgoing] = []
        for action in actions:
            if isinstance(action, PutRow):
                scope = action.scope
                key = f"{scope}|{action.part}".encode()  # as `Address.key`, without the address
                partition = partition_of(scope, partitions)
                found.append(Outgoing(ledger, key, action.data, (), partition))
            elif not isinstance(action, Forget):
                found.append(self._record(action, origin))
        return found

    def success(
        self, straight: Straight, event: StageEvent, outcome: Outcome, worker: str
    ) -> list[Outgoing]:
        """What follows from a success of a part whose ways on all lead to stages."""
        scope, out, ended = event.scope, outcome.out, outcome.ended
        partition = partition_of(scope, self._partitions)
        row = straight.row(event, out, outcome.meta, outcome.started, ended, worker)
        key = f"{scope}|{straight.path}".encode()
        found = [Outgoing(self._naming.ledger, key, row, (), partition)]
        if straight.ways:
            key = scope.encode()
            for topic, value in straight.events(event, out, ended):
                found.append(Outgoing(topic, key, value, kafka.STRUCTURED_HEADERS, partition))
        return found

    def _record(self, action: Action, origin: Origin | None) -> Outgoing:
        if isinstance(action, Publish):
            scope = action.scope
            value, headers = written(action.event)
            partition = partition_of(scope, self._partitions)
            return Outgoing(action.topic, scope.encode(), value, headers, partition)
        if isinstance(action, PutControl):
            return Outgoing(self._naming.control, action.key.encode(), action.data, (), 0)
        assert isinstance(action, DeadLetter), action
        return self._dead(action, origin)

    def _dead(self, letter: DeadLetter, origin: Origin | None) -> Outgoing:
        value, headers = written(letter.event)
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
        return as_letter(
            self._naming.dead, partition, letter.job.encode(), value, tuple(headers), more
        )

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
        # A topic of others may have more partitions than the dead letters.
        partition = record.partition % self._partitions
        return as_letter(
            self._naming.dead, partition, record.key, record.value, record.headers, more
        )


def written(event: AnyEvent) -> tuple[bytes | None, tuple[Header, ...]]:
    """Value and headers of an event: a stage's in structured mode, others in binary mode."""
    if isinstance(event, StageEvent):
        return encode_stage_event(event), kafka.STRUCTURED_HEADERS
    return kafka.encode(event)


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
