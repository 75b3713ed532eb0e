"""Consumer groups of the embedded log: who is a member, who owns which partition.

Rules
- A member is a name; each time somebody joins under it, a new *incarnation* replaces the former
  one at once. A member that did not beat for its session is dead.
- The *generation* rises when the set of members, a subscription or the set of topics changes.
  Targets are a pure function of the group (`assignment`), computed by each member.
- What a member really holds stands in `owners`. It takes a partition of its target only when no
  row is there: the former owner gave it up, left or died. So no two members ever own one.
- A commit is judged by `owners`, not by the generation: it is accepted while this incarnation
  owns every partition it moves. A member that keeps a partition through a rebalance can thus
  finish its transaction; one that gave it up, was replaced or declared dead is `Fenced`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import NamedTuple

from streams.broker.local_records import POSITIONS, positions_of, width_of
from streams.broker.port import Committed, Membership, TopicPartition
from streams.errors import Fenced, LogError

Topics = frozenset[str]


class Seat(NamedTuple):
    """A member's place in its group: which group, which name, which incarnation of it."""

    group: str
    member: str
    incarnation: int


class Share(NamedTuple):
    """What a member owns after looking at its group."""

    generation: int
    version: int
    owned: frozenset[TopicPartition]
    surplus: frozenset[TopicPartition]
    taken: dict[TopicPartition, Committed | None]


def assignment(
    members: Mapping[str, Collection[str]], topics: Mapping[str, int]
) -> dict[str, set[TopicPartition]]:
    """Each partition of a subscribed topic has exactly one owner: ranges over sorted members."""
    shares: dict[str, set[TopicPartition]] = {member: set() for member in members}
    for topic, width in topics.items():
        readers = sorted(member for member, wanted in members.items() if topic in wanted)
        if not readers:
            continue
        each, more = divmod(width, len(readers))
        first = 0
        for index, member in enumerate(readers):
            last = first + each + (1 if index < more else 0)
            shares[member].update(TopicPartition(topic, p) for p in range(first, last))
            first = last
    return shares


def join(
    connection: sqlite3.Connection, seat: Seat, topics: Topics, clock: tuple[int, int]
) -> Seat:
    """A new incarnation of the member is in the group; its namesake is out. `clock` is (now,
    session), both in ms."""
    now, session = clock
    for topic in topics:
        width_of(connection, topic)
    connection.execute("INSERT OR IGNORE INTO groups VALUES (?, 0, 0, 0)", (seat.group,))
    expel(connection, seat.group, now)
    before = _subscription(connection, seat)
    (incarnation,) = connection.execute(
        "UPDATE groups SET joins = joins + 1 WHERE name = ? RETURNING joins", (seat.group,)
    ).fetchone()
    connection.execute("DELETE FROM owners WHERE grp = ? AND member = ?", (seat.group, seat.member))
    connection.execute(
        "INSERT OR REPLACE INTO members VALUES (?,?,?,?,?,?)",
        (seat.group, seat.member, incarnation, json.dumps(sorted(topics)), now, session),
    )
    _turn(connection, seat.group, new_generation=before != topics)
    return seat._replace(incarnation=incarnation)


def resubscribe(connection: sqlite3.Connection, seat: Seat, topics: Topics) -> bool:
    """The member reads these topics from now on; False if it is not in the group any more."""
    for topic in topics:
        width_of(connection, topic)
    if not _seated(connection, seat):
        return False
    if _subscription(connection, seat) != topics:
        connection.execute(
            "UPDATE members SET topics = ? WHERE grp = ? AND member = ?",
            (json.dumps(sorted(topics)), seat.group, seat.member),
        )
        _turn(connection, seat.group, new_generation=True)
    return True


def beat(connection: sqlite3.Connection, seats: Collection[Seat], now: int) -> bool:
    """The members that are still in are seen to live; others whose session ended are out.
    True if there were such."""
    for seat in seats:
        connection.execute(
            "UPDATE members SET beat = ? WHERE grp = ? AND member = ? AND incarnation = ?",
            (now, *seat),
        )
    expelled = [expel(connection, group, now) for group in sorted({s.group for s in seats})]
    return any(expelled)


def expel(connection: sqlite3.Connection, group: str, now: int) -> bool:
    """Nobody is in the group whose session ended; True if somebody was."""
    # A beat from the future is not believed either: after the clock was set back it would count
    # for as long as the clock had been wrong.
    dead = connection.execute(
        "DELETE FROM members WHERE grp = ? AND abs(? - beat) > session RETURNING member",
        (group, now),
    ).fetchall()
    for (member,) in dead:
        connection.execute("DELETE FROM owners WHERE grp = ? AND member = ?", (group, member))
    if dead:
        _turn(connection, group, new_generation=True)
    return bool(dead)


