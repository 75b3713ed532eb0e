"""Consumer groups of the simulated log, as Kafka's group coordinator keeps them.

Rules
- Whoever joins, leaves, dies or changes its topics makes the group *join* anew. The generation
  stays as it is until every member has asked to join again, which it does by polling; then it
  rises by one and everybody hears of the new shares.
- `eager`: a member gives everything up before it joins again. `cooperative`: it keeps what it has,
  is told what is too much, and giving that up makes another generation.
- A namesake takes over the seat, its partitions and no generation passes (static membership); the
  one that sat there is fenced.
- A commit is judged by the generation, not by who owns what: of a group that is joining anew, the
  former generation is still good.
- Positions that an open transaction may still change are not *stable*; nobody is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal

from streams.broker.local_groups import assignment
from streams.broker.port import Committed, Membership, TopicPartition
from streams.errors import Fenced, LogError
from streams.testing.simulated_process import Process
from streams.testing.simulated_records import Topics

Rebalance = Literal["eager", "cooperative"]
Gone = Literal["", "left", "expelled", "replaced"]


class Seat:
    """One life of a member in its group."""

    __slots__ = (
        "gone", "group", "incarnation", "joined", "membership", "name", "owned", "polled",
        "polling", "process", "surplus", "topics", "unsettled", "version", "wake",
    )  # fmt: skip

    def __init__(
        self, group: Group, name: str, incarnation: int, process: Process, wake: Callable[[], None]
    ) -> None:
        self.group = group
        self.name = name
        self.incarnation = incarnation
        self.process = process
        self.wake = wake
        self.topics: frozenset[str] = frozenset()
        self.owned: dict[TopicPartition, None] = {}
        self.surplus: frozenset[TopicPartition] = frozenset()
        self.membership = Membership(group.name, name, 0, incarnation)
        self.version = 0
        """Rises with whatever its consumer has to look at."""
        self.unsettled = False
        """Waits until the positions of its share are stable."""
        self.joined = False
        self.gone: Gone = ""
        self.polled = 0.0
        self.polling = False

    def told(self, generation: int) -> None:
        """It has its share of that generation, and its consumer will find out."""
        self.membership = self.membership._replace(generation=generation)
        self.version += 1
        self.wake()

    def leave(self, gone: Gone) -> None:
        """It is out, and its consumer will find out."""
        self.gone = gone
        self.wake()


class Group:
    """One group."""

    __slots__ = ("generation", "joining", "name", "pending", "positions", "seats")

    def __init__(self, name: str) -> None:
        self.name = name
        self.seats: dict[str, Seat] = {}
        self.generation = 0
        self.joining = False
        self.positions: dict[TopicPartition, Committed] = {}
        self.pending: dict[TopicPartition, int] = {}
        """Positions that so many open transactions may still change."""

    def is_stable(self, places: Iterable[TopicPartition]) -> bool:
        """Whether no open transaction may change these."""
        return not self.pending or not any(place in self.pending for place in places)

    def hold(self, places: Iterable[TopicPartition]) -> None:
        """These are not stable."""
        for place in places:
            self.pending[place] = self.pending.get(place, 0) + 1

    def release(self, places: Iterable[TopicPartition]) -> None:
        """What `hold` said of these is over."""
        for place in places:
            self.pending[place] -= 1
            if not self.pending[place]:
                del self.pending[place]
        for seat in self.seats.values():
            if seat.unsettled:
                seat.wake()


class Groups:
    """All groups of a broker."""

    def __init__(
        self,
        topics: Topics,
        rebalance: Rebalance,
        session: float,
        poll_interval: float,
        changed: Callable[[], None],
    ) -> None:
        self.by_name: dict[str, Group] = {}
        self.expelled = 0
        """How many members were declared dead."""
        self._topics = topics
        self._eager = rebalance == "eager"
        self._session = session
        self._poll_interval = poll_interval
        self._changed = changed
        self._incarnations = 0

    @property
    def eager(self) -> bool:
        return self._eager

    def group(self, name: str) -> Group:
        """The group, made if it is not there."""
        return self.by_name.get(name) or self.by_name.setdefault(name, Group(name))

    # -- who is in ----------------------------------------------------------------------------

    def join(self, seat: Seat, topics: frozenset[str], now: float) -> None:
        """The seat is taken; its namesake is out."""
        self._check(topics)
        group = seat.group
        former = group.seats.get(seat.name)
        seat.topics, seat.polled, seat.joined = topics, now, True
        group.seats[seat.name] = seat
        if former is not None:
            former.leave("replaced")
            if former.topics == topics and not group.joining and not former.surplus:
                seat.owned, former.owned = former.owned, {}
                seat.told(group.generation)
                self._changed()
                return
        self._join_anew(group, but=seat)

    def seat(self, group: str, name: str, process: Process, wake: Callable[[], None]) -> Seat:
        """A seat to be taken."""
        self._incarnations += 1
        return Seat(self.group(group), name, self._incarnations, process, wake)

    def resubscribe(self, seat: Seat, topics: frozenset[str]) -> None:
        """The member reads these topics from now on."""
        self._check(topics)
        if not seat.gone and seat.topics != topics:
            seat.topics = topics
            self._join_anew(seat.group)

    def join_again(self, seat: Seat, held: Iterable[TopicPartition]) -> None:
        """The member, which holds these, asks for its share of the next generation."""
        if not seat.joined:
            seat.joined = True
            seat.owned = dict.fromkeys(held)
            self._complete(seat.group)

    def give_up(self, seat: Seat, places: Iterable[TopicPartition]) -> None:
        """The member does not own these any more."""
        for place in places:
            seat.owned.pop(place, None)
        seat.surplus = frozenset()
        if not self._eager and not seat.gone:
            self._join_anew(seat.group)

    def leave(self, seat: Seat, gone: Gone = "left") -> None:
        """The member is out; the others share what it had."""
        if seat.gone:
            return
        seat.leave(gone)
        del seat.group.seats[seat.name]
        if seat.group.joining:
            self._complete(seat.group)
        else:
            self._join_anew(seat.group)

    def topics_changed(self, names: Collection[str]) -> None:
        """Who reads one of these looks again at what there is to own."""
        changed = frozenset(names)
        for group in self.by_name.values():
            for place in [p for p in group.positions if self._is_deleted(p, changed)]:
                del group.positions[place]
            readers = [seat for seat in group.seats.values() if seat.topics & changed]
            for seat in readers:
                for place in [p for p in seat.owned if self._is_deleted(p, changed)]:
                    del seat.owned[place]
                seat.version += 1
            if readers:
                self._join_anew(group)

    # -- who lives ----------------------------------------------------------------------------

    def expel_silent(self, now: float) -> float | None:
        """Members that are dead are out. When (monotonic) the next one may be; None without any."""
        due: list[float] = []
        for group in list(self.by_name.values()):
            for seat in list(group.seats.values()):
                end = self._dies_at(seat, now)
                if end <= now:
                    self.expelled += 1
                    self.leave(seat, "expelled")
                else:
                    due.append(end)
        return min(due, default=None)

    def excuse_all(self, now: float) -> None:
        """Nobody is to blame for having been silent until now: the log itself was away."""
        for group in self.by_name.values():
            for seat in group.seats.values():
                seat.polled = now
                if seat.process.silent_since is not None:
                    seat.process.silent_since = now

    def _dies_at(self, seat: Seat, now: float) -> float:
        end = (now if seat.polling else seat.polled) + self._poll_interval
        silent = seat.process.silent_since
        return end if silent is None else min(end, silent + self._session)

    # -- who may commit -----------------------------------------------------------------------

    def check(self, membership: Membership) -> Group:
        """The group; `Fenced` unless this is a member of its present generation. Who names no
        member is not checked, as Kafka's brokers do with clients that do not know how."""
        group = self.group(membership.group)
        if not membership.member:
            return group
        seat = group.seats.get(membership.member)
        if seat is None:
            raise Fenced(f"{membership.member} is not a member of {membership.group}")
        if seat.incarnation != membership.token:
            raise Fenced(f"another {membership.member} joined {membership.group}")
        if membership.generation != group.generation:
            raise Fenced(
                f"{membership.member} is of generation {membership.generation} of"
                f" {membership.group}, which is at {group.generation}"
            )
        return group

    def set_positions(self, name: str, positions: Mapping[TopicPartition, Committed]) -> None:
        """A group without members stands at these positions."""
        self._check_empty(name, "set")
        self.group(name).positions.update(positions)
        self._changed()

    def delete(self, name: str) -> None:
        """A group without members stands nowhere."""
        self._check_empty(name, "deleted")
        self.group(name).positions.clear()
        self._changed()

    def _check_empty(self, name: str, done: str) -> None:
        group = self.group(name)
        if group.seats:
            names = ", ".join(sorted(group.seats))
            raise LogError(
                f"positions of {name} cannot be {done} while it has members: {names}",
                code="K027",
                help="Stop its workers first, or wait for their session to end.",
            )

    # -- generations --------------------------------------------------------------------------

    def _join_anew(self, group: Group, but: Seat | None = None) -> None:
        if not group.joining:
            group.joining = True
            for seat in group.seats.values():
                seat.joined = seat is but
                seat.wake()
        self._complete(group)

    def _complete(self, group: Group) -> None:
        """A new generation, once all who are in have joined."""
        if not group.joining or not all(seat.joined for seat in group.seats.values()):
            return
        group.joining = False
        group.generation += 1
        wanted = sorted({name for seat in group.seats.values() for name in seat.topics})
        widths = {name: self._topics.width(name) for name in wanted if name in self._topics.by_name}
        shares = assignment({seat.name: seat.topics for seat in group.seats.values()}, widths)
        held = {place for seat in group.seats.values() for place in seat.owned}
        for seat in group.seats.values():
            share = shares[seat.name]
            seat.surplus = frozenset(place for place in seat.owned if place not in share)
            seat.owned.update(dict.fromkeys(sorted(share - held)))
            seat.told(group.generation)
        self._changed()

    def _check(self, topics: Iterable[str]) -> None:
        for name in topics:
            self._topics.width(name)

    def _is_deleted(self, place: TopicPartition, changed: frozenset[str]) -> bool:
        return place.topic in changed and place.topic not in self._topics.by_name
