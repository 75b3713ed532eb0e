"""Histories spoilt in one place each: what the checker must refuse, and by which rule.

A mutant takes an honest history and gives one back that no honest run could have left. Where a
history has nothing to spoil in that way, it raises `NotHere`.
"""

import msgspec

from streams.broker.port import Committed, Membership
from streams.engine.messages import INPUT
from streams.engine.rows import Address, decode, decode_fact, encode
from streams.testing.checker.decoding import laid_open
from streams.testing.history import Appended, TransactionSeen
from tests.simulation.honest_runs import copied

replace = msgspec.structs.replace


class NotHere(Exception):
    """The history has nothing that could be spoilt in this way."""


# -- the sixteen --------------------------------------------------------------------------------


def drop_a_record(history):
    """The event that was to start a stage is gone."""
    return without(history, first(deliveries(history)))


def drop_a_done(history):
    """A job ended and nobody was told."""
    return without(history, first(in_topic(history, history.naming.done)))


def double_a_delivery(history):
    """The same event stands in a stage's topic twice."""
    return with_copies(history, first(deliveries(history)))


def double_a_done(history):
    """A job's end is told twice."""
    return with_copies(history, first(in_topic(history, history.naming.done)))


def swap_two_inputs_of_a_key(history):
    """Two deliveries of one address have changed places."""
    seen = {}
    for record in deliveries(history):
        address = (record.place, headers(record)["ce_scope"])
        other = seen.setdefault(address, record)
        if other is not record:
            spoilt = copied(history)
            at, there = place_of(spoilt, other), place_of(spoilt, record)
            spoilt.records[at] = replace(record, offset=other.offset)
            spoilt.records[there] = replace(other, offset=record.offset)
            return spoilt
    raise NotHere


def tear_a_row_from_its_transaction(history):
    """A stage's row came in a transaction of its own, after the one with its event and offset."""
    record = first(r for r, row in rows(history, by="pool-") if row.status == "SUCCESS")
    spoilt, id = with_transaction(history, like=record.transaction, offsets={})
    spoilt.records[place_of(spoilt, record)] = replace(record, transaction=id)
    return spoilt


def tear_the_offset(history):
    """A stage's row and events are there, the offset of what caused them is not."""
    record, _ = first(rows(history, by="pool-"))
    spoilt = copied(history)
    seen = history.transactions[record.transaction]
    spoilt.transactions[seen.id] = replace(seen, offsets={}, membership=None)
    return spoilt


def un_abort_a_transaction(history):
    """What was aborted, and done again, is there all the same."""
    seen = first(
        seen for seen in history.transactions.values()
        if seen.outcome == "aborted"
        and any(r.transaction == seen.id and r.headers for r in history.records)
    )  # fmt: skip
    spoilt = copied(history)
    spoilt.transactions[seen.id] = replace(seen, outcome="committed")
    return spoilt


def read_of_an_aborted_record(history):
    """A member was given a record that was never committed."""
    for read in history.read:
        for record in history.records:
            if record.place == read.place and not is_committed(history, record):
                spoilt = copied(history)
                offsets = tuple(sorted({*read.offsets, record.offset}))
                spoilt.read[spoilt.read.index(read)] = replace(read, offsets=offsets)
                return spoilt
    raise NotHere


def stale_version_appended(history):
    """A version of a job's row comes again after newer ones."""
    record = first(
        record for record, row in rows(history, job=True)
        if row.status == "RUNNING" and newest(history, record) is not record
    )  # fmt: skip
    return with_copies(history, record)


def early_timer(history):
    """A deadline fires half a second before its time."""
    record, _, due = first(timed_out(history))
    spoilt = copied(history)
    early = record.timestamp - due + 500
    for at, other in enumerate(spoilt.records):
        if other.transaction == record.transaction:
            spoilt.records[at] = replace(other, timestamp=other.timestamp - early)
    return spoilt


