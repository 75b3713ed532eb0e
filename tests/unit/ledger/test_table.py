"""One partition of the ledger as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.rows import Address, FactRow, JobRow, Order, Row, decode_row, encode, head
from streams.ledger.cold import ColdStore, Stand, Unwritable
from streams.ledger.table import LedgerTable


def row(turn=1, phase=2, status="SUCCESS", n=0):
    return encode(Row(status, turn=turn, phase=phase, n=n))


def key(part="a", scope="j"):
    return Address(scope, part).key


def test_a_row_counts_if_it_is_newer_than_what_stands_there():
    """Never falling per row."""
    table = LedgerTable()
    assert table.read(key(), row(turn=2), 0) == Address("j", "a")
    assert table.read(key(), row(turn=1), 1) is None
    assert table.read(key(), row(turn=2), 2) is None
    assert table.read(key(), row(turn=2, n=1), 3) == Address("j", "a")
    assert decode_row(table.rows("j")["a"]).n == 1
    assert table.position == 4


def test_facts_and_jobs_are_ordered_like_all_rows():
    """Their heads have a full order, too."""
    table = LedgerTable()
    table.read(key("@fact/x"), encode(FactRow(1, n=2)), 0)
    assert table.read(key("@fact/x"), encode(FactRow(0, n=1)), 1) is None
    table.read(key("@job"), encode(JobRow("SUCCESS", n=1)), 2)
    assert table.read(key("@job"), encode(JobRow("RUNNING", phase=1, n=0)), 3) is None
    assert table.read(key("@job"), encode(JobRow("RUNNING", phase=1, epoch=2)), 4) is not None


def test_an_own_row_read_back_is_no_news():
    """The owner applied it when it was committed."""
    seen = []
    table = LedgerTable(lambda *change: seen.append(change[:2]))
    table.committed("j", "a", row())
    assert table.read(key(), row(), 0) is None
    assert seen == [("j", "a")]
    assert table.read(key(), row(turn=2), 1) == Address("j", "a")


def test_an_older_row_behind_an_own_tombstone_does_not_rise_again():
    """K2: until the tombstone itself has been read back."""
    table = LedgerTable()
    table.committed("j", "a", row())
    table.committed("j", "a", None)
    assert table.rows("j") == {}
    assert table.read(key(), row(), 0) is None
    assert table.read(key(), None, 1) is None
    assert table.rows("j") == {}
    assert len(table) == 0


def test_a_tombstone_of_another_deletes():
    """Purge writes another's key."""
    table = LedgerTable()
    table.read(key(), row(), 0)
    assert table.read(key(), None, 1) == Address("j", "a")
    assert table.read(key(), None, 2) is None
    assert list(table.scopes()) == []


def test_changes_are_told_with_what_was_there_before():
    """Indexes are kept up by them."""
    seen = []
    table = LedgerTable(lambda *change: seen.append(change))
    one, two = row(1), row(2)
    table.read(key(), one, 0)
    table.read(key(), two, 1)
    table.read(key(), None, 2)
    assert seen == [("j", "a", None, one), ("j", "a", one, two), ("j", "a", two, None)]


def everything(table):
    return {scope: dict(table.rows(scope)) for scope in table.scopes()}


def put_away_all(table):
    while scopes := table.oldest(2):
        table.put_away(dict.fromkeys(scopes))


RECORDS = st.lists(
    st.tuples(st.sampled_from(("a", "b", "@job")), st.none() | st.integers(1, 9), st.booleans()),
    max_size=60,
)


@given(records=RECORDS, lag=st.integers(0, 20), cut=st.integers(0, 60), away=st.integers(0, 60))
def test_owner_reader_and_copy_come_to_the_same_table(records, lag, cut, away):
    """Own rows applied at the commit and read back later; out of the memory at any point; and
    restored from any point, with a copy that was written on after it."""
    ledger, read, versions = [], 0, {}
    cold = ColdStore(Stand(0, "", "", 0))
    owner = LedgerTable(cold=cold)
    for part, drawn, own in records:
        # One writer a row: here the owner writes j's rows and purges them, others write k's.
        scope, turn = "j" if own else "k", drawn
        if own and turn is not None:  # it never goes back behind what it wrote
            turn = versions[part] = max(turn, versions.get(part, 0) + 1)
        if turn is None and not own:
            continue
        data = row(turn) if turn is not None else None
        ledger.append((Address(scope, part).key, data))
        if own:
            owner.committed(scope, part, data)
        while read < len(ledger) - lag:
            owner.read(*ledger[read], read)
            read += 1
        if len(ledger) == cut:
            owner.copy(owner.dirty(), position=owner.position, taken=1)
        if len(ledger) >= away:
            put_away_all(owner)
    reader = LedgerTable()
    for offset, record in enumerate(ledger):
        reader.read(*record, offset)

    # The owner is gone without a word; what it had put away since the copy is in there, too.
    restored = LedgerTable(cold=cold)
    assert len(restored) == cold.stand.rows
    for offset in range(cold.stand.position, len(ledger)):
        restored.read(*ledger[offset], offset)
    assert everything(restored) == everything(reader)
    assert len(restored) == len(reader)

    cold = ColdStore(Stand(0, "", "", 0))
    owner = LedgerTable(cold=cold)
    for offset, record in enumerate(ledger):
        owner.read(*record, offset)
        if offset >= away:
            put_away_all(owner)
    assert everything(owner) == everything(reader)
    assert len(owner) == len(reader)


# -- out of the memory ----------------------------------------------------------------------


