"""A member of a group: what it owns, from where it reads, and how it gives partitions up.

The library tells of rebalances inside `consume`, in the client's thread, and takes the return
from that callback for the partitions being given up. So the thread waits there: the loop hears of
it as a `Poll` and its next `poll` lets the thread go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException

from streams.broker.kafka_admin import STABLE, KafkaAdmin
from streams.broker.kafka_backlog import Backlog
from streams.broker.kafka_calls import Hands
from streams.broker.kafka_errors import (
    FATAL,
    MAX_POLL_EXCEEDED,
    PARTITION_EOF,
    STATE,
    error_of,
    failure,
)
from streams.broker.kafka_freezing import freezing
from streams.broker.kafka_options import KafkaOptions
from streams.broker.kafka_records import (
    client_offsets,
    client_places,
    committed_of,
    place_of,
    record_of,
)
from streams.broker.port import Committed, Membership, Poll, Record, TopicPartition
from streams.clock import Clock
from streams.errors import Fenced, LogError, LogUnavailable, OffsetLost, TopicError

GIVING_UP = 15.0
"""Seconds that a partition being given up is held for the loop; then it is lost."""
SLICE = 0.1
"""Seconds after which a wait for records looks whether there is other news."""
ONE_READ = 5.0
AT_ONCE = 10_000
HEARD_OUT = 10
"""Times so many records that are thrown away at the end; the library holds no more of them."""


class KafkaConsumer:
    """A member of a group; it joins with its first poll after `subscribe`."""

    def __init__(
        self, options: KafkaOptions, admin: KafkaAdmin, clock: Clock, group: str, member: str
    ) -> None:
        self._options = options
        self._admin = admin
        self._clock = clock
        self._group = group
        self._member = member
        self._hands = Hands(f"kafka.consumer.{group}.{member}", clock)
        self._asked: asyncio.Future[Poll | None] | None = None
        self.closed = False
        # Written by the loop, read by the thread.
        self._topics: frozenset[str] = frozenset()
        self._paused: frozenset[TopicPartition] = frozenset()
        self._seeks: list[tuple[TopicPartition, int]] = []
        # The thread's own.
        self._client: Any = None
        self._subscribed: frozenset[str] = frozenset()
        self._owned: set[TopicPartition] = set()
        self._next = Poll()
        self._membership: Membership | None = None
        self._generation = 0
        self._backlog = Backlog()
        self._stopped: set[TopicPartition] = set()
        """Paused in the library, too."""
        self._below: set[TopicPartition] = set()
        """What they should begin with is not in the log any more."""
        self._failure: LogError | None = None

    # -- on the loop ------------------------------------------------------------------------

    async def subscribe(self, topics: Collection[str]) -> None:
        """Reads these topics from its next poll on. Raises `TopicError` where one is missing."""
        self._check_open()
        await self._admin.widths(topics, patience=5.0)
        self._topics = frozenset(topics)
        await self._hands.do(self._open)

    async def poll(self, max_records: int, timeout: float) -> Poll:
        """The next news or records, or nothing after `timeout`. Who is cancelled while waiting
        misses nothing: the next poll gets the answer."""
        self._check_open()
        if not self._topics:
            raise LogError(f"the consumer {self._member} has not subscribed", code="K028")
        if self._asked is None:
            self._asked = self._hands.ask(lambda: self._poll(max_records, timeout), resumes=True)
        asked = self._asked
        watchdog = timeout + STABLE + 3 * ONE_READ
        try:
            poll = await self._hands.answered(asked, watchdog)
        finally:
            if asked.done() or self._hands.is_stuck:
                self._asked = None
        assert poll is not None
        return poll

    def pause(self, places: Iterable[TopicPartition]) -> None:
        """They give no records until they are resumed."""
        self._paused |= frozenset(places)

    def resume(self, places: Iterable[TopicPartition]) -> None:
        """They give records again, from where they are."""
        self._paused -= frozenset(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        """The next poll goes on there."""
        self._seeks.append((place, offset))

    async def committed(
        self, places: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed | None]:
        """Stable positions; waits for transactions that could still change them."""
        self._check_open()
        return await self._hands.do(lambda: self._stable(places), STABLE + 3 * ONE_READ)

    async def close(self) -> None:
        """Is no member any more; with static membership its seat is kept until the session ends,
        so that a restarted worker finds it. Never raises."""
        self.closed = True
        await self._hands.end(self._close, 10.0)

    def _check_open(self) -> None:
        if self.closed:
            raise LogError(f"the consumer {self._member} is closed", code="K028")

    # -- in the thread: polling -------------------------------------------------------------

    def _open(self) -> None:
        if self._client is None:
            try:
                self._client = Client(self._options.consumer(self._group, self._member))
            except KafkaException as error:
                raise failure(error_of(error), f"joining {self._group}") from error

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        with freezing.watching():
            self._hear_out(client)
            client.close()

    def _hear_out(self, client: Any) -> None:
        """Nothing is left that the library wants to tell. Of a rebalance that it could tell only
        while it is closed it would wait for an answer that never comes, with Python's lock held
        (`kafka_freezing`)."""
        with contextlib.suppress(KafkaException):
            for _ in range(HEARD_OUT):
                if len(client.consume(AT_ONCE, 0)) < AT_ONCE:
                    return

    def _poll(self, most: int, timeout: float) -> Poll | None:
        if self._failure is not None:
            raise self._failure
        try:
            self._follow_wishes()
            self._next.records += self._backlog.take(most, self._paused)
            until = self._clock.monotonic() + timeout
            while True:
                left = 0.0 if self._has_news else until - self._clock.monotonic()
                self._absorb(self._client.consume(1, max(0.0, min(left, SLICE))))
                room = most - len(self._next.records)
                if room > 0 and self._next.records:
                    self._absorb(self._client.consume(room, 0))
                if self._has_news or left <= 0:
                    break
        except KafkaException as error:
            raise failure(error_of(error), f"reading as {self._member}") from error
        return self._answer()

    def _answer(self) -> Poll | None:
        """What is to be told; nothing is taken for it while nobody waits."""
        if not self._hands.is_awaited:
            return None
        if self._below - self._paused and not self._has_changes:
            self._check_below()
        if self._failure is not None and not self._has_changes:
            raise self._failure
        if self._seeks:  # came while the thread waited in a callback
            self._follow_wishes()
        if self._options.is_next_generation and self._owned:
            # There the epoch goes on without a word. It does so only after what was to be
            # revoked is given up, so a proof taken now still says what the loop believes.
            self._membership = self._proof()
        return self._take()

    @property
    def _has_changes(self) -> bool:
        news = self._next
        return bool(news.assigned or news.lost or news.revoked)

    @property
    def _has_news(self) -> bool:
        return bool(self._next.records) or self._has_changes or self._failure is not None

    def _take(self) -> Poll:
        news, self._next = self._next, Poll()
        news.membership = self._membership
        return news

    def _follow_wishes(self) -> None:
        """What the loop asked for since: other topics, other positions, paused partitions."""
        if self._topics != self._subscribed:
            self._subscribed = self._topics
            self._client.subscribe(
                sorted(self._topics),
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._lost,
            )
        while self._seeks:
            place, offset = self._seeks.pop(0)
            if place in self._owned:
                self._forget_records({place})
                self._go_to(place, offset)
        stop = (self._backlog.full() & self._paused) - self._stopped
        if stop:
            self._stopped |= stop
            self._client.pause(client_places(stop))
        go = {
            place
            for place in self._stopped
            if self._backlog.low(place) and place not in self._paused
        }
        if go:
            self._stopped -= go
            self._client.resume(client_places(go))

    def _go_to(self, place: TopicPartition, offset: int) -> None:
        """The library's next record of it is the first at or after `offset`."""
        until = self._clock.monotonic() + ONE_READ
        (target,) = client_offsets({place: offset})
        while True:
            try:
                self._client.seek(target)
                return
            except KafkaException as error:
                # A partition that was only just assigned is not yet fetched from.
                early = error_of(error).code() == STATE
                if not early or self._clock.monotonic() > until:
                    raise
            self._absorb(self._client.consume(1, 0.01))

    def _absorb(self, messages: list[Any]) -> None:
        """Keeps what came for the answer, or for later."""
        records = self._next.records
        simple = not self._paused and not self._backlog and not self._below
        for message in messages:
            error = message.error()
            if error is not None:
                self._mind(message, error)
                continue
            record = record_of(message)
            if simple:
                records.append(record)
                continue
            place = record.place
            if place in self._below:
                continue
            if place in self._paused or place in self._backlog:
                self._backlog.add(place, record)
            else:
                records.append(record)

    def _mind(self, message: Any, error: KafkaError) -> None:
        """Trouble is raised when what came before it was given."""
        code = error.code()
        if code in (MAX_POLL_EXCEEDED, PARTITION_EOF):
            return  # `lost` follows
        found = failure(error, f"reading {message.topic() or self._group} as {self._member}")
        if isinstance(found, OffsetLost):
            place = TopicPartition(message.topic(), message.partition())
            if place in self._owned:
                self._below.add(place)
        elif isinstance(found, TopicError):
            if self._is_missing(message.topic()):
                self._failure = found
        elif code == FATAL or not isinstance(found, (LogUnavailable, Fenced)):
            self._failure = found

    def _is_missing(self, topic: str | None) -> bool:
        """The library says so, too, while leaders change."""
        return topic is not None and not self._admin.exists_now(topic)

    # -- in the thread: positions -----------------------------------------------------------

    def _stable(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Committed | None]:
        """R5: an open transaction is waited for, for a while, never read past."""
        until = self._clock.monotonic() + STABLE
        while True:
            try:
                found = self._client.committed(client_places(places), ONE_READ)
                error = next((each.error for each in found if each.error is not None), None)
            except KafkaException as raised:
                found, error = [], error_of(raised)
            if error is None:
                return {place_of(each): committed_of(each) for each in found}
            trouble = failure(error, f"positions of {self._group}")
            if not isinstance(trouble, LogUnavailable) or self._clock.monotonic() > until:
                raise trouble

    def _check_below(self) -> None:
        """Goes on where the group stands, once that is in the log (again); else `OffsetLost`."""
        places = sorted(self._below - self._paused)
        stands = self._stable(places)
        lows, highs = self._admin.low_marks(places), self._admin.high_marks(places)
        for place in places:
            at = stands[place]
            if at is not None and not lows[place] <= at.offset <= highs[place]:
                raise OffsetLost(
                    f"{self._group} stands at {at.offset} in {place.topic}/{place.partition},"
                    f" which has {lows[place]} to {highs[place]}",
                    help="`streams recover` shows what is lost and sets the new position.",
                )
            self._below.discard(place)
            self._go_to(place, lows[place] if at is None else at.offset)

    # -- in the thread: rebalances ----------------------------------------------------------

    def _assigned(self, client: Any, partitions: list[Any]) -> None:
        """Positions are read when nobody else can move them any more."""
        if self.closed:
            return
        places = [place_of(each) for each in partitions]
        starts: dict[TopicPartition, int] = {}
        try:
            stands = self._stable(places) if places else {}
            lows = self._admin.low_marks(places)
            self._membership = self._proof()
        except LogError as error:
            # Nothing may be read from an unknown position: begin anew.
            self._failure = error
            stands = {}
        for place, at in stands.items():
            starts[place] = lows[place] if at is None else max(at.offset, lows[place])
            if at is not None and at.offset < lows[place]:
                self._below.add(place)
        if self._options.is_incremental:
            client.incremental_assign(client_offsets(starts))
        else:
            client.assign(client_offsets(starts))
        # The library keeps a pause over a rebalance: without this, a partition that was paused
        # when it left and comes back would never be read again.
        client.resume(client_places(starts))
        self._owned |= set(starts)
        self._next.assigned.update(stands)

    def _proof(self) -> Membership:
        token = self._client.consumer_group_metadata()
        # The library's serialized form, of which nothing else is promised.
        if token[:7] == b"CGMDv2:":
            self._generation = int.from_bytes(token[7:11], "little", signed=True)
        else:
            self._generation += 1
        return Membership(self._group, self._member, self._generation, token)

    def _revoked(self, _client: Any, partitions: list[Any]) -> None:
        """Returns, which gives them up, when the loop has done with them."""
        if self.closed:
            return
        told = self._disown(partitions)
        if not told:
            return
        if self._hands.is_awaited:
            self._next.revoked = told
            if self._hands.hand_over(self._take(), GIVING_UP):
                return
        self._next.lost |= told

    def _lost(self, _client: Any, partitions: list[Any]) -> None:
        if not self.closed:
            self._next.lost |= self._disown(partitions)

    def _disown(self, partitions: list[Any]) -> frozenset[TopicPartition]:
        """Forgets all of these; those that the loop knows as its own."""
        gone = {place_of(each) for each in partitions} & self._owned
        self._owned -= gone
        self._below -= gone
        self._stopped -= gone
        self._forget_records(gone)
        told = gone - set(self._next.assigned)
        for place in gone:
            self._next.assigned.pop(place, None)
        return frozenset(told)

    def _forget_records(self, places: Collection[TopicPartition]) -> None:
        for place in places:
            self._backlog.drop(place)
        kept: list[Record] = [r for r in self._next.records if r.place not in places]
        self._next.records[:] = kept
