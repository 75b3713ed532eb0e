"""The stateful agent: owns ledger partitions and decides for the jobs in them.

For each partition it owns (`keeper_ownership`) it keeps a table of all rows (`state`), and consumes
intake and hold (`keeper_feed`).
Everything it decides is a turn of the engine, committed as one transaction (`batch`) with the
offsets of what caused it; its tables follow only after the commit.

Who owns hold p owns state p. An intake record whose state is elsewhere is forwarded to hold.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from streams.blobs import BlobError, BlobStore
from streams.broker.port import (
    Log,
    Outgoing,
    Producer,
    Record,
    TopicPartition,
)
from streams.clock import Clock
from streams.codec import kafka
from streams.codec.strict_json import check_data
from streams.engine import intake, keeping
from streams.engine.actions import Action, Forget, PutRow
from streams.engine.frontier import Frontier
from streams.engine.messages import Delivery, read
from streams.engine.rows import PUBLIC, head, is_closing
from streams.engine.turn import Turn
from streams.errors import EventError, LogUnavailable, StreamsError, TransactionAborted
from streams.observe import logs
from streams.observe.logs import get_logger
from streams.observe.metrics import Labels, Metrics
from streams.runtime.batch import Batch
from streams.runtime.comebacks import PASSING, Comebacks
from streams.runtime.commit import Encoder, partition_of, transaction
from streams.runtime.control import ControlReader
from streams.runtime.deciding import Decisions
from streams.runtime.figures import DECIDED, Figures
from streams.runtime.first_positions import FirstPositions
from streams.runtime.group_commit import commit_surely
from streams.runtime.keeper_feed import Feed, size_of
from streams.runtime.keeper_ownership import Ownership
from streams.runtime.keeper_upkeep import Upkeep
from streams.runtime.putting_away import put_away
from streams.runtime.restoring import Restore, Restorer
from streams.runtime.standing import Pulse
from streams.runtime.state import State
from streams.runtime.timekeeping import LogTime
from streams.runtime.waiting import gate_since, waits
from streams.topology.plan import Naming

log = get_logger(__name__)

MOST_TIMERS = 1_000
"""Deadlines of one transaction; a quarter of them also where it is full already."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of one input from outside, and about as many of the inputs of one transaction (R3)."""
ROWS_BESIDE_INPUTS = 0.75
INPUTS_BESIDE_A_STORM = 0.5
"""Shares of a transaction that one kind of work may fill while another one waits."""
TICK = 1.0
AFTER_A_FAULT = 60_000
"""When (ms) a deadline that could not be decided on is looked at again."""


