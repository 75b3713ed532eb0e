"""A former owner's copy is trusted only if everything about it fits."""

import sqlite3

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.rows import Address, JobRow, Row, encode
from streams.errors import LogUnavailable
from streams.ledger import cold_file
from streams.ledger.cold import Damaged, sealed
from streams.ledger.table import LedgerTable

NAME = "n.p.ledger-3.snapshot"


def opened(folder, **changes):
    wanted = {
        "layout": "layout-1", "topic": "n.p.ledger", "partition": 3, "end": 100, "now": 6_000,
        "max_age": 1_000, **changes,
    }  # fmt: skip
    return cold_file.opened(folder, **wanted)


def rows(scope):
    return {"@job": encode(JobRow("SUCCESS", root=scope)), "a": encode(Row("SUCCESS"))}


def written(folder, scopes=("j", "k"), position=100):
    """A copy as a keeper leaves it."""
    cold = opened(folder, now=5_500)
    table = LedgerTable(cold=cold)
    for scope in scopes:
        for part, data in rows(scope).items():
            table.read(Address(scope, part).key, data, 7)
    table.put_away({scopes[0]: 9_000})
    table.copy(table.dirty(), position=position, taken=5_500)
    table.close()


def found(folder, **changes):
    """What a keeper gets: the position and everything in the table; None if it begins anew."""
    cold = opened(folder, **changes)
    table = LedgerTable(cold=cold)
    try:
        everything = {scope: dict(table.rows(scope)) for scope in table.scopes()}
        return (table.position, everything) if cold.stand.taken == 5_500 else None
    finally:
        table.close()


WHOLE = (100, {"j": rows("j"), "k": rows("k")})


def test_a_copy_is_read_back_whole(tmp_path):
    """With the position it was taken at, and nothing beside it on the disk."""
    written(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert found(tmp_path) == WHOLE
    assert found(tmp_path) == WHOLE


@pytest.mark.parametrize(
    "changes",
    [{"layout": "layout-2"}, {"end": 99}, {"now": 6_501}, {"now": 5_499}],
    ids=str,
)
def test_a_copy_that_does_not_fit_is_made_anew(tmp_path, changes):
    """F35: another log, a log that was cut, too old, from the future."""
    written(tmp_path)
    assert found(tmp_path, **changes) is None
    cold = opened(tmp_path)
    assert (cold.stand.position, cold.stand.scopes, cold.is_kept) == (0, 0, True)
    cold.close()


@pytest.mark.parametrize("changes", [{"partition": 4}, {"topic": "other"}], ids=str)
def test_a_copy_under_anothers_name_is_made_anew(tmp_path, changes):
    """F35: what is inside counts."""
    written(tmp_path)
    wanted = {"topic": "n.p.ledger", "partition": 3, **changes}
    (tmp_path / NAME).rename(cold_file.path_of(tmp_path, **wanted))
    assert found(tmp_path, **changes) is None


@pytest.mark.parametrize("cut", [0, 10, 100, 20_000, -1])
def test_a_cut_file_is_made_anew(tmp_path, cut):
    """F35: a disk that filled up."""
    written(tmp_path)
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:cut])
    assert found(tmp_path) is None


