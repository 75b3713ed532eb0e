"""One partition of the ledger as a table."""

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.rows import Address, FactRow, JobRow, Order, Row, decode_row, encode, head
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
    assert table.was_own
    assert seen == [("j", "a")]
    assert table.read(key(), row(turn=2), 1) == Address("j", "a")
    assert not table.was_own


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


def test_a_loaded_table_tells_of_every_row():
    """A snapshot builds the same indexes as reading does."""
    seen = []
    table = LedgerTable(lambda *change: seen.append(change))
    table.load({"j": {"a": row(), "b": row()}}, 17)
    assert (table.position, len(table), len(seen)) == (17, 2, 2)


RECORDS = st.lists(
    st.tuples(st.sampled_from(("a", "b")), st.none() | st.integers(1, 9), st.booleans()),
    max_size=60,
)


@given(records=RECORDS, lag=st.integers(0, 20), cut=st.integers(0, 60))
def test_owner_reader_and_snapshot_come_to_the_same_table(records, lag, cut):
    """Own rows applied at the commit and read back later; restored from any point."""
    ledger, read, versions = [], 0, {}
    owner, snapshot = LedgerTable(), ({}, 0)
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
            snapshot = ({s: dict(p) for s, p in owner.dump().items()}, owner.position)
    while read < len(ledger):
        owner.read(*ledger[read], read)
        read += 1
    reader, restored = LedgerTable(), LedgerTable()
    restored.load(*snapshot)
    for offset, record in enumerate(ledger):
        reader.read(*record, offset)
        if offset >= snapshot[1]:
            restored.read(*record, offset)

    assert owner.dump() == reader.dump() == restored.dump()
    assert len(owner) == len(reader) == len(restored)


def test_heads_are_enough():
    """Rows are decoded where they are looked at, not in the table."""
    assert head(b'\x00{"s":"RUNNING","ph":1,"wait":"nonsense"}').order == Order(1, 1, 1)
