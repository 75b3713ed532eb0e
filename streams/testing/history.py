"""What happened in one run, as told by the log and by those who used it: what the rules judge.

The log writes down every record with the transaction it came in, whatever became of that; who
drives the run writes down what was asked for and what was answered. Nothing in here was made by
the code under judgement: its tables are only compared with what the log says.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.broker.port import Committed, Header, Membership, TopicPartition
from streams.topology.plan import Naming, Plan, Policy

Outcome = Literal["committed", "aborted", "open"]
"""Of a transaction, as the log decided it; `open` at the end of the run is as good as aborted."""

Answered = Literal["ok", "failed", "unknown"]


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """One record in one partition, visible or not."""

    place: TopicPartition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    transaction: int = 0
    """0 where it was published without one."""


class TransactionSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction from its first record to its end."""

    id: int
    producer: str
    outcome: Outcome
    offsets: dict[TopicPartition, Committed] = {}
    """What it says its group has finished."""
    before: dict[TopicPartition, Committed | None] = {}
    """Where the group stood in these partitions when it ended."""
    membership: Membership | None = None
    generation: int = 0
    """The group's generation when it ended: the log's word, not the member's."""
    began: int
    ended: int


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Positions of a group without members that an operator set."""

    at: int
    group: str
    positions: dict[TopicPartition, Committed]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was asked for from outside: a submission, a signal, a fact."""

    id: str
    """Of the event that was published for it."""
    job: str
    kind: str
    """`submit`, or the kind of the signal."""
    at: int
    answered: Answered = "ok"
    """`unknown` where the answer was lost: it may have happened or not, but never half."""


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One call of user code."""

    worker: str
    part: str
    scope: str
    epoch: int
    turn: int
    attempt: int
    began: int
    ended: int
    raised: bool = False


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The live table of one partition in its owner's memory, at the end of the run."""

    owner: str
    partition: int
    position: int
    """Everything below this offset of the ledger is in it."""
    rows: dict[str, dict[str, bytes]]


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """What one reader or member was given of a partition in one generation, in its order."""

    who: str
    place: TopicPartition
    generation: int
    offsets: tuple[int, ...]


class History(msgspec.Struct, kw_only=True):
    """One run. `records` in the order of their appending, over all partitions."""

    naming: Naming
    partitions: int
    plans: tuple[Plan, ...]
    records: list[Appended]
    transactions: dict[int, TransactionSeen]
    moved: list[Moved] = []
    asked: list[Asked]
    ran: list[Ran]
    kept: list[Kept]
    read: list[Read]
    policies: dict[str, Policy] = {}
    """Stage's path → how it is tried again."""
    began: int
    ended: int
    settled: bool = True
    """Whether everything had time to end after the last fault: only then may nothing be missing.
    The time counts, not what came of it: a job that had its time and has not ended is lost (C1)."""
    skew: int = 0
    """How far (ms) the clock of somebody who decides was ahead of or behind the log's, on purpose
    and by no more than is believed: a deadline may be missed by as much."""
    removed: dict[TopicPartition, frozenset[int]] = {}
    """Offsets that compaction or trimming took away: a reader need not have been given them."""


class Violation(msgspec.Struct, frozen=True):
    """A rule that does not hold."""

    rule: str
    """`C1` to `C9` and `rows`."""
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule} {self.where}: {self.what}"
