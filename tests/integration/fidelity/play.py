"""Plays a scenario on a log, and says what each step gave and what stands at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from streams.broker.port import (
    Committed,
    Consumer,
    Log,
    Membership,
    Outgoing,
    Producer,
    Record,
    TopicPartition,
    TopicSpec,
    Transaction,
)
from streams.clock import Clock
from streams.errors import LogError
from streams.testing.conformance.broker_ground import Member

PATIENCE = 40.0
QUIET = 0.5
"""Seconds without news that show that there will be none."""

Heads = tuple[tuple[str, bytes | None], ...]
HEADS: Heads = (("a", b"1"), ("a", b"2"), ("empty", b""), ("none", None))


class Open(Protocol):
    """A transaction that was begun and whose end nobody has told yet."""

    async def finish(self, outcome: str) -> None: ...


class Ground(Protocol):
    """A log, and what the port does not offer: to stop in the middle of a transaction."""

    log: Log
    clock: Clock
    prefix: str
    """Of all names: the log may be shared with others."""

    async def leave(self, id: str, transaction: Transaction) -> Open: ...


class Play:
    """One scenario on one log."""

    def __init__(self, ground: Ground) -> None:
        self.log = ground.log
        self.clock = ground.clock
        self.ground = ground
        self.producers: dict[str, Producer] = {}
        self.former: list[Producer] = []
        self.left: dict[str, Open] = {}
        self.members: dict[str, Member] = {}
        self.proofs: dict[str, Membership | None] = {}
        self.groups: dict[str, str] = {}
        self.widths: dict[str, int] = {}
        self.looked: dict[str, int] = {}
        """How many of a member's records were looked at."""
        self.asked: dict[str, asyncio.Task[Any]] = {}

    async def run(self, script: str) -> list[str]:
        """A line for each step, with what it gave."""
        told = []
        try:
            for line in filter(None, map(str.strip, script.splitlines())):
                verb, *words = line.split()
                step: Callable[..., Awaitable[object]] = getattr(self, verb.replace("-", "_"))
                try:
                    gave = await step(*words)
                except LogError as error:
                    gave = type(error).__name__
                told.append(f"{line} -> {'ok' if gave is None else gave}")
        finally:
            await self._close()
        return told

    async def _close(self) -> None:
        for task in self.asked.values():
            task.cancel()
        for member in self.members.values():
            await member.consumer.close()
        for producer in (*self.producers.values(), *self.former):
            await producer.close()

    # -- topics and records -----------------------------------------------------------------------

    async def topic(self, name: str, width: str, cleanup: Any = "delete") -> None:
        await self.log.create_topics([TopicSpec(self._in(name), int(width), cleanup)])
        self.widths[name] = int(width)

    async def delete(self, name: str) -> None:
        await self.log.delete_topics([self._in(name)])
        await self._until(lambda: self._is_gone(name))

    async def _is_gone(self, name: str) -> bool:
        return self._in(name) not in await self.log.topics()

    async def publish(self, *records: str) -> None:
        await self.log.publish([self._record(each) for each in records])

    async def heads(self, place: str) -> None:
        topic, partition = self._place(place)
        await self.log.publish([Outgoing(topic, b"k", b"v", HEADS, partition)])

    async def read(self, topic: str) -> object:
        return [self._shown(record) for record in await self._all(topic)]

    async def read_now(self, topic: str) -> object:
        """What can be seen while a transaction is open: the end is not reached."""
        return [self._shown(record) for record in await self._all(topic, to_the_end=False)]

    async def read_heads(self, topic: str) -> object:
        return [record.headers for record in await self._all(topic)]

    async def table(self, topic: str) -> object:
        """Whether or not compaction has run yet, this is what it leaves."""
        found = {record.key: record.value for record in await self._all(topic)}
        return sorted((key, value) for key, value in found.items() if value is not None)

    async def marks(self, topic: str) -> object:
        marks = await self._at_rest(lambda: self.log.watermarks(self._places(topic)))
        return [tuple(mark) for _, mark in sorted(marks.items())]

    async def trim(self, place: str, offset: str) -> None:
        await self.log.trim({self._place(place): int(offset)})

    async def _all(self, topic: str, *, to_the_end: bool = True) -> list[Record]:
        places = self._places(topic)
        marks = await self.log.watermarks(places)
        reader = self.log.reader()
        reader.assign(dict.fromkeys(places, 0))
        found: list[Record] = []

        async def at_the_end() -> bool:
            found.extend(await reader.poll(100, 0.1))
            return all(reader.position(place) >= marks[place].high for place in places)

        try:
            if to_the_end:
                await self._until(at_the_end)
            else:
                quiet = self.clock.monotonic() + QUIET
                while self.clock.monotonic() < quiet:
                    await at_the_end()
        finally:
            await reader.close()
        return sorted(found, key=_order)

    # -- transactions -----------------------------------------------------------------------------

    async def open(self, name: str) -> None:
        if name in self.producers:
            self.former.append(self.producers[name])
        self.producers[name] = await self.log.producer(self._in(name))

    async def keep(self, name: str, alias: str) -> None:
        """The producer has another name in the script, and is replaced under its own."""
        self.producers[alias] = self.producers.pop(name)

    async def commit(self, name: str, *words: str) -> None:
        await self.producers[name].commit(self._transaction(words))

    async def leave(self, name: str, *words: str) -> None:
        self.left[name] = await self.ground.leave(self._in(name), self._transaction(words))

    async def finish(self, name: str, outcome: str) -> None:
        """Whoever left it open ends it; then the id is opened again for what follows."""
        await self.left.pop(name).finish(outcome)
        await self.open(name)

    async def finish_left(self, name: str, outcome: str) -> None:
        """The same, after the id was opened by somebody else."""
        await self.left.pop(name).finish(outcome)

    async def large(self, name: str, place: str, size: str) -> None:
        topic, partition = self._place(place)
        records = [
            Outgoing(topic, b"k", b"small", (), partition),
            Outgoing(topic, b"k", bytes(int(size)), (), partition),
        ]
        await self.producers[name].commit(Transaction(records))

    async def meta(self, name: str, member: str, place: str, length: str) -> None:
        position = Committed(1, "x" * int(length))
        proof = self.members[member].proof
        await self.producers[name].commit(Transaction([], {self._place(place): position}, proof))

    def _transaction(self, words: Sequence[str]) -> Transaction:
        records, _, rest = " ".join(words).partition("by ")
        moved: dict[TopicPartition, Committed] = {}
        proof = None
        if rest:
            who, *positions = rest.split()
            moved = dict(map(self._position, positions))
            proof = self.proofs[who] if who in self.proofs else self.members[who].proof
        return Transaction([self._record(each) for each in records.split()], moved, proof)

    # -- groups -----------------------------------------------------------------------------------

    async def join(self, who: str, group: str, *topics: str) -> None:
        alias, _, name = who.partition("=")
        consumer = self.log.consumer(self._in(group), name or alias)
        await consumer.subscribe([self._in(topic) for topic in topics])
        self.members[alias] = Member(consumer)
        self.groups[alias] = group

    async def again(self, who: str, *topics: str) -> None:
        await self.members[who].consumer.subscribe([self._in(topic) for topic in topics])

    async def settle(self, *who: str) -> object:
        """All polled in turn until everything is owned and nothing moves any more."""
        members = [self.members[each] for each in who]
        quiet: float | None = None

        async def settled() -> bool:
            nonlocal quiet
            before = [dict(member.owned) for member in members]
            for member in members:
                await member.poll()
            moved = before != [member.owned for member in members]
            if moved or not self._all_owned(who) or not self._of_one_generation(members):
                quiet = None
            elif quiet is None:
                quiet = self.clock.monotonic() + QUIET
            return quiet is not None and self.clock.monotonic() > quiet

        await self._until(settled)
        return {each: self._owned(self.members[each].owned) for each in who}

    def _all_owned(self, who: Sequence[str]) -> bool:
        members = [self.members[each] for each in who]
        owned = [place for member in members for place in member.owned]
        topics: set[str] = set()
        for member in members:
            topics |= self._topics_of(member.consumer)
        wanted = {TopicPartition(t, p) for t in topics for p in range(self.widths[self._out(t)])}
        return len(owned) == len(wanted) and set(owned) == wanted

    def _of_one_generation(self, members: Sequence[Member]) -> bool:
        return len({member.proof and member.proof.generation for member in members}) == 1

    def _topics_of(self, consumer: Consumer) -> frozenset[str]:
        found: frozenset[str] = getattr(consumer, "_topics")  # noqa: B009 - of both adapters
        return found

    async def wait_alone(self, who: str) -> object:
        """The others do not poll any more; this one does until it has all."""
        return await self.settle(who)

    async def get(self, who: str, count: str) -> object:
        """The records since the last look, at least so many."""
        member, found = self.members[who], self.looked.get(who, 0)

        async def enough() -> bool:
            await member.poll()
            return len(member.records) >= found + int(count)

        await self._until(enough)
        return await self.get_now(who)

    async def get_now(self, who: str) -> object:
        """The records since the last look, as many as come by themselves."""
        member, found = self.members[who], self.looked.get(who, 0)
        quiet = self.clock.monotonic() + QUIET
        while self.clock.monotonic() < quiet:
            await member.poll()
        self.looked[who] = len(member.records)
        return [self._shown(record) for record in sorted(member.records[found:], key=_order)]

    async def poll(self, who: str) -> None:
        """Polled until there is news; usually an error."""
        await self.until_error(who)

    async def until_error(self, who: str) -> None:
        async def fails() -> bool:
            await self.members[who].poll()
            return False

        await self._until(fails)

    async def proof(self, who: str, name: str) -> None:
        self.proofs[name] = self.members[who].proof

    async def close(self, who: str) -> None:
        await self.members.pop(who).consumer.close()

    async def pause(self, who: str, place: str) -> None:
        self.members[who].consumer.pause([self._place(place)])

    async def resume(self, who: str, place: str) -> None:
        self.members[who].consumer.resume([self._place(place)])

    async def seek(self, who: str, place: str, offset: str) -> None:
        self.members[who].consumer.seek(self._place(place), int(offset))

    async def committed(self, who: str, *places: str) -> object:
        found = await self.members[who].consumer.committed([self._place(each) for each in places])
        return self._owned(found)

    async def committed_length(self, who: str, place: str) -> object:
        found = await self.members[who].consumer.committed([self._place(place)])
        return [len(at.metadata) for at in found.values() if at is not None]

    async def ask(self, who: str, place: str) -> object:
        """Asked, and not answered while the position may change."""
        work = self.members[who].consumer.committed([self._place(place)])
        task = self.asked[who] = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=QUIET)
        return "answered" if done else "waits"

    async def ask_positions(self, group: str) -> object:
        """The same of a whole group, by nobody in it."""
        task = self.asked[group] = asyncio.ensure_future(self.log.positions(self._in(group)))
        done, _ = await asyncio.wait({task}, timeout=QUIET)
        return "answered" if done else "waits"

    async def answer(self, who: str) -> object:
        return self._owned(await self.asked.pop(who))

    async def place(self, group: str, position: str) -> None:
        await self.log.set_positions(self._in(group), dict([self._position(position)]))

    async def positions(self, group: str) -> object:
        found = await self._at_rest(lambda: self.log.positions(self._in(group)))
        return self._owned(found)

    async def who(self, group: str) -> object:
        return await self.log.members(self._in(group))

    # -- words ------------------------------------------------------------------------------------

    def _in(self, name: str) -> str:
        return self.ground.prefix + name

    def _out(self, name: str) -> str:
        return name.removeprefix(self.ground.prefix)

    def _places(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(self._in(topic), p) for p in range(self.widths[topic])]

    def _place(self, word: str) -> TopicPartition:
        topic, _, partition = word.partition("/")
        return TopicPartition(self._in(topic), int(partition))

    def _record(self, word: str) -> Outgoing:
        place, _, content = word.partition("=")
        key, _, value = content.partition(":")
        topic, partition = self._place(place)
        return Outgoing(topic, _bytes(key), _bytes(value), (), partition)

    def _position(self, word: str) -> tuple[TopicPartition, Committed]:
        place, _, at = word.partition("@")
        offset, _, metadata = at.partition(":")
        return self._place(place), Committed(int(offset), metadata)

    def _shown(self, record: Record) -> tuple[int, int, bytes | None, bytes | None]:
        return record.partition, record.offset, record.key, record.value

    def _owned(self, positions: Mapping[TopicPartition, Committed | None]) -> dict[str, Any]:
        return {
            f"{self._out(place.topic)}/{place.partition}": None if at is None else tuple(at)
            for place, at in sorted(positions.items())
        }

    async def _at_rest(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What is seen when nothing moves it any more. On Kafka a transaction's markers come after
        its commit has answered; until then a group's first positions are not among all of them."""
        before, now = None, await look()
        while now != before:
            await self.clock.sleep(QUIET)
            before, now = now, await look()
        return now

    async def _until(self, probe: Callable[[], Awaitable[bool]]) -> None:
        end = self.clock.monotonic() + PATIENCE
        while not await probe():
            if self.clock.monotonic() > end:
                raise TimeoutError(f"not so after {PATIENCE} s")
            await self.clock.sleep(0.01)


def _order(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _bytes(word: str) -> bytes | None:
    return None if word == "~" else word.encode()
