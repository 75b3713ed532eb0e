"""The stateful agent: owns ledger partitions and decides for the jobs in them.

For each partition it owns it keeps a table of all rows, and consumes intake and hold. Everything it
decides is a turn of the engine, committed as one transaction with the offsets of what caused it.

Who owns hold p owns state p. An intake record whose state is elsewhere is forwarded to hold.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from streams.blobs import BlobStore
from streams.broker.port import (
    Consumer,
    Log,
    Outgoing,
    Poll,
    Producer,
    Reader,
    Record,
    TopicPartition,
)
from streams.clock import Clock
from streams.codec import kafka
from streams.codec.strict_json import check_data
from streams.engine import intake, keeping
from streams.engine.actions import Forget
from streams.engine.frontier import Frontier
from streams.engine.messages import Delivery, cause_of, read
from streams.engine.payload import BlobMissing
from streams.engine.rows import Order, head, is_closing
from streams.engine.turn import Turn
from streams.errors import EventError, Fenced, OutcomeUnknown, StreamsError, TransactionAborted
from streams.event import Event
from streams.ledger import snapshot
from streams.ledger.table import LedgerTable
from streams.observe.logs import get_logger
from streams.runtime.commit import Encoder, partition_of, transaction
from streams.runtime.control import ControlReader
from streams.runtime.group_commit import commit_surely
from streams.runtime.holds import HoldIndex
from streams.runtime.timekeeping import PartitionTime
from streams.topology.plan import Naming

log = get_logger(__name__)

MOST_ACTIONS = 4_000
"""Actions of one transaction; what is left waits for the next one."""
MOST_TIMERS = 1_000
ORPHAN_AFTER = 2_000
"""How long (ms) an arrival may be ahead of the row it was written with."""
TICK = 1.0
SNAPSHOT_EVERY = 300.0
SNAPSHOT_MAX_AGE = 12 * 3600 * 1000
TRIM_EVERY = 60.0

Input = tuple[str, Any]


class Early(msgspec.Struct):
    """A hold event that came before the row it was written with."""

    record: Record
    delivery: Delivery
    order: Order
    since: int


class State:
    """All that the keeper knows of one partition."""

    def __init__(self, partition: int, clock: Clock, plans: Any) -> None:
        self.partition = partition
        self.holds = HoldIndex(plans)
        self.table = LedgerTable(self.holds.changed)
        self.time = PartitionTime(clock)
        self.aside: dict[tuple[str, str], list[Early]] = {}
        self.ready = False

    def apply_own(self, turn: Turn) -> None:
        """The turn is committed: its rows stand."""
        for action in turn.actions:
            if hasattr(action, "part") and hasattr(action, "data"):
                self.table.committed(action.scope, action.part, action.data)


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
        blobs: BlobStore | None = None,
        snapshots: Path | None = None,
        echo: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._log = source
        self._naming = naming
        self._control = control
        self._clock = clock
        self._worker = worker
        self._partitions = partitions
        self._blobs = blobs
        self._snapshots = snapshots
        self._echo = echo
        self._encoder = Encoder(naming, partitions)
        self._states: dict[int, State] = {}
        self._frontiers: dict[TopicPartition, Frontier] = {}
        self._loaded: dict[str, Any] = {}
        self._facts: deque[str] = deque()
        self._wake = asyncio.Event()
        self._inputs: deque[Record] = deque()
        self._polled: Poll | None = None
        self._rows: deque[Record] = deque()
        self._position_changed = asyncio.Event()
        self._membership: Any = None
        self._leaving = False

    # -- life -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until `leave`; starts anew after anything that leaves doubt about what stands."""
        self._control.table.listeners.append(self._control_changed)
        try:
            while not self._leaving:
                try:
                    await self._live()
                except (OutcomeUnknown, Fenced) as error:
                    log.warning("keeper.restarts", reason=str(error), code=error.code)
                    await self._clock.sleep(0.2)
        finally:
            self._control.table.listeners.remove(self._control_changed)

    def leave(self) -> None:
        """Finishes what is at hand and gives everything up."""
        self._leaving = True
        self._wake.set()

    @property
    def owned(self) -> frozenset[int]:
        return frozenset(p for p, state in self._states.items() if state.ready)

    def backlog(self) -> int:
        return len(self._inputs) + len(self._rows)

    async def _live(self) -> None:
        self._reset()
        consumer = self._log.consumer(self._naming.keeper_group, self._worker)
        producer = await self._log.producer(f"{self._naming.keeper_group}.{self._worker}")
        reader = self._log.reader()
        tasks: list[asyncio.Task[None]] = []
        try:
            await consumer.subscribe([self._naming.intake, self._naming.hold])
            tasks = [
                asyncio.create_task(self._pump_inputs(consumer), name="keeper.inputs"),
                asyncio.create_task(self._pump_rows(reader), name="keeper.rows"),
            ]
            await self._work(consumer, producer, reader, tasks)
            await self._give_up(set(self._states), producer, clean=True)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await consumer.close()
            await producer.close()
            await reader.close()

    def _reset(self) -> None:
        self._states.clear()
        self._frontiers.clear()
        self._inputs.clear()
        self._rows.clear()
        self._polled = None
        self._handled = asyncio.Event()
        self._handled.set()
        self._last_snapshot = self._last_trim = self._clock.monotonic()

    # -- pumps ------------------------------------------------------------------------------

    async def _pump_inputs(self, consumer: Consumer) -> None:
        """Hands polls over one by one: the next poll gives up what the last one revoked."""
        while True:
            if len(self._inputs) > 2_000:
                consumer.pause(self._frontiers)
            else:
                consumer.resume(self._frontiers)
            poll = await consumer.poll(500, TICK)
            if poll.assigned or poll.revoked or poll.lost:
                self._polled = poll
                self._handled.clear()
                self._wake.set()
                await self._handled.wait()
            elif poll.membership is not None:
                self._membership = poll.membership
            for record in poll.records:
                frontier = self._frontiers.get(record.place)
                if frontier is not None and frontier.start(record.offset):
                    self._inputs.append(record)
            if poll.records:
                self._wake.set()

    async def _pump_rows(self, reader: Reader) -> None:
        while True:
            await self._position_changed.wait()
            for record in await reader.poll(2_000, TICK):
                self._rows.append(record)
            self._wake.set()
            while len(self._rows) > 10_000:
                await self._clock.sleep(0.01)

    def _control_changed(self, key: str) -> None:
        if key.startswith("fact/"):
            self._facts.append(key[5:])
            self._wake.set()

    # -- the loop ---------------------------------------------------------------------------

    async def _work(
        self,
        consumer: Consumer,
        producer: Producer,
        reader: Reader,
        pumps: list[asyncio.Task[None]],
    ) -> None:
        while not self._leaving:
            self._wake.clear()
            for pump in pumps:
                if pump.done():
                    pump.result()
            if self._polled is not None:
                await self._change_owned(self._polled, producer, reader)
                self._polled = None
                self._handled.set()
            if not await self._step(producer):
                await self._rest()
            await self._housekeeping()

    async def _rest(self) -> None:
        """Waits for something to do, or for the next deadline."""
        wait = TICK
        for state in self._states.values():
            due = state.holds.next_due()
            if due is not None:
                wait = min(wait, (due - state.time.now()) / 1000)
        if any(state.aside for state in self._states.values()):
            wait = min(wait, 0.2)
        if wait <= 0:
            return
        sleeper = asyncio.create_task(self._clock.sleep(wait))
        waker = asyncio.create_task(self._wake.wait())
        await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sleeper, waker):
            task.cancel()
        await asyncio.gather(sleeper, waker, return_exceptions=True)

    async def _step(self, producer: Producer) -> bool:
        """One transaction: rows first, then inputs, facts and timers. False if nothing was done."""
        batch = Batch(self)
        self._read_rows(batch)
        await self._take_inputs(batch)
        self._look_at_facts(batch)
        self._look_at_timers(batch)
        if not batch.touched:
            return bool(self._rows or self._inputs)
        await self._commit(batch, producer)
        return True

    def _read_rows(self, batch: Batch) -> None:
        for _ in range(len(self._rows)):
            if batch.full:
                return
            record = self._rows.popleft()
            state = self._states.get(record.partition)
            if state is None or record.key is None:
                continue
            address = state.table.read(record.key, record.value, record.offset)
            state.time.saw(record.timestamp, fresh=state.table.was_own)
            if address is None:
                continue
            self._bring_back(state, address)
            if record.value is None or address.part.startswith("@"):
                continue
            closing, held = is_closing(record.value), state.holds.has_gates(address.scope)
            if closing or held:
                turn = batch.turn(state)
                turn.next_input()
                keeping.row_seen(turn, address.scope, closing=closing, holds=held)
            elif "@job" not in state.table.rows(address.scope):
                retention = self._retention(record.value)
                state.holds.schedule(address.scope, "@orphan", state.time.now() + retention)

    def _retention(self, data: bytes) -> int:
        plan = self._control.table.plans.get(self._control.table.active)
        return plan.retention_ms if plan is not None else 7 * 24 * 3600 * 1000

    def _bring_back(self, state: State, address: tuple[str, str]) -> None:
        """Inputs that waited for this row may be decided now."""
        waiting = state.aside.get(address)
        if not waiting:
            return
        order = head(state.table.rows(address[0])[address[1]]).order
        here = [each for each in waiting if each.order <= order]
        if here:
            left = [each for each in waiting if each.order > order]
            if left:
                state.aside[address] = left
            else:
                del state.aside[address]
            self._inputs.extendleft(each.record for each in reversed(here))

    async def _take_inputs(self, batch: Batch) -> None:
        for _ in range(len(self._inputs)):
            if batch.full:
                return
            record = self._inputs.popleft()
            frontier = self._frontiers.get(record.place)
            if frontier is None:
                continue
            try:
                done = await self._decide(batch, record)
            except StreamsError as error:
                batch.dead(record, error)
                done = True
            if done:
                batch.finished(record)

    async def _decide(self, batch: Batch, record: Record) -> bool:
        """One input; again after a blob was read. False if it was set aside."""
        event = kafka.decode(record.value, record.headers)
        hold = record.topic == self._naming.hold
        if hold and event.type.startswith("interlock.hold."):
            state = self._states[record.partition]
            delivery = read(event)
            if self._too_early(state, record, delivery):
                return False
            await self._with_blobs(batch, state, record, lambda t: keeping.arrived(t, delivery))
            return True
        if not hold:
            check_data(event)
            event = intake.clean(event)
        scope = intake.scope_of(event)
        partition = partition_of(scope, self._partitions)
        state_or_none = self._states.get(partition)
        if state_or_none is None:
            batch.forward(record, event, scope)
            return True
        owner = state_or_none
        await self._with_blobs(batch, owner, record, lambda t: keeping.came_in(t, event, scope))
        return True

    async def _with_blobs(
        self, batch: Batch, state: State, record: Record, decide: Callable[[Turn], None]
    ) -> None:
        """Decides; where a decision needs a value of the blob store, reads it and decides again."""
        state.time.saw(record.timestamp, fresh=False)
        turn = batch.turn(state)
        while True:
            turn.next_input()
            try:
                decide(turn)
                return
            except BlobMissing as missing:
                turn.undo_input()
                if self._blobs is None:
                    raise EventError("no blob store is set", code="B003") from missing
                self._loaded[missing.ref.url] = await self._blobs.value(missing.ref)
            except StreamsError:
                turn.undo_input()
                raise

    def _too_early(self, state: State, record: Record, delivery: Delivery) -> bool:
        """K4: an event must not be decided before the row it was written with has been seen."""
        cause = cause_of(delivery.cause)
        if cause is None:
            return False
        part, order = cause
        data = state.table.rows(delivery.scope).get(part)
        if data is not None and head(data).order >= order:
            return False
        job = state.table.rows(delivery.scope).get("@job")
        if job is None:
            return False
        address = (delivery.scope, part)
        waiting = state.aside.setdefault(address, [])
        waiting.append(Early(record, delivery, order, state.time.now()))
        return True

    def _look_at_facts(self, batch: Batch) -> None:
        """Shared facts that changed: judge exactly the gates that read them."""
        while self._facts and not batch.full:
            name = self._facts[0]
            done = True
            for state in self._states.values():
                for scope in state.holds.waiting_for(name):
                    if scope in batch.judged.get(name, ()):
                        continue
                    turn = batch.turn(state)
                    turn.next_input()
                    keeping.fact_changed(turn, scope)
                    batch.judged.setdefault(name, set()).add(scope)
                    if batch.full:
                        done = False
                        break
            if not done:
                self._seen_facts(batch, name)
                return
            self._facts.popleft()

    def _seen_facts(self, batch: Batch, name: str) -> None:
        """The rest of a storm follows in the next transactions, inputs in between."""
        self._wake.set()

    def _look_at_timers(self, batch: Batch) -> None:
        for state in self._states.values():
            if not state.ready:
                continue
            now = state.time.now()
            for scope, part in state.holds.pop_due(now, MOST_TIMERS):
                turn = batch.turn(state)
                turn.next_input()
                if part.startswith("@early/"):
                    self._unclaimed(batch, turn, scope, part)
                    continue
                again = keeping.time_came(turn, scope, part)
                if again is not None:
                    state.holds.schedule(scope, part, max(again, now + 50))
            self._look_at_aside(batch, state, now)

    def _unclaimed(self, batch: Batch, turn: Turn, scope: str, part: str) -> None:
        found = keeping.unclaimed(turn, scope, part)
        if found is not None:
            batch.dead_event(found[0], found[1], scope)

    def _look_at_aside(self, batch: Batch, state: State, now: int) -> None:
        """An arrival whose row does not come: the pair was torn, which no log may do."""
        for address, waiting in list(state.aside.items()):
            late = [each for each in waiting if now - each.since > ORPHAN_AFTER]
            if not late or self._rows:
                continue
            for each in late:
                error = EventError(
                    f"an arrival without its row {address[0]}|{address[1]}", code="K041"
                )
                batch.turn(state)
                batch.dead(each.record, error)
                batch.finished(each.record)
            left = [each for each in waiting if each not in late]
            if left:
                state.aside[address] = left
            else:
                del state.aside[address]

    # -- commit -----------------------------------------------------------------------------

    async def _commit(self, batch: Batch, producer: Producer) -> None:
        """Makes the batch visible; the tables follow only then."""
        records = batch.records(self._encoder)
        places = set(batch.places)
        for state in batch.turns:
            places.add(TopicPartition(self._naming.hold, state.partition))
        offsets = {place: self._frontiers[place].commit() for place in places}
        await commit_surely(
            producer, transaction(records, offsets, self._membership), self._clock
        )
        for state, turn in batch.turns.items():
            state.apply_own(turn)
        await self._after(batch)

    async def _after(self, batch: Batch) -> None:
        for turn in batch.turns.values():
            for job, path, text in turn.echoes:
                if self._echo is not None:
                    self._echo(job, path, text)
            for action in turn.actions:
                if isinstance(action, Forget) and self._blobs is not None:
                    await self._blobs.delete_prefix(f"{self._naming.namespace}/{self._naming.pipeline}/{action.root}")
        self._loaded.clear()

    # -- ownership --------------------------------------------------------------------------

    async def _change_owned(self, poll: Poll, producer: Producer, reader: Reader) -> None:
        for place in poll.lost:
            self._forget(place)
        gone = {place.partition for place in poll.revoked if place.topic == self._naming.hold}
        await self._give_up(gone, producer, clean=True)
        for place in poll.revoked:
            self._forget(place)
        if poll.membership is not None:
            self._membership = poll.membership
        for place, committed in poll.assigned.items():
            position = committed or (0, "")
            frontier = Frontier(position[0], position[1])
            frontier.take_over(0)
            self._frontiers[place] = frontier
        mine = [p.partition for p in poll.assigned if p.topic == self._naming.hold]
        for partition in mine:
            await self._take(partition)
        self._follow(reader)
        for partition in mine:
            self._judge_all(self._states[partition])

    def _forget(self, place: TopicPartition) -> None:
        self._frontiers.pop(place, None)
        if place.topic == self._naming.hold:
            self._states.pop(place.partition, None)
        self._inputs = deque(r for r in self._inputs if r.place != place)

    async def _take(self, partition: int) -> None:
        """K1: the table of the partition, up to everything the former owner may have written."""
        place = TopicPartition(self._naming.ledger, partition)
        end = (await self._log.watermarks([place]))[place].high
        await self._control.wait_until(await self._control.end())
        state = State(partition, self._clock, self._control.table.plans)
        if self._snapshots is not None and self._control.table.layout is not None:
            found = snapshot.read(
                self._snapshots,
                layout=self._control.table.layout.id,
                topic=place.topic,
                partition=partition,
                end=end,
                now=self._clock.now(),
                max_age=SNAPSHOT_MAX_AGE,
            )
            if found is not None:
                state.table.load(found.rows, found.position)
        started = self._clock.monotonic()
        reader = self._log.reader()
        try:
            reader.assign({place: state.table.position})
            while reader.position(place) < end:
                for record in await reader.poll(10_000, 1.0):
                    if record.key is not None:
                        state.table.read(record.key, record.value, record.offset)
                        state.time.saw(record.timestamp, fresh=False)
            state.table.position = max(state.table.position, end)
        finally:
            await reader.close()
        state.ready = True
        self._states[partition] = state
        log.info(
            "ledger.restored",
            partition=partition,
            rows=len(state.table),
            seconds=round(self._clock.monotonic() - started, 3),
        )

    def _follow(self, reader: Reader) -> None:
        """The rows pump reads exactly the owned partitions, each from where its table stands."""
        self._rows.clear()
        reader.assign(
            {
                TopicPartition(self._naming.ledger, p): state.table.position
                for p, state in self._states.items()
            }
        )
        if self._states:
            self._position_changed.set()
        else:
            self._position_changed.clear()

    def _judge_all(self, state: State) -> None:
        """K1.4: what changed while nobody owned the partition is noticed now."""
        now = state.time.now()
        for scope in list(state.table.scopes()):
            if "@job" in state.table.rows(scope):
                state.holds.schedule(scope, "@look", now)

    async def _give_up(self, partitions: set[int], producer: Producer, *, clean: bool) -> None:
        """Leaves partitions in order: nothing is under way, say so in the offsets."""
        places = {
            place: frontier
            for place, frontier in self._frontiers.items()
            if place.partition in partitions or place.topic == self._naming.intake
        }
        places = {p: f for p, f in places.items() if p.partition in partitions}
        if places:
            offsets = {place: frontier.commit(clean=clean) for place, frontier in places.items()}
            with contextlib.suppress(TransactionAborted, Fenced, OutcomeUnknown):
                await producer.commit(transaction([], offsets, self._membership))
        for partition in partitions:
            state = self._states.get(partition)
            if state is not None:
                await self._snapshot(state)

    # -- housekeeping -----------------------------------------------------------------------

    async def _housekeeping(self) -> None:
        now = self._clock.monotonic()
        if now - self._last_trim >= TRIM_EVERY:
            self._last_trim = now
            await self._log.trim(
                {
                    place: frontier.offset
                    for place, frontier in self._frontiers.items()
                    if place.topic == self._naming.hold
                }
            )
            self._drop_old_stops()
        if now - self._last_snapshot >= SNAPSHOT_EVERY:
            self._last_snapshot = now
            for state in self._states.values():
                await self._snapshot(state)

    def _drop_old_stops(self) -> None:
        """A stop outlives its job by a day, then nothing can still ask for it."""
        day = 24 * 3600 * 1000
        for root, stop in list(self._control.table.stops.items()):
            state = self._states.get(partition_of(root, self._partitions))
            if state is None or root in state.table.scopes() or state.time.now() - stop.at < day:
                continue
            state.holds.schedule(root, "@stop", state.time.now())

    async def _snapshot(self, state: State) -> None:
        layout = self._control.table.layout
        if self._snapshots is None or layout is None or len(state.table) < 1_000:
            return
        taken = snapshot.Snapshot(
            snapshot.FORMAT,
            layout.id,
            self._naming.ledger,
            state.partition,
            state.table.position,
            self._clock.now(),
            {scope: dict(parts) for scope, parts in state.table.dump().items()},
        )
        with contextlib.suppress(OSError):
            await asyncio.to_thread(snapshot.write, self._snapshots, taken)


