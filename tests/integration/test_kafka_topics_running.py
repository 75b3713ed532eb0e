"""Somebody changes the topics of a pipeline while it runs (reliability.md rows 25 and 27).

Two processes of agents and the keeper in a third, on a broker that makes topics by itself.
"""

import time
import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.processes.site import Site

LIMIT = 30.0
PIPELINE = "stages:\n  - {name: work, type: work}\n  - {name: brief, type: brief}\n"

pytestmark = pytest.mark.processes


@pytest.fixture
def admin(secured):
    return AdminClient({"bootstrap.servers": secured.plain})


@pytest.fixture
async def site(tmp_path, secured):
    """A namespace of its own."""
    namespace = f"site-{uuid.uuid4().hex[:8]}"
    made = Site(tmp_path, f"namespace: {namespace}\nkafka: {{bootstrap: '{secured.plain}'}}\n")
    made.pipeline("p", PIPELINE)
    yield made
    await made.close()


@pytest.mark.parametrize("name", ["work", "hold", "done"])
async def test_a_deleted_topic_stops_every_process_and_is_never_made_anew(site, admin, name):
    """Row 25: one that is read by agents, one that is read by keepers, one that is only written;
    within 30 s, with its name and the next step."""
    site.start_all()
    await site.settled(2)
    await site.submit("before")
    await site.until_job("before", "succeeded")
    topic = f"{site.naming().prefix}.{name}"

    admin.delete_topics([topic])[topic].result(LIMIT)
    began = time.monotonic()

    async def all_ended():
        return all(process.poll() is not None for process in site.processes.values())

    await site.until(all_ended, timeout=60)
    assert time.monotonic() - began <= LIMIT
    failures = site.said("worker.failed")
    assert len(failures) == 3
    assert {topic in line["error"] for line in failures} == {True}
    assert {line["code"] for line in failures} <= {"K014", "K087"}
    assert topic not in admin.list_topics(timeout=LIMIT).topics


async def test_added_partitions_are_seen_and_stay_unused(site, admin, secured):
    """Row 27: what foreign producers write there is read and handed on; every row of a job stays in
    its partition; a worker that starts then does not mind."""
    site.start_all()
    await site.settled(2)
    prefix = site.naming().prefix
    topics = [f"{prefix}.{name}" for name in ("intake", "hold", "ledger", "work", "brief")]
    for future in admin.create_partitions([NewPartitions(name, 6) for name in topics]).values():
        future.result(LIMIT)
    began = time.monotonic()

    async def told():
        lines = site.said("topics.partitions_added", code="K086")
        return {(line["worker"], line["topic"]) for line in lines}

    everybody = {(worker, topic) for worker in site.processes for topic in topics}
    assert await site.until(lambda: _equal(told, everybody), timeout=60)
    producer = Producer({"bootstrap.servers": secured.plain})
    for partition in range(6):
        _submit(producer, f"{prefix}.intake", f"foreign-{partition}", partition)
    assert producer.flush(LIMIT) == 0
    jobs = [f"foreign-{partition}" for partition in range(6)]
    await site.until_ended(jobs, timeout=60)
    assert time.monotonic() - began <= 90
    assert sorted(site.side_effects("work")) == jobs
    async with site.reading(f"{prefix}.ledger") as seen:
        assert {record.partition for record in await seen()} <= {0, 1, 2, 3}

    site.start("late", "--agents", "--keeper")
    await site.until(lambda: _said(site, "worker.ready", "late"))
    assert all(process.poll() is None for process in site.processes.values()), site.logs()


def _submit(producer, topic, job, partition):
    """A CloudEvent as any program may write it."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": job,
        "ce_source": "/elsewhere",
        "ce_type": "com.example.document.added.v1",
        "ce_job": job,
        "content-type": "application/json",
    }
    producer.produce(topic, b"{}", partition=partition, headers=list(headers.items()))


async def _equal(look, wanted):
    return await look() == wanted


async def _said(site, event, worker):
    return site.said(event, worker=worker)
