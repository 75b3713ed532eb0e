"""One keeper transaction being put together: turns of several partitions, finished inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streams.broker.port import Outgoing, Record, TopicPartition
from streams.codec import kafka
from streams.engine.frontier import Frontier
from streams.engine.turn import Turn
from streams.errors import StreamsError
from streams.event import Event
from streams.observe.logs import get_logger
from streams.runtime.commit import Encoder
from streams.runtime.state import State

log = get_logger(__name__)

MOST_ACTIONS = 4_000
"""Actions of one transaction; what is left waits for the next one, inputs in between."""


class Batch:
    """Gathers until it is full or there is nothing more to do."""

    def __init__(
        self,
        new_turn: Callable[[State], Turn],
        encoder: Encoder,
        frontiers: Mapping[TopicPartition, Frontier],
    ) -> None:
        self.turns: dict[State, Turn] = {}
        self.places: dict[TopicPartition, int] = {}
        """Where inputs are done with, and how many."""
        self._new_turn = new_turn
        self._encoder = encoder
        self._frontiers = frontiers
        self._more: list[Outgoing] = []

    def turn(self, state: State) -> Turn:
        """The partition's turn of this transaction, ready for the next input."""
        turn = self.turns.get(state)
        if turn is None:
            turn = self.turns[state] = self._new_turn(state)
        turn.next_input()
        # An input may have come while the turn was under way: its time is not the turn's first.
        turn.now = state.time.now()
        return turn

    @property
    def touched(self) -> bool:
        return bool(self.places or self._more) or any(t.actions for t in self.turns.values())

    @property
    def full(self) -> bool:
        return self.fuller_than(1.0)

    def fuller_than(self, share: float) -> bool:
        """Whether that share of a transaction's room is taken."""
        size = len(self._more)
        for turn in self.turns.values():  # asked with every row and input: no generator
            size += len(turn.actions)
        return size >= MOST_ACTIONS * share

    def finished(self, record: Record) -> None:
        """The input is done with; its offset goes with this transaction."""
        self._frontiers[record.place].finish(record.offset)
        self.places[record.place] = self.places.get(record.place, 0) + 1

    def dead(self, record: Record, error: StreamsError, now: int, job: str = "") -> None:
        """The record goes to the dead letters, as it came."""
        log.warning(
            "event.dead",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            code=error.code,
            error=error.message,
        )
        self._more.append(
            self._encoder.dead_record(record, error.code, error.message, now, job=job)
        )

    def dead_event(self, event: Event, error: StreamsError, topic: str, now: int, job: str) -> None:
        """An event that was kept in a row, and will never be asked for."""
        value, headers = kafka.encode(event)
        self.dead(Record(topic, 0, 0, now, job.encode(), value, headers), error, now, job)

    def forward(self, topic: str, event: Event, scope: str, partition: int) -> None:
        """The state is another keeper's: on to it, in the transaction of the input's offset."""
        value, headers = kafka.encode(event)
        self._more.append(Outgoing(topic, scope.encode(), value, headers, partition))

    def records(self) -> list[Outgoing]:
        """All of it, in the order it was decided."""
        decided = [r for turn in self.turns.values() for r in self._encoder.records(turn.actions)]
        return decided + self._more
