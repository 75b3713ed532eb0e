"""Workers of one pipeline use one blob store (design.md §11)."""

import pytest

from streams.blobs import BlobStore
from streams.broker.local import LocalLog
from streams.clock import ManualClock
from streams.errors import LogError
from streams.runtime.blob_home import about_store, require_same_store
from streams.runtime.setup import apply
from streams.topology.plan import Naming, Part, Plan
from tests.unit.runtime.clusters import clustered

NAMING = Naming("ns", "p")
PLAN = Plan("p", "1", (Part("a", "stage", "t"),))


@pytest.fixture
def clock():
    return ManualClock(0)


async def applied(log, clock):
    await apply(log, NAMING, PLAN, clock, 2)
    return log


async def test_the_folder_of_another_host_is_refused(tmp_path, clock):
    """References to data that stand elsewhere would lead nowhere."""
    log = await applied(clustered(clock), clock)
    one, other = BlobStore((tmp_path / "one").as_uri()), BlobStore((tmp_path / "other").as_uri())
    await require_same_store(log, NAMING, one, clock)
    await require_same_store(log, NAMING, one, clock)

    with pytest.raises(LogError, match="is not the folder that the other workers of p use") as no:
        await require_same_store(log, NAMING, other, clock)

    assert no.value.code == "K088"
    await log.close()


async def test_a_folder_is_told_before_anybody_starts(tmp_path, clock):
    """By `plan`, which does not know how many hosts there will be."""
    log = clustered(clock)
    (finding,) = about_store(log, BlobStore(tmp_path.as_uri()))
    assert (finding.code, finding.severity) == ("K088", "warning")
    assert about_store(log, BlobStore("s3://bucket/x")) == []
    await log.close()


async def test_after_an_apply_the_next_workers_folder_counts(tmp_path, clock):
    """The way out when a host with the old folder is gone for good."""
    log = await applied(clustered(clock), clock)
    other = BlobStore((tmp_path / "other").as_uri())
    await require_same_store(log, NAMING, BlobStore((tmp_path / "one").as_uri()), clock)
    await apply(log, NAMING, PLAN, clock, 2)

    await require_same_store(log, NAMING, other, clock)

    await log.close()


@pytest.mark.parametrize("made", [lambda c: LocalLog.open(None, clock=c), None])
async def test_on_one_machine_there_is_nothing_to_prove(tmp_path, clock, made):
    """Nothing is written: neither to an embedded log nor for brokers on loopback."""
    log = made(clock) if made else clustered(clock, "127.0.0.1:9092")
    await applied(log, clock)
    for name in ("one", "other"):
        await require_same_store(log, NAMING, BlobStore((tmp_path / name).as_uri()), clock)
    assert not list(tmp_path.iterdir())
    await log.close()