def release_without_its_condition(history):
    """A gate opens, though the fact that it waits for is not so."""
    spoilt = copied(history)
    found = False
    for at, record in enumerate(spoilt.records):
        if record.place.topic == history.naming.ledger and b"|@fact/go" in (record.key or b""):
            row = decode_fact(record.value)
            spoilt.records[at] = replace(record, value=encode(replace(row, value=False)))
            found = True
    if not found:
        raise NotHere
    return spoilt


def release_and_timeout_both(history):
    """A gate that timed out lets its job pass as well."""
    record, row, _ = first(timed_out(history, gates=True))
    gate = first(
        p.gate.name for plan in history.plans for p in plan.parts if p.path == part(record)
    )
    both = replace(
        row, status="SUCCESS", n=row.n + 1, err=None, reason="",
        meta={**row.meta, f"gate.{gate}.passed_at": row.at},
    )  # fmt: skip
    return with_copies(history, record, value=encode(both))


def second_end_of_one_turn(history):
    """A stage that has ended ends once more in the same turn, and otherwise."""
    record, row = first((r, row) for r, row in rows(history, by="pool-") if row.status == "SUCCESS")
    again = replace(row, status="CANCELLED", n=row.n + 1, taken=())
    return with_copies(history, record, value=encode(again, closing=True))


def live_table_differs(history):
    """The owner's table has another row than the log."""
    spoilt = copied(history)
    for at, kept in enumerate(spoilt.kept):
        for scope, parts in kept.rows.items():
            for name, data in parts.items():
                changed = {**parts, name: data[:-1] + b" }"}
                spoilt.kept[at] = replace(kept, rows={**kept.rows, scope: changed})
                return spoilt
    raise NotHere


def offset_moved_backwards(history):
    """The last transaction of a group finishes less than the ones before it."""
    spoilt = copied(history)
    for id in reversed(list(spoilt.transactions)):
        seen = spoilt.transactions[id]
        for place, position in seen.offsets.items():
            if seen.outcome == "committed" and position.offset > 1:
                offsets = {**seen.offsets, place: Committed(1)}
                spoilt.transactions[id] = replace(seen, offsets=offsets)
                return spoilt
    raise NotHere


SIXTEEN = {
    drop_a_record: "C1",
    drop_a_done: "C1",
    double_a_delivery: "C2",
    double_a_done: "C2",
    un_abort_a_transaction: "C2",
    read_of_an_aborted_record: "C3",
    swap_two_inputs_of_a_key: "C4",
    live_table_differs: "C5",
    stale_version_appended: "C6",
    second_end_of_one_turn: "C6",
    tear_a_row_from_its_transaction: "C7",
    tear_the_offset: "C7",
    offset_moved_backwards: "C7",
    early_timer: "C8",
    release_without_its_condition: "C8",
    release_and_timeout_both: "C8",
}
"""Mutant → the rule that must refuse it."""


# -- beyond the sixteen -------------------------------------------------------------------------


def accepted_and_gone(history):
    """A submission was accepted, and is not in the log."""
    spoilt = copied(history)
    spoilt.asked.append(replace(history.asked[0], id="nowhere", job="nowhere", answered="ok"))
    return spoilt


def failed_and_there(history):
    """A caller was told that it failed, and it happened."""
    spoilt = copied(history)
    spoilt.asked[:] = [replace(asked, answered="failed") for asked in history.asked]
    return spoilt


def drop_a_dead_letter(history):
    """A part failed for good, and its event is nowhere."""
    dead = in_topic(history, history.naming.dead)
    return without(history, first(r for r in dead if "streams-dlq-stage" in headers(r)))


def never_picked_up(history):
    """An event that nobody ever took stands in a stage's topic at the end."""
    record = first(deliveries(history))
    return with_copies(history, record, value=rewritten(record, id="another", turn=9))


def another_id(history):
    """An event has an id of its own making: who does its work again will not know it."""
    record = first(deliveries(history))
    spoilt = copied(history)
    changed = replace(record, value=rewritten(record, id="of-its-own"))
    spoilt.records[place_of(spoilt, record)] = changed
    return spoilt


