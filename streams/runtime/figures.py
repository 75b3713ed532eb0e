"""What the agents and the keeper of one pipeline count: the words of the log to labels of metrics.

Events are counted when their transaction is committed: a transaction that was rolled back, or whose
outcome nobody knows, counts nothing. Calls and retries are counted when they happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import msgspec

from streams.broker.port import Outgoing, Poll, TopicPartition
from streams.clock import Clock
from streams.engine.flow import Flow
from streams.engine.rows import PUBLIC
from streams.observe.logs import get_logger
from streams.observe.metrics import Labels, Metrics, reason_of
from streams.topology.plan import Naming

log = get_logger(__name__)

SUCCEEDED = PUBLIC["SUCCESS"]
DECIDED = "decided"
"""Outcome of whatever a keeper takes in."""
DROPPED = "dropped"
"""Nothing was to be done: the job was stopped, or the stage is another worker's."""
PARKED = "parked"
"""Its plan is not known here yet; it is offered again."""
UNREADABLE = "unreadable"
TOLD = 500
"""Characters of an error's message in a log line."""


class Ended(msgspec.Struct):
    """What is counted of a `done` event."""

    status: str = ""
    created_at: int = 0
    completed_at: int = 0


_ended = msgspec.json.Decoder(Ended)


class Figures:
    """Counts for one pipeline."""

    def __init__(self, metrics: Metrics, naming: Naming, clock: Clock) -> None:
        self.metrics = metrics
        self.pipeline = naming.pipeline
        self._clock = clock
        self._tables = frozenset({naming.ledger, naming.control})
        self._done = naming.done
        self._dead = naming.dead

    def finished(self, topic: str, outcome: str, stage: str = "") -> Labels:
        """What `committed` is to hear of one event that is done with."""
        return (self.pipeline, stage, topic, outcome)

    def ended(self, topic: str, stage: str, flow: Flow) -> Labels:
        """The same of a delivery to a stage; how it ended says the row that its step begins with."""
        status = flow.status
        return (self.pipeline, stage, topic, PARKED if status is None else PUBLIC[status])

    def committed(self, records: Sequence[Outgoing], finished: Mapping[Labels, int]) -> None:
        """Counts a transaction that is visible now."""
        metrics = self.metrics
        for labels, n in finished.items():
            metrics.consumed.add(labels, n)
            if labels[3] == SUCCEEDED:
                now = self._clock.now() / 1000
                metrics.last_success.set((self.pipeline, labels[1]), now)
        written = Counter([record.topic for record in records])
        for topic, n in written.items():
            if topic not in self._tables:
                metrics.produced.add((self.pipeline, topic), n)
        if self._dead in written:
            for record in records:
                if record.topic == self._dead:
                    self._died(record)
        if self._done in written:
            for record in records:
                if record.topic == self._done and record.value is not None:
                    self._job_ended(_ended.decode(record.value))

    def _died(self, record: Outgoing) -> None:
        said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        word = partial(_word, said)
        code, stage = word("reason"), word("stage")
        self.metrics.dead_letters.add((self.pipeline, stage, reason_of(code)))
        if stage:
            log.warning(
                "stage.failed",
                stage=stage,
                job=word("job"),
                code=code,
                error=word("error")[:TOLD],
                attempts=int(word("attempts") or 0),
            )

    def _job_ended(self, job: Ended) -> None:
        seconds = max(0, job.completed_at - job.created_at) / 1000
        self.metrics.end_to_end.observe((self.pipeline, job.status), seconds)

    def called(self, stage: str, started: int, ended: int) -> None:
        """A stage's code was called; times in ms."""
        self.metrics.process_duration.observe((self.pipeline, stage), (ended - started) / 1000)

    def again(self, stage: str, reason: str) -> None:
        """What was tried is to be tried again."""
        self.metrics.retries.add((self.pipeline, stage, reason))

    def rebalanced(self, poll: Poll, member: str) -> None:
        """Partitions have come or gone."""
        if not (poll.assigned or poll.revoked or poll.lost):
            return
        outcome = "lost" if poll.lost else "orderly"
        self.metrics.rebalances.add((self.pipeline, outcome))
        if poll.lost:
            log.warning("partition.lost", member=member, topics=_by_topic(poll.lost))
        if poll.revoked:
            log.info("partition.revoked", member=member, topics=_by_topic(poll.revoked))
        if poll.assigned:
            log.info("partition.assigned", member=member, topics=_by_topic(poll.assigned))

    def restored(self, seconds: float) -> None:
        """A partition's table is there."""
        self.metrics.ledger_restore.set((self.pipeline,), seconds)


def _word(said: dict[str, str], name: str) -> str:
    return said.get(f"streams-dlq-{name}", "")


def _by_topic(places: Iterable[TopicPartition]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, partition in sorted(places):
        found.setdefault(topic, []).append(partition)
    return found