@pytest.fixture(scope="module")
def copy_of_42(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy")
    written(folder, ("j", "k", *(f"more-{n}" for n in range(40))))
    return (folder / NAME).read_bytes()


@settings(max_examples=80, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_changes_nothing(tmp_path_factory, copy_of_42, place, bit):
    """F35: the file has free room, too, and a flip there is none of ours."""
    path = tmp_path_factory.mktemp("flipped") / NAME
    data = bytearray(copy_of_42)
    used = [n for n, byte in enumerate(data) if byte]
    data[used[int(place * len(used))]] ^= 1 << bit
    path.write_bytes(bytes(data))
    try:
        seen = found(path.parent)
    except LogUnavailable:
        assert not path.exists()
        return
    if seen is not None:
        assert (seen[0], len(seen[1])) == (100, 42)
        assert all(parts == rows(scope) for scope, parts in seen[1].items())


def test_a_row_that_was_changed_lost_or_added_is_seen(tmp_path):
    """F35: each row has a digest, the header their sum."""
    for statement in (
        "UPDATE scopes SET data = x'80' WHERE id = 1",
        "UPDATE scopes SET kind = 1 WHERE id = 1",
        "UPDATE scopes SET due = due + 1 WHERE id = 1",
        "UPDATE scopes SET scope = 'x' WHERE id = 1",
        "UPDATE scopes SET key = key + 1 WHERE id = 1",
        "DELETE FROM scopes WHERE id = 2",
        "INSERT INTO scopes SELECT 9, key, scope, kind, due, sum, data FROM scopes WHERE id = 1",
        "DELETE FROM stand",
        "UPDATE stand SET data = x'80'",
        "CREATE TRIGGER t AFTER UPDATE ON scopes BEGIN SELECT 1; END",
    ):
        written(tmp_path)
        with sqlite3.connect(tmp_path / NAME) as file:
            file.execute(statement)
        file.close()
        assert found(tmp_path) is None, statement


def test_a_row_that_goes_bad_under_the_keeper_makes_it_begin_anew(tmp_path):
    """F35: no decision on it, and the file is not opened again."""
    written(tmp_path)
    cold = opened(tmp_path)
    cold._connection.execute("UPDATE scopes SET data = x'80' WHERE scope = 'j'")
    table = LedgerTable(cold=cold)
    with pytest.raises(Damaged):
        table.rows("j")
    table.close()
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_lies_is_made_anew_from_the_rows(tmp_path):
    """It was not read when the copy was checked."""
    written(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as file:
        file.execute("PRAGMA writable_schema = ON")
        schema = "SELECT rootpage FROM sqlite_schema WHERE name = 'scopes_by_key'"
        (page,) = file.execute(schema).fetchone()
    file.close()
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    start = (page - 1) * 16_384
    # Two entries, one byte of a hash in each.
    data[start + 16_384 - 3] ^= 0x55
    path.write_bytes(bytes(data))
    assert found(tmp_path) in (WHOLE, None)


def test_no_file_and_no_folder_are_no_copy(tmp_path):
    """A first start; a log in memory."""
    assert found(tmp_path / "new") is None
    cold = opened(None)
    assert not cold.is_kept
    assert cold.stand.position == 0


@pytest.mark.parametrize("junk", [b"", b"not a database, but long enough to be one" * 100])
def test_a_file_of_another_format_is_replaced(tmp_path, junk):
    """An older worker's snapshot, or nobody's."""
    (tmp_path / NAME).write_bytes(junk)
    assert found(tmp_path) is None
    written(tmp_path)
    assert found(tmp_path) == WHOLE


def test_a_copy_of_another_version_is_made_anew(tmp_path):
    """Workers of two versions on one host, one after the other."""
    written(tmp_path)
    with sqlite3.connect(tmp_path / NAME) as file:
        (data,) = file.execute("SELECT data FROM stand").fetchone()
        stand = msgspec.msgpack.decode(data, type=cold_file.Stand)
        newer = sealed(msgspec.structs.replace(stand, format=cold_file.FORMAT + 1))
        file.execute("INSERT OR REPLACE INTO stand VALUES (0, ?, ?)", newer)
    file.close()
    assert found(tmp_path) is None


def test_who_finds_the_file_in_use_works_without_it(tmp_path):
    """A keeper that hangs, and does not know yet that it lost its partition, keeps the lock: it
    cannot write into what its successor reads, nor the other way round."""
    written(tmp_path)
    former = opened(tmp_path)
    successor = opened(tmp_path)
    assert (former.is_kept, former.stand.position) == (True, 100)
    assert (successor.is_kept, successor.stand.position) == (False, 0)
    successor.close()
    former.close()
    assert found(tmp_path) == WHOLE


def test_a_process_that_dies_leaves_what_it_had_written(tmp_path):
    """kill -9 between two writes: the file beside the file belongs to it."""
    cold = opened(tmp_path, now=5_500)
    table = LedgerTable(cold=cold)
    for part, data in rows("j").items():
        table.read(Address("j", part).key, data, 7)
    table.copy(["j"], position=42, taken=5_500)
    for part, data in rows("k").items():
        table.read(Address("k", part).key, data, 50)
    table.put_away({"k": 9_000})
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(left) == 2
    dead = tmp_path / "dead"
    dead.mkdir()
    for name, data in left.items():
        (dead / name).write_bytes(data)
    table.close()
    assert found(dead) == (42, {"j": rows("j"), "k": rows("k")})


def test_a_copy_whose_folder_cannot_be_written_is_none(tmp_path):
    """Costs memory and a slow start, nothing else."""
    (tmp_path / "file").write_text("")
    cold = opened(tmp_path / "file" / "below")
    assert not cold.is_kept
    table = LedgerTable(cold=cold)
    table.read(Address("j", "a").key, rows("j")["a"], 0)
    table.put_away({"j": None})
    assert dict(table.rows("j")) == {"a": rows("j")["a"]}
