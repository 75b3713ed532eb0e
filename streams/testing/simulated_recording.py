"""What a simulated log writes down of a run, cheaply; turned into the history's words when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from streams.broker.port import Record, TopicPartition
from streams.testing.history import Appended, Read, TransactionSeen
from streams.testing.simulated_transactions import Pending

OnAppend = Callable[[Sequence[Record], int, str], None]
"""Records at their offsets (not visible yet if there is a transaction), its number (0 without
one), and the process they came from."""
OnEnd = Callable[[TransactionSeen], None]


class Run:
    """What somebody was given of one partition without a jump."""

    __slots__ = ("chunks", "generation", "place", "who")

    def __init__(self, who: str, place: TopicPartition, generation: int) -> None:
        self.who = who
        self.place = place
        self.generation = generation
        self.chunks: list[Sequence[Record]] = []


class Recording:
    """All records ever appended, all transactions, and all that was read."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.on_append: OnAppend | None = None
        self.on_end: OnEnd | None = None
        self._records: list[tuple[int, Sequence[Record]]] = []
        self._transactions: dict[int, Pending] = {}
        self._runs: list[Run] = []

    def appended(
        self, records: Sequence[Record], process: str, pending: Pending | None = None
    ) -> None:
        """These have their offsets."""
        number = 0 if pending is None else pending.number
        if self.on:
            self._records.append((number, records))
        if self.on_append is not None:
            self.on_append(records, number, process)

    def began(self, pending: Pending) -> None:
        """A transaction is open."""
        if self.on:
            self._transactions[pending.number] = pending

    def ended(self, pending: Pending) -> None:
        """A transaction's markers are there."""
        if self.on_end is not None:
            self.on_end(pending.seen())

    def run(self, who: str, place: TopicPartition, generation: int) -> Run | None:
        """Where to note what is read from here on; None if nobody wants to know."""
        if not self.on:
            return None
        run = Run(who, place, generation)
        self._runs.append(run)
        return run

    def records(self) -> list[Appended]:
        """Every record in the order of appending, whatever became of it."""
        return [_appended(each, number) for number, some in self._records for each in some]

    def committed(self) -> Iterator[Record]:
        """Every record that was published or committed."""
        for number, records in self._records:
            if not number or self._transactions[number].outcome == "committed":
                yield from records

    def transactions(self) -> dict[int, TransactionSeen]:
        """Every transaction that wrote something, by its number."""
        return {number: pending.seen() for number, pending in self._transactions.items()}

    def reads(self) -> list[Read]:
        """What was read, one entry for each stretch without a jump (a seek begins a new one)."""
        return [
            Read(
                who=run.who,
                place=run.place,
                generation=run.generation,
                offsets=_offsets(run.chunks),
            )
            for run in self._runs
            if run.chunks
        ]


def _appended(record: Record, transaction: int) -> Appended:
    return Appended(
        place=TopicPartition(record.topic, record.partition),
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=record.headers,
        transaction=transaction,
    )


def _offsets(chunks: Iterable[Sequence[Record]]) -> tuple[int, ...]:
    return tuple(record.offset for chunk in chunks for record in chunk)