def purged_too_early(history):
    """A job is forgotten while its retention lasts."""
    record = first(
        record for record, row in rows(history, job=True)
        if row.ended and newest(history, record) is record
    )  # fmt: skip
    return with_copies(history, record, value=None)


def parent_aborted(history):
    """The transaction that sent an event was aborted; what followed from the event is there."""
    parents = {headers(record).get("ce_causationid") for record in history.records}
    record = first(r for r in deliveries(history) if headers(r)["ce_id"] in parents)
    spoilt = copied(history)
    seen = history.transactions[record.transaction]
    spoilt.transactions[seen.id] = replace(seen, outcome="aborted")
    return spoilt


def called_out_of_turn(history):
    """A worker runs an earlier turn of an address after a later one."""
    spoilt = copied(history)
    ran = first(ran for ran in history.ran if (ran.epoch, ran.turn) > (1, 1))
    spoilt.ran.append(replace(ran, epoch=1, turn=1))
    return spoilt


def live_table_lacks_a_row(history):
    """The owner has forgotten a job."""
    spoilt = copied(history)
    at, kept = first((at, kept) for at, kept in enumerate(spoilt.kept) if kept.rows)
    spoilt.kept[at] = replace(kept, rows=dict(list(kept.rows.items())[1:]))
    return spoilt


def gap_in_a_reader(history):
    """A reader was never given a record between two others."""
    spoilt = copied(history)
    at, read = first((at, r) for at, r in enumerate(history.read) if len(r.offsets) > 2)
    spoilt.read[at] = replace(read, offsets=(read.offsets[0], *read.offsets[2:]))
    return spoilt


def read_twice(history):
    """A reader was given a record twice in one generation."""
    spoilt = copied(history)
    at, read = first((at, r) for at, r in enumerate(history.read) if r.offsets)
    spoilt.read[at] = replace(read, offsets=(*read.offsets, read.offsets[-1]))
    return spoilt


def zombie_commits(history):
    """A member of an older generation commits."""
    record, _ = first(rows(history, by="pool-"))
    seen = history.transactions[record.transaction]
    spoilt = copied(history)
    spoilt.transactions[seen.id] = replace(seen, generation=seen.generation + 1)
    return spoilt


def without_membership(history):
    """A keeper's transaction moves no offset: nothing fences its writer (R1)."""
    record, _ = first(rows(history, by="keeper", job=True))
    seen = history.transactions[record.transaction]
    spoilt = copied(history)
    spoilt.transactions[seen.id] = replace(seen, offsets={}, membership=None)
    return spoilt


def finished_comes_back(history):
    """A position lists an offset as unfinished that was finished before."""
    for seen in reversed(list(history.transactions.values())):
        for place, position in seen.offsets.items():
            if seen.outcome == "committed" and position.offset > 2:
                again = Committed(position.offset - 1, f"1;0;;{position.offset};")
                spoilt = copied(history)
                offsets = {**seen.offsets, place: again}
                spoilt.transactions[seen.id] = replace(seen, offsets=offsets)
                return spoilt
    raise NotHere


def way_not_taken(history):
    """A gate's row says that no way was taken, and the event is there."""
    record, row = first(
        (r, row) for r, row in rows(history, by="keeper")
        if row.status == "SUCCESS" and row.taken and "~" not in part(r)
        and is_sent(history, r, row)
    )  # fmt: skip
    spoilt = copied(history)
    spoilt.records[place_of(spoilt, record)] = replace(record, value=encode(replace(row, taken=())))
    return spoilt


def deadline_moves(history):
    """A restart began the wait anew: the deadline of a hold is another one than it was."""
    record, row = first(
        (r, row) for r, row in rows(history, by="keeper")
        if row.wait is not None and row.wait.kind == "gate" and row.wait.due
    )  # fmt: skip
    later = replace(row, n=row.n + 1, wait=replace(row.wait, due=row.wait.due + 1_000))
    return inserted_after(history, record, replace(record, value=encode(later)))