def test_a_scope_that_was_put_away_takes_no_memory_and_is_there_when_asked_for():
    """Ended jobs can be asked for until they are purged."""
    table = LedgerTable()
    table.read(key("@job"), encode(JobRow("SUCCESS")), 0)
    table.read(key("a"), row(), 1)
    table.put_away({"j": 77})
    assert (table.rows_at_hand, table.bytes_at_hand, len(table)) == (0, 0, 2)
    assert list(table.scopes()) == ["j"]
    assert table.has("j")
    assert table.next_due() == 77
    assert dict(table.rows("j")) == {"@job": encode(JobRow("SUCCESS")), "a": row()}
    assert table.rows_at_hand == 2


def test_nobody_hears_of_a_scope_that_comes_back_from_the_cold():
    """Nothing about it has changed; what waits in it stayed in the indexes."""
    seen = []
    table = LedgerTable(lambda *change: seen.append(change))
    table.read(key(), row(1), 0)
    table.put_away({"j": None})
    table.rows("j")
    table.put_away({"j": None})
    table.read(key(), row(2), 1)
    assert seen == [("j", "a", None, row(1)), ("j", "a", row(1), row(2))]


def test_a_row_older_than_one_in_the_cold_is_no_news():
    """Order counts wherever the row lies."""
    table = LedgerTable()
    table.read(key(), row(2), 0)
    table.put_away({"j": None})
    assert table.read(key(), row(1), 1) is None
    assert table.read(key(), row(3), 2) == Address("j", "a")


def test_a_purged_scope_is_gone_from_the_cold_too():
    """And may come again under the same name."""
    table = LedgerTable()
    table.read(key(), row(), 0)
    table.put_away({"j": None})
    table.committed("j", "a", None)
    assert (dict(table.rows("j")), table.has("j"), list(table.scopes())) == ({}, False, [])
    assert table.gone == 1
    table.copy(())
    assert (table.gone, dict(table.rows("j")), len(table)) == (0, {}, 0)
    table.committed("j", "a", row(9))
    table.put_away({"j": None})
    assert dict(table.rows("j")) == {"a": row(9)}


def test_a_purged_scope_that_comes_again_at_once_replaces_its_copy():
    """No two copies of one scope."""
    table = LedgerTable()
    table.read(key(), row(), 0)
    table.put_away({"j": None})
    table.committed("j", "a", None)
    table.committed("j", "b", row())
    table.put_away({"j": None})
    assert list(table.scopes()) == ["j"]
    assert dict(table.rows("j")) == {"b": row()}


def test_ended_scopes_come_up_when_they_are_due():
    """Retention without an object in memory for each job."""
    table = LedgerTable()
    for n in range(3):
        table.read(key("@job", f"j{n}"), encode(JobRow("SUCCESS")), n)
    table.put_away({"j0": 30, "j1": 10, "j2": 20})
    assert table.pop_due(25, 1) == ["j1"]
    assert table.next_due() == 20
    assert table.pop_due(25, 9) == ["j2"]
    assert table.pop_due(25, 9) == []
    assert table.next_due() == 30


def test_a_due_scope_that_is_purged_leaves_a_copy_that_is_whole():
    """The header's sum follows every change: here the time goes first, then the row."""
    cold = ColdStore(Stand(0, "", "", 0))
    table = LedgerTable(cold=cold)
    table.read(key("@job"), encode(JobRow("SUCCESS")), 0)
    table.put_away({"j": 10})
    table.rows("j")
    assert table.pop_due(10, 1) == ["j"]
    table.committed("j", "@job", None)
    table.copy(())
    assert (cold.stand.total, cold.stand.scopes, cold.stand.rows) == (0, 0, 0)


def test_what_was_touched_last_leaves_last():
    """The others are waiting for something."""
    table = LedgerTable()
    for n, scope in enumerate(("a", "b", "c", "a")):
        table.read(key(scope=scope), row(turn=n + 1), n)
    assert table.oldest(2) == ["b", "c"]


def test_a_new_owner_looks_at_all_jobs_that_have_not_ended_wherever_they_lie():
    """K1.4."""
    table = LedgerTable()
    for scope, status in (("over", "SUCCESS"), ("open", "RUNNING"), ("hot", "RUNNING")):
        table.read(key("@job", scope), encode(JobRow(status)), 0)
    table.read(key("a", "orphan"), row(), 0)
    table.put_away({"over": 5, "open": None, "orphan": None})
    assert list(table.unsettled()) == [("hot", True), ("open", True), ("orphan", False)]


def test_a_store_that_cannot_be_written_costs_memory_only():
    """A full disk."""
    cold = ColdStore(Stand(0, "", "", 0))
    table = LedgerTable(cold=cold)
    table.read(key(), row(1), 0)
    table.put_away({"j": None})
    table.read(key(), row(2), 1)
    cold._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(Unwritable):
        table.put_away({"j": None})
    assert table.rows_at_hand == 1
    assert dict(table.rows("j")) == {"a": row(2)}
    cold._connection.execute("PRAGMA query_only = 0")
    table.put_away({"j": None})
    assert dict(table.rows("j")) == {"a": row(2)}


def test_heads_are_enough():
    """Rows are decoded where they are looked at, not in the table."""
    assert head(b'\x00{"s":"RUNNING","ph":1,"wait":"nonsense"}').order == Order(1, 1, 1)


def test_what_a_stranger_wrote_is_counted_and_passed_over():
    """Broken records never stop a partition; a tombstone for nothing changes nothing."""
    table = LedgerTable()
    table.read(key(), row(), 0)
    assert table.read(key(), b"hello", 1) is None
    assert table.read(b"\xff\xfe", b"{}", 2) is None
    assert table.read(b"\xff\xfe", None, 3) is None
    assert table.strange == 2
    assert table.position == 4
    assert dict(table.rows("j")) == {"a": row()}
