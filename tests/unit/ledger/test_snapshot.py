"""A snapshot is trusted only if everything about it fits."""

import msgspec
import pytest

from streams.ledger import snapshot

TAKEN = snapshot.Snapshot(
    snapshot.FORMAT, "layout-1", "n.p.ledger", 3, 100, 5_000, {"j": {"a": b"\x00{}"}}
)


def read(folder, **changes):
    wanted = {
        "layout": "layout-1", "topic": "n.p.ledger", "partition": 3, "end": 100, "now": 6_000,
        "max_age": 1_000,
    }  # fmt: skip
    return snapshot.read(folder, **{**wanted, **changes})


def test_a_snapshot_is_read_back_whole(tmp_path):
    """With the position it was taken at."""
    snapshot.write(tmp_path, TAKEN)
    assert read(tmp_path) == TAKEN
    assert [path.name for path in tmp_path.iterdir()] == ["n.p.ledger-3.snapshot"]


def test_the_newer_one_replaces_the_older(tmp_path):
    """Whole or the old one, never a mixture."""
    snapshot.write(tmp_path, TAKEN)
    newer = msgspec.structs.replace(TAKEN, position=90)
    snapshot.write(tmp_path, newer)
    assert read(tmp_path) == newer


@pytest.mark.parametrize(
    "changes",
    [{"layout": "layout-2"}, {"end": 99}, {"now": 6_001}, {"now": 4_999}, {"partition": 4},
     {"topic": "other"}],
    ids=str,
)  # fmt: skip
def test_a_snapshot_that_does_not_fit_is_ignored(tmp_path, changes):
    """Another log, a log that was cut, too old, from the future, another partition."""
    snapshot.write(tmp_path, TAKEN)
    assert read(tmp_path, **changes) is None


def test_a_snapshot_under_anothers_name_is_ignored(tmp_path):
    """What is inside counts."""
    snapshot.write(tmp_path, TAKEN)
    (tmp_path / "n.p.ledger-3.snapshot").rename(tmp_path / "n.p.ledger-4.snapshot")
    assert read(tmp_path, partition=4) is None


@pytest.mark.parametrize("cut", [0, 10, 32, 33, -1])
def test_a_cut_file_is_ignored(tmp_path, cut):
    """A disk that filled up."""
    snapshot.write(tmp_path, TAKEN)
    path = snapshot.path_of(tmp_path, "n.p.ledger", 3)
    path.write_bytes(path.read_bytes()[:cut])
    assert read(tmp_path) is None


def test_a_flipped_bit_is_seen(tmp_path):
    """Checksum."""
    snapshot.write(tmp_path, TAKEN)
    path = snapshot.path_of(tmp_path, "n.p.ledger", 3)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert read(tmp_path) is None


def test_no_file_is_no_snapshot(tmp_path):
    """A first start."""
    assert read(tmp_path) is None


def test_a_file_of_another_format_is_ignored(tmp_path):
    """An older worker's."""
    snapshot.write(tmp_path, msgspec.structs.replace(TAKEN, format=snapshot.FORMAT + 1))
    assert read(tmp_path) is None