def deadline_too_early(history):
    """A gate's deadline counts from a second before the arrival."""
    spoilt = copied(history)
    found = False
    for record, row in rows(history, by="keeper"):
        if row.wait is not None and row.wait.kind == "gate" and row.wait.due:
            early = replace(row, wait=replace(row.wait, due=row.wait.due - 1_000))
            spoilt.records[place_of(spoilt, record)] = replace(record, value=encode(early))
            found = True
    if not found:
        raise NotHere
    return spoilt


def deadline_of_a_wrong_clock(history):
    """A gate's deadline was set by a clock that is a day ahead."""
    record, row = first(
        (r, row) for r, row in rows(history, by="keeper") if row.wait is not None and row.wait.due
        and row.wait.kind == "gate"
    )  # fmt: skip
    day = 24 * 3_600_000
    wait = replace(row.wait, since=row.wait.since + day, due=row.wait.due + day)
    spoilt = copied(history)
    spoilt.records[place_of(spoilt, record)] = replace(
        record, value=encode(replace(row, wait=wait))
    )
    return spoilt


def parked_by_a_wrong_clock(history):
    """A delivery is to come back at a time that a clock a day ahead has reckoned."""
    day = 24 * 3_600_000
    record, row = first(
        (r, row) for r, row in rows(history, by="keeper")
        if part(r).endswith("~") and row.wait is not None
    )  # fmt: skip
    spoilt = copied(history)
    wait = replace(row.wait, due=row.wait.due + day)
    spoilt.records[place_of(spoilt, record)] = replace(
        record, value=encode(replace(row, wait=wait))
    )
    return spoilt


def too_many_attempts(history):
    """A stage was tried more often than its policy allows."""
    spoilt = copied(history)
    for name, policy in history.policies.items():
        spoilt.policies = {**history.policies, name: replace(policy, max_attempts=0)}
        return spoilt
    raise NotHere


def comes_back_early(history):
    """A parked delivery is sent on before it is due."""
    spoilt = copied(history)
    for record, row in rows(history, by="keeper"):
        if part(record).endswith("~") and row.wait is not None and row.wait.due:
            gone = first(
                r for r in history.records
                if r.place == record.place and r.key == record.key and r.offset > record.offset
            )  # fmt: skip
            at = place_of(spoilt, gone)
            spoilt.records[at] = replace(gone, timestamp=row.wait.due - 1_000)
            return spoilt
    raise NotHere


def wrong_writer(history):
    """A keeper writes a stage's row."""
    record, _ = first(rows(history, by="pool-"))
    spoilt = copied(history)
    seen = history.transactions[record.transaction]
    keeper = f"{history.naming.keeper_group}.k"
    member = Membership(history.naming.keeper_group, "k", seen.generation)
    spoilt.transactions[seen.id] = replace(seen, producer=keeper, membership=member)
    return spoilt


def illegal_change(history):
    """A job that has ended runs again in the same epoch."""
    record, row = first(
        (r, row) for r, row in rows(history, job=True) if row.ended and newest(history, r) is r
    )
    return with_copies(history, record, value=encode(replace(row, status="RUNNING", n=row.n + 1)))


BEYOND = {
    accepted_and_gone: "C1",
    failed_and_there: "C1",
    drop_a_dead_letter: "C1",
    never_picked_up: "C1",
    purged_too_early: "C1",
    another_id: "C2",
    parent_aborted: "C3",
    called_out_of_turn: "C4",
    live_table_lacks_a_row: "C5",
    gap_in_a_reader: "C6",
    read_twice: "C6",
    zombie_commits: "C7",
    without_membership: "C7",
    finished_comes_back: "C7",
    way_not_taken: "C8",
    deadline_moves: "C8",
    deadline_too_early: "C8",
    deadline_of_a_wrong_clock: "C8",
    parked_by_a_wrong_clock: "C9",
    too_many_attempts: "C9",
    comes_back_early: "C9",
    wrong_writer: "rows",
    illegal_change: "rows",
}


# -- finding and changing -----------------------------------------------------------------------


def first(found):
    for one in found:
        return one
    raise NotHere


def headers(record):
    return {name: (raw or b"").decode() for name, raw in laid_open(record)[0].items()}


