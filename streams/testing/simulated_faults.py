"""What may go wrong with a simulated log, as hooks that all say by default that nothing does.

Whoever drives the run assigns them, usually to functions that draw from one seeded random number
generator: the same seed then gives the same run.

    faults = log.faults
    faults.commit = lambda producer, number, transaction: (
        Fault.LATE if random.random() < 0.01 else None
    )
    faults.latency = lambda call, process: random.random() * 0.05
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from streams.broker.port import Outgoing, TopicPartition, Transaction
from streams.testing.faults import Fault

Call = Literal["poll", "reader", "commit", "publish", "producer", "admin"]
Point = Literal["before_begin", "after_produce", "after_offsets", "in_commit", "after_commit"]


class Faults:
    """The hooks of one log; None is calm."""

    def __init__(self) -> None:
        self.commit: Callable[[str, int, Transaction], Fault | None] | None = None
        """Producer's id, which of its commits this is (from 1, over all producers of that id), and
        what it is to commit → what happens to it."""
        self.publish: Callable[[str, Sequence[Outgoing]], Fault | None] | None = None
        """Process and records → what happens to a `publish`."""
        self.late: Callable[[str], float] = lambda _: 2.0
        """Producer's id (or process, for a `publish`) → seconds until what was sent with
        `Fault.LATE` arrives."""
        self.latency: Callable[[Call, str], float] | None = None
        """Call and process → seconds that the call takes. Those of a commit are spread over its
        requests: records, positions, end, answer."""
        self.markers: Callable[[str], float] | None = None
        """Producer's id → seconds between the end of a transaction and its markers: decided, its
        producer told so, but not visible yet. (Kafka does this; `Producer.commit` says it does
        not, so it is for those who want to know what rests on that.)"""
        self.crash_point: Callable[[Point, str, str], None] | None = None
        """Called where a commit stands, with its process and producer's id: the place to kill or
        freeze the process."""
        self.lag: Callable[[str, TopicPartition], int] | None = None
        """Process and partition → how many of the newest offsets its readers do not see yet."""
        self.down = False
        """Whoever asks the log for something is told `LogUnavailable`; members are excused."""