class Keeper:
    """One member of the keepers' group."""

    def __init__(
        self,
        source: Log,
        naming: Naming,
        control: ControlReader,
        clock: Clock,
        *,
        worker: str,
        partitions: int,
        blobs: BlobStore,
        snapshots: Path | None = None,
        echo: Callable[[str, str, str], None] | None = None,
        figures: Figures | None = None,
    ) -> None:
        self._figures = figures or Figures(Metrics(), naming, clock)
        self.pulse = Pulse(clock, "coordinator")
        self._log = source
        self._naming = naming
        self._control = control
        self._clock = clock
        self._worker = worker
        self._partitions = partitions
        self._blobs = blobs
        self._echo = echo
        self._decisions = Decisions(blobs)
        self._time = LogTime(clock)
        self._restorer = Restorer(
            source, naming, control, clock, self._time, snapshots, self._figures, self.pulse
        )
        self._encoder = Encoder(naming, partitions)
        self._leaving = False
        self._begin()

    def _begin(self) -> None:
        self._states: dict[int, State] = {}
        self._feed: Feed | None = None
        self._facts: list[str] = []
        self._storm: deque[tuple[State, str]] = deque()
        """Gates still to be judged because a shared fact changed."""
        self._wake = asyncio.Event()

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until `leave`; starts anew after anything that leaves doubt about what stands."""
        comebacks = Comebacks(self._clock, self.pulse.member)
        listeners = self._control.table.listeners
        listeners.append(self._control_changed)
        try:
            while not self._leaving:
                try:
                    await self._live()
                except PASSING as error:
                    self.pulse.troubled(error)
                    await comebacks.after(error)
        finally:
            listeners.remove(self._control_changed)

    def leave(self) -> None:
        """Finishes what is at hand and gives everything up."""
        self._leaving = True
        self._wake.set()

    @property
    def owned(self) -> frozenset[int]:
        return frozenset(self._states)

    @property
    def states(self) -> Collection[State]:
        """All that it knows of the partitions it owns."""
        return self._states.values()

    @property
    def frontiers(self) -> Mapping[TopicPartition, Frontier]:
        """How far it is in the topics it consumes."""
        return self._feed.frontiers if self._feed is not None else {}

    @property
    def restoring(self) -> Mapping[int, Restore]:
        """Partitions whose tables are being read."""
        return self._restorer.under_way

    async def _live(self) -> None:
        self._begin()
        self.pulse.began()
        await self._ask_the_time()
        await self._control.wait_until(await self._control.end())
        reader = self._log.reader()
        consumer = self._log.consumer(self._naming.keeper_group, self._worker)
        producer = await self._log.producer(f"{self._naming.keeper_group}.{self._worker}")
        feed = self._feed = Feed(
            self._naming, self._clock, self._time, self._states, consumer, reader, self._wake
        )
        owning = Ownership(
            self._log,
            self._naming,
            self._clock,
            self._restorer,
            self._states,
            feed,
            producer,
            self._figures,
            self.pulse.member,
            FirstPositions(self._naming, self._control, self._clock, self._naming.keeper_group),
        )
        upkeep = Upkeep(
            self._log,
            self._naming,
            self._control,
            self._clock,
            self._restorer,
            self._states,
            feed.frontiers,
            self._partitions,
        )
        pumps = [
            asyncio.create_task(feed.pump_inputs(), name="keeper.inputs"),
            asyncio.create_task(feed.pump_rows(), name="keeper.rows"),
        ]
        try:
            await self._work(feed, owning, upkeep, producer, pumps)
            await owning.leave(frozenset(self._states))
        finally:
            if upkeep.trimming is not None:
                pumps.append(upkeep.trimming)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await consumer.close()
            await producer.close()
            await reader.close()
            states, self._states = self._states, {}
            for state in states.values():
                state.table.close()

    async def _ask_the_time(self) -> None:
        """Writes a record, so that its append time is read back (`timekeeping`). It says nothing
        and changes nothing: it needs no transaction."""
        self._time.asks()
        try:
            await self._log.publish([Outgoing(self._naming.control, b"time", b"", (), 0)])
        except TransactionAborted as error:
            raise LogUnavailable(error.message) from error

    def _control_changed(self, key: str) -> None:
        self._time.saw(self._control.table.time)
        if key == "time":
            self._time.heard()
            self._wake.set()
        elif key.startswith("fact/"):
            self._facts.append(key[5:])
            self._wake.set()

    # -- the loop ---------------------------------------------------------------------------

    async def _work(
        self,
        feed: Feed,
        owning: Ownership,
        upkeep: Upkeep,
        producer: Producer,
        pumps: Collection[asyncio.Task[None]],
    ) -> None:
        while not self._leaving:
            self._wake.clear()
            for pump in pumps:
                if pump.done():
                    pump.result()
            while feed.changes:
                await owning.change(feed.changes[0])
                feed.changes.popleft()
            feed.changes_followed()
            self.pulse.went_round(assigned=feed.membership is not None)
            if not await self._step(feed, producer):
                await self._rest()
            if self._time.in_doubt:
                await self._ask_the_time()
            upkeep.round()

    async def _rest(self) -> None:
        """Waits for something to do, at most until the next deadline."""
        wait = TICK
        for state in self._states.values():
            due = state.next_due()
            if due is not None:
                wait = min(wait, (due - state.time.now()) / 1000)
            if state.has_early:
                wait = min(wait, 0.2)
            if state.to_look_over:
                wait = 0.0
        if wait <= 0:
            await self._clock.sleep(0)  # polls and heartbeats have their turn
            return
        sleeper = asyncio.create_task(self._clock.sleep(wait))
        waker = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleeper, waker):
                task.cancel()
            await asyncio.gather(sleeper, waker, return_exceptions=True)

    async def _step(self, feed: Feed, producer: Producer) -> bool:
        """One transaction: rows first, then inputs, facts and timers. False if nothing was done."""
        batch = Batch(self._new_turn, self._encoder, feed.frontiers)
        # A fact that comes while this turn is under way is looked at in the next one: only then
        # does the index know the gates that this one enters.
        facts, self._facts = self._facts, []
        await self._read_rows(batch, feed)
        await self._take_inputs(batch, feed)
        await self._look_at_facts(batch, facts)
        await self._look_at_timers(batch, feed)
        if not batch.touched:
            return bool(feed.rows or feed.inputs or self._storm)
        await self._commit(batch, feed, producer)
        return True

    def _new_turn(self, state: State) -> Turn:
        control = self._control.table
        return Turn(
            state.table,
            self._naming,
            control.plans,
            active=control.active,
            shared=control.facts,
            now=state.time.now(),
            worker=self._worker,
        )

    async def _read_rows(self, batch: Batch, feed: Feed) -> None:
        """K5: what the agents have written, in the order they did."""
        while feed.rows and not batch.fuller_than(ROWS_BESIDE_INPUTS if feed.inputs else 1.0):
            record = feed.rows.popleft()
            state = self._states.get(record.partition)
            if state is None or record.key is None:
                continue
            address = state.table.read(record.key, record.value, record.offset)
            self._time.saw(record.timestamp)
            if address is None or record.value is None:
                continue
            feed.inputs.extendleft(reversed(state.bring_back(address)))
            await self._row_seen(batch, state, address.scope, is_closing(record.value))

    async def _row_seen(self, batch: Batch, state: State, scope: str, closing: bool) -> None:
        if "@job" not in state.table.rows(scope):
            due = state.time.now() + keeping.ORPHANED_ROWS_STAY
            state.holds.schedule(scope, "@orphan", due)
            return
        turn = batch.turns.get(state)
        held = state.holds.has_gates(scope) or (turn is not None and turn.holds_gate(scope))
        if closing or held:
            await self._decisions.about(
                batch,
                state,
                scope,
                lambda turn: keeping.row_seen(turn, scope, closing=closing, holds=held),
            )

    async def _take_inputs(self, batch: Batch, feed: Feed) -> None:
        """In their order, as many as fit; a storm that goes on keeps some of the room."""
        size = 0
        for _ in range(len(feed.inputs)):
            if batch.fuller_than(INPUTS_BESIDE_A_STORM if self._storm else 1.0):
                return
            if size >= MOST_BYTES:
                return
            record = feed.inputs.popleft()
            if record.place not in feed.frontiers:
                continue
            size += size_of(record)
            try:
                done = await self._decide(batch, record)
            except LogUnavailable:
                raise
            except StreamsError as error:
                batch.dead(record, error, record.timestamp)
                done = True
            if done:
                batch.finished(record)

    async def _decide(self, batch: Batch, record: Record) -> bool:
        """One input. False if it was set aside until its row is here."""
        event = kafka.decode(record.value, record.headers)
        if record.topic == self._naming.hold and event.type.startswith("interlock.hold."):
            state = self._states.get(record.partition)
            if state is None:
                raise EventError(f"no part of this pipeline: {record.place}", code="V047")
            delivery = _timed(read(event), record.timestamp)
            scope = delivery.scope
            if partition_of(scope, self._partitions) != record.partition:
                raise EventError(f"{scope} does not belong here", code="V047", field="scope")
            if state.set_aside(record, delivery):
                return False
            await self._decisions.make(
                batch, state, scope, lambda turn: keeping.arrived(turn, delivery)
            )
            return True
        if record.topic == self._naming.intake:
            if size_of(record) > MOST_BYTES:
                raise EventError(f"{size_of(record):,} bytes are too many", code="V049")
            check_data(event)
            event = intake.clean(event)
        scope = intake.scope_of(event)
        partition = partition_of(scope, self._partitions)
        owner = self._states.get(partition)
        if owner is None:
            batch.forward(self._naming.hold, event, scope, partition)
            return True
        small = await put_away(event, self._blobs, f"{self._blob_prefix}/{scope}")
        await self._decisions.make(
            batch, owner, scope, lambda turn: keeping.came_in(turn, small, scope)
        )
        return True

    async def _look_at_facts(self, batch: Batch, facts: list[str]) -> None:
        """K7: shared facts that changed; exactly the gates that read them are judged, once each.
        The rest of a storm follows in the next transactions, inputs in between."""
        for name in facts:
            for state in self._states.values():
                self._storm.extend((state, scope) for scope in state.holds.waiting_for(name))
        # Row 32: inputs have their share, see `_take_inputs`.
        while self._storm and not batch.full:
            state, scope = self._storm.popleft()
            if self._states.get(state.partition) is state:
                await self._decisions.about(
                    batch, state, scope, partial(keeping.fact_changed, scope=scope)
                )

    async def _look_at_timers(self, batch: Batch, feed: Feed) -> None:
        """K6: deadlines, delays, retentions."""
        most = MOST_TIMERS // max(1, len(self._states)) // (4 if batch.full else 1)
        for state in list(self._states.values()):
            now = state.time.now()
            for scope, part in state.pop_due(now, max(1, most)):
                if part.startswith("@early/"):
                    late = keeping.unclaimed(batch.turn(state), scope, part)
                    if late is not None:
                        batch.dead_event(late[0], late[1], self._naming.intake, now, scope)
                    continue
                await self._time_came(batch, state, scope, part, now)
            if state.has_orphans and await self._has_read_all(state, feed):
                for record in state.orphans():
                    error = EventError("the row it was written with is not there", code="K041")
                    batch.dead(record, error, now)
                    batch.finished(record)

    async def _has_read_all(self, state: State, feed: Feed) -> bool:
        """Whether every row that was in the log by now has been seen (K1.2)."""
        place = TopicPartition(self._naming.ledger, state.partition)
        end = (await self._log.watermarks([place]))[place].high
        return feed.has_read_to(end, state.partition)

    async def _time_came(self, batch: Batch, state: State, scope: str, part: str, now: int) -> None:
        again: int | None = None

        def decide(turn: Turn) -> None:
            nonlocal again
            again = keeping.time_came(turn, scope, part)

        turn = batch.turn(state)
        decided = len(turn.actions)
        if not await self._decisions.about(batch, state, scope, decide):
            again = now + AFTER_A_FAULT
        elif not await self._delete_blobs(turn.actions[decided:]):
            turn.undo_input()
            again = now + AFTER_A_FAULT
        if again is not None:
            state.again(scope, part, max(again, now + 50))

    async def _delete_blobs(self, actions: Sequence[Action]) -> bool:
        """Before the rows that name them go, so that a crash in between leaves no blob that nobody
        knows. False if the store would not: then nothing goes."""
        for action in actions:
            if isinstance(action, Forget):
                try:
                    await self._blobs.delete_prefix(f"{self._blob_prefix}/{action.root}")
                except BlobError as error:
                    log.warning(
                        "blobs.not_deleted",
                        job=action.root,
                        code=error.code,
                        error=error.message,
                    )
                    return False
        return True

    async def _commit(self, batch: Batch, feed: Feed, producer: Producer) -> None:
        """Makes the batch visible; the tables follow only then."""
        own = {TopicPartition(self._naming.hold, state.partition) for state in batch.turns}
        offsets = {place: feed.frontiers[place].commit() for place in {*batch.places, *own}}
        records = batch.records()
        await commit_surely(producer, transaction(records, offsets, feed.membership), self._clock)
        for state, turn in batch.turns.items():
            if logs.shows("debug"):
                self._tell_released(state, turn)
            state.committed(turn)
        finished: Counter[Labels] = Counter()
        for place, n in batch.places.items():
            finished[self._figures.finished(place.topic, DECIDED)] += n
        self._figures.committed(records, finished)
        for turn in batch.turns.values():
            if self._echo is not None:
                for job, path, text in turn.echoes:
                    self._echo(job, path, text)

    def _tell_released(self, state: State, turn: Turn) -> None:
        """Says who leaves a gate, before the table follows."""
        for action in turn.actions:
            if not isinstance(action, PutRow) or action.data is None or waits(action.data):
                continue
            if gate_since(state.table.rows(action.scope).get(action.part)) is not None:
                log.debug(
                    "gate.released",
                    gate=action.part,
                    job=action.scope,
                    status=PUBLIC[head(action.data).status],
                )

    @property
    def _blob_prefix(self) -> str:
        return f"{self._naming.namespace}/{self._naming.pipeline}"


def _timed(delivery: Delivery, appended: int) -> Delivery:
    """A delay counts from when the log took it in: the agent that asked for it may have a wrong
    clock, but it knows how long it meant."""
    if not delivery.due:
        return delivery
    return msgspec.structs.replace(delivery, due=appended + delivery.due - delivery.time)