def rewritten(record, **members):
    """The value of a structured event with other members."""
    return msgspec.json.encode(msgspec.json.decode(record.value) | members)


def part(record):
    return Address.of(record.key).part


def is_committed(history, record):
    seen = history.transactions.get(record.transaction)
    return not record.transaction or seen.outcome == "committed"


def in_topic(history, topic):
    return (r for r in history.records if r.place.topic == topic and is_committed(history, r))


def deliveries(history):
    """Committed events in stages' topics."""
    return (
        r for r in history.records
        if is_committed(history, r) and headers(r).get("ce_type") == INPUT
        and r.place.topic not in (history.naming.hold, history.naming.dead)
    )  # fmt: skip


def rows(history, *, by="", job=False):
    """(record, row) of committed rows of parts, or of jobs, whose producer's name has that."""
    for record in in_topic(history, history.naming.ledger):
        if record.value is None or (part(record) == "@job") != job:
            continue
        if not job and part(record).startswith("@"):
            continue
        if by in history.transactions[record.transaction].producer:
            yield record, decode(part(record), record.value)


def timed_out(history, *, gates=False):
    """(record, row, due) of holds that ended by time."""
    dues = {}
    for record, row in rows(history, by="keeper"):
        if row.wait is not None and row.wait.kind in ("gate", "sleep"):
            dues[record.key] = row.wait.due
        elif record.key in dues and dues[record.key] is not None:
            timed = row.reason == "timed out" or (row.err is not None and row.err.code == "G001")
            if timed or (not gates and part(record) == "nap" and not row.reason):
                yield record, row, dues[record.key]


def newest(history, record):
    return [r for r in in_topic(history, history.naming.ledger) if r.key == record.key][-1]


def is_sent(history, record, row):
    """Whether the way that a gate took is told by an event in its own transaction."""
    gate = {p.path for plan in history.plans for p in plan.parts if p.gate is not None}
    if part(record) not in gate:
        return False
    return any(
        r.transaction == record.transaction
        and headers(r).get("ce_source", "").endswith(f"/stages/{part(record)}")
        and headers(r).get("ce_part") in row.taken
        for r in history.records
    )


def place_of(history, record):
    return next(at for at, other in enumerate(history.records) if other is record)


def without(history, record):
    spoilt = copied(history)
    del spoilt.records[place_of(spoilt, record)]
    return spoilt


def with_transaction(history, *, like, offsets=None):
    """A copy with one more committed transaction at the end of the run, of the same producer."""
    spoilt = copied(history)
    id = max(spoilt.transactions) + 1
    seen = spoilt.transactions[like]
    # It commits where its group stands at the end: nothing is finished by it.
    last = {}
    for other in spoilt.transactions.values():
        if other.outcome == "committed" and other.membership and seen.membership:
            if other.membership.group == seen.membership.group:
                last |= other.offsets
    same = {place: last[place] for place in seen.offsets} if offsets is None else offsets
    spoilt.transactions[id] = TransactionSeen(
        id=id, producer=seen.producer, outcome="committed", offsets=same, before=dict(same),
        membership=seen.membership, generation=seen.generation,
        began=history.ended, ended=history.ended,
    )  # fmt: skip
    return spoilt, id


def with_copies(history, record, **changes):
    """One more record like this one (but for the changes), in a transaction of its own."""
    spoilt, id = with_transaction(history, like=record.transaction)
    end = max(r.offset for r in spoilt.records if r.place == record.place)
    again = replace(record, offset=end + 1, timestamp=history.ended, transaction=id, **changes)
    assert isinstance(again, Appended)
    spoilt.records.append(again)
    return spoilt


def inserted_after(history, record, another):
    """A record more in the same transaction, at an offset that the log left out."""
    spoilt = copied(history)
    end = max(
        r.offset for r in spoilt.records
        if r.place == record.place and r.transaction == record.transaction
    )  # fmt: skip
    spoilt.records.insert(place_of(spoilt, record) + 1, replace(another, offset=end + 1))
    return spoilt