class Batch:
    """One keeper transaction: turns of several partitions, finished inputs, dead letters."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.turns: dict[State, Turn] = {}
        self.places: dict[TopicPartition, None] = {}
        self.judged: dict[str, set[str]] = {}
        self._more: list[Outgoing] = []

    def turn(self, state: State) -> Turn:
        """The partition's turn of this transaction."""
        turn = self.turns.get(state)
        if turn is None:
            k = self._keeper
            turn = self.turns[state] = Turn(
                state.table,
                k._naming,
                k._control.table.plans,
                active=k._control.table.active,
                shared=k._control.table.facts,
                now=state.time.now(),
                worker=k._worker,
                blobs=k._loaded,
            )
        return turn

    @property
    def touched(self) -> bool:
        return bool(self.places or self._more) or any(t.actions for t in self.turns.values())

    @property
    def full(self) -> bool:
        return len(self._more) + sum(len(t.actions) for t in self.turns.values()) >= MOST_ACTIONS

    def finished(self, record: Record) -> None:
        self._keeper._frontiers[record.place].finish(record.offset)
        self.places[record.place] = None

    def dead(self, record: Record, error: StreamsError) -> None:
        """The record goes to the dead letters, as it came."""
        k = self._keeper
        log.warning("event.dead", topic=record.topic, offset=record.offset, code=error.code, error=error.message)
        self._more.append(
            k._encoder.dead_record(record, error.code, error.message, k._clock.now())
        )

    def dead_event(self, event: Event, error: StreamsError, scope: str) -> None:
        k = self._keeper
        value, headers = kafka.encode(event)
        record = Record(k._naming.intake, 0, 0, 0, scope.encode(), value, headers)
        self._more.append(
            k._encoder.dead_record(record, error.code, error.message, k._clock.now(), job=scope)
        )

    def forward(self, record: Record, event: Event, scope: str) -> None:
        """The state is another keeper's: on to its hold topic, in the transaction of the offset."""
        k = self._keeper
        value, headers = kafka.encode(event)
        self._more.append(
            Outgoing(
                k._naming.hold, scope.encode(), value, headers, partition_of(scope, k._partitions)
            )
        )

    def records(self, encoder: Encoder) -> list[Outgoing]:
        return [r for turn in self.turns.values() for r in encoder.records(turn.actions)] + self._more