def leave(connection: sqlite3.Connection, seat: Seat) -> None:
    """The member is out and owns nothing; a later incarnation of it stays as it is."""
    gone = connection.execute(
        "DELETE FROM members WHERE grp = ? AND member = ? AND incarnation = ?", seat
    )
    if gone.rowcount:
        connection.execute(
            "DELETE FROM owners WHERE grp = ? AND member = ? AND incarnation = ?", seat
        )
        _turn(connection, seat.group, new_generation=True)


def give_up(connection: sqlite3.Connection, seat: Seat, places: Collection[TopicPartition]) -> None:
    """The member owns none of these; whoever is to have them may take them."""
    connection.executemany(
        "DELETE FROM owners WHERE grp = ? AND member = ? AND incarnation = ?"
        " AND topic = ? AND partition = ?",
        [(*seat, *place) for place in places],
    )
    _turn(connection, seat.group, new_generation=False)


def share(
    connection: sqlite3.Connection, seat: Seat, held: Collection[TopicPartition]
) -> Share | None:
    """The member owns all of its target that was free; `taken` is owned but not yet in `held`.

    None if it is not in the group any more; `Fenced` if a namesake took its seat.
    """
    if not _seated(connection, seat):
        return None
    generation, version = connection.execute(
        "SELECT generation, version FROM groups WHERE name = ?", (seat.group,)
    ).fetchone()
    owned: set[TopicPartition] = set()
    others: set[TopicPartition] = set()
    for topic, partition, member in connection.execute(
        "SELECT topic, partition, member FROM owners WHERE grp = ?", (seat.group,)
    ):
        (owned if member == seat.member else others).add(TopicPartition(topic, partition))
    target = _targets(connection, seat.group)[seat.member]
    free = sorted(target - owned - others)
    connection.executemany(
        "INSERT INTO owners VALUES (?,?,?,?,?)",
        [(seat.group, *place, seat.member, seat.incarnation) for place in free],
    )
    known = positions_of(connection.execute(POSITIONS, (seat.group,)))
    return Share(
        generation,
        version,
        frozenset(owned.union(free)),
        frozenset(owned - target),
        {place: known.get(place) for place in sorted((owned | set(free)) - set(held))},
    )


def check_owner(
    connection: sqlite3.Connection, membership: Membership, places: Collection[TopicPartition]
) -> None:
    """Raises `Fenced` unless this incarnation is in the group and owns all these partitions."""
    seat = Seat(membership.group, membership.member, _incarnation(membership))
    if not _seated(connection, seat):
        raise Fenced(f"{seat.member} was declared dead in {seat.group}")
    owned = set(
        connection.execute(
            "SELECT topic, partition FROM owners WHERE grp = ? AND member = ? AND incarnation = ?",
            seat,
        ).fetchall()
    )
    for place in places:
        if tuple(place) not in owned:
            raise Fenced(f"{seat.member} does not own {place.topic}/{place.partition} any more")


def check_empty(connection: sqlite3.Connection, group: str, now: int) -> None:
    """Raises unless nobody is in the group."""
    expel(connection, group, now)
    rows = connection.execute(
        "SELECT member FROM members WHERE grp = ? ORDER BY member", (group,)
    ).fetchall()
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise LogError(
            f"positions of {group} cannot be set while it has members: {names}",
            code="K027",
            help="Stop its workers first, or wait for their session to end.",
        )


def topics_changed(connection: sqlite3.Connection) -> None:
    """Every group looks again at what there is to own."""
    connection.execute("UPDATE groups SET generation = generation + 1, version = version + 1")


def _incarnation(membership: Membership) -> int:
    return membership.token if isinstance(membership.token, int) else -1


def _seated(connection: sqlite3.Connection, seat: Seat) -> bool:
    row = connection.execute(
        "SELECT incarnation FROM members WHERE grp = ? AND member = ?", seat[:2]
    ).fetchone()
    if row is not None and row[0] != seat.incarnation:
        raise Fenced(
            f"another {seat.member} joined {seat.group}",
            help="Give each worker a name of its own.",
        )
    return row is not None


def _subscription(connection: sqlite3.Connection, seat: Seat) -> Topics | None:
    row = connection.execute(
        "SELECT topics FROM members WHERE grp = ? AND member = ?", seat[:2]
    ).fetchone()
    return None if row is None else frozenset(json.loads(row[0]))


def _targets(connection: sqlite3.Connection, group: str) -> dict[str, set[TopicPartition]]:
    members = {
        member: json.loads(topics)
        for member, topics in connection.execute(
            "SELECT member, topics FROM members WHERE grp = ?", (group,)
        )
    }
    wanted = {topic for topics in members.values() for topic in topics}
    widths = {
        name: width
        for name, width in connection.execute("SELECT name, partitions FROM topics")
        if name in wanted
    }
    return assignment(members, widths)


def _turn(connection: sqlite3.Connection, group: str, *, new_generation: bool) -> None:
    connection.execute(
        "UPDATE groups SET version = version + 1, generation = generation + ? WHERE name = ?",
        (int(new_generation), group),
    )
