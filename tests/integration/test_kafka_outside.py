"""A pipeline among programs that know Kafka and nothing else: who feeds it, who reads it.

Two processes of agents and the keeper, which reads the sources, in a third.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from streams.event import submission_job_id
from tests.docs.pages import ROOT, blocks
from tests.integration.outside import Stranger, binary, rows_of, site_on, structured

pytestmark = pytest.mark.processes

TWO = """
stages:
  - {id: a, type: work}
  - {id: b, type: work, depends_on: [a]}
"""


@pytest.fixture
async def site(tmp_path, kafka):
    async with site_on(kafka, tmp_path) as made:
        yield made


@pytest.fixture
def stranger(kafka):
    made = Stranger(kafka)
    yield made
    made.close()


def source(topic, **more):
    """A topology that reads a topic of somebody else."""
    declared = json.dumps({"topic": topic, **more})
    return f"source: {declared}\n" + TWO


async def ids_done(site, count, *, timeout=60):
    """Ids of the jobs that have ended, once there are so many."""

    async def enough():
        done = await site.done_events()
        return done if len(done) >= count else None

    try:
        return await site.until(enough, timeout=timeout)
    except TimeoutError:
        raise AssertionError(f"{len(await site.done_events())} of {count}\n{site.logs()}") from None


async def test_whoever_speaks_kafka_may_submit_and_read_what_came_of_it(site, stranger):
    """Both modes, any key or none, CRC32 instead of murmur2; `done` and the ledger are read by a
    plain consumer (design §2: anybody may consume them)."""
    site.pipeline("p", TWO)
    site.start_all()
    names = (await site.info()).naming
    sent = []
    for n in range(60):
        id = f"e{n}"
        if n % 2:
            value, headers = structured(id, {"n": n})
        else:
            value, headers = json.dumps({"n": n}).encode(), binary(id)
        stranger.send(names.intake, value, key=None if n % 5 == 0 else f"k{n}", headers=headers)
        sent.append(submission_job_id("/stranger", id))
    stranger.flush()

    assert sorted(await ids_done(site, 60)) == sorted(sent)

    done = [json.loads(message.value()) for message in stranger.read(names.done)]
    assert Counter(each["status"] for each in done) == {"succeeded": 60}
    rows = rows_of(stranger.read(names.ledger))
    assert {rows[f"{job}|@job"]["s"] for job in sent} == {"SUCCESS"}
    assert rows[f"{sent[3]}|b"]["out"]["given"] == {"from": "a", "given": {"n": 3}}


async def test_a_topic_of_others_is_read_exactly_once_though_readers_are_killed(site, stranger):
    """Issue 5, item 4: offsets committed like any other, in the transaction of what they caused."""
    topic = stranger.topic(3)
    site.pipeline("p", source(topic, format="json", id="${{ 'order-' + str(data.id) }}"))
    for n in range(300):
        stranger.send(topic, json.dumps({"id": n}), key=str(n))
    stranger.flush()
    site.start("agents-1", "--agents")
    site.start("agents-2", "--agents")
    site.start("keeper-1", "--keeper")
    names = (await site.info()).naming

    async def under_way():
        return len(await site.keys(names.intake)) > 0

    await site.until(under_way)
    site.kill("keeper-1")
    site.start("keeper-2", "--keeper")
    for n in range(300, 600):
        stranger.send(topic, json.dumps({"id": n}), key=str(n))
    stranger.flush()

    expected = sorted(f"order-{n}" for n in range(600))
    assert sorted(await ids_done(site, 600)) == expected
    assert sorted(await site.keys(names.intake)) == expected


async def test_the_start_counts_once_and_what_came_while_nobody_read_is_not_skipped(site, stranger):
    """R5: never a silent fall back to the end."""
    topic = stranger.topic(2)
    stranger.send(topic, b'{"id": "before"}', partition=0)
    stranger.flush()
    site.pipeline("p", source(topic, format="json", id="${{ data.id }}", start="latest"))
    site.start("both", "--agents", "--keeper")

    async def begun():
        return len(site.said("source.begins")) == 2

    await site.until(begun)
    stranger.send(topic, b'{"id": "first"}', partition=0)
    stranger.flush()
    assert await ids_done(site, 1) == ["first"]
    assert site.stop("both") == 0
    for partition in (0, 1):
        value = json.dumps({"id": f"meanwhile-{partition}"})
        stranger.send(topic, value, partition=partition)
    stranger.flush()
    site.start("both", "--agents", "--keeper")

    assert sorted(await ids_done(site, 3)) == ["first", "meanwhile-0", "meanwhile-1"]
    assert len(site.said("source.begins")) == 2


async def test_a_source_that_is_not_there_is_said_at_the_start(site):
    """A misspelt topic would be an empty one for ever."""
    site.pipeline("p", source("foreign.nobody-has-this"))
    site.start("both", "--agents", "--keeper")

    assert site.processes["both"].wait(timeout=30) != 0
    told = (site.folder / "both.log").read_text()
    assert "foreign.nobody-has-this" in told
    assert "K090" in told or "which is not there" in told


async def test_the_programs_of_the_page_do_what_it_says(site, stranger, kafka):
    """docs/outside.md is what somebody copies who does not read Python packages."""
    page = ROOT / "docs" / "outside.md"
    programs = {}
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), programs)
    site.pipeline("p", TWO)
    site.start("both", "--agents", "--keeper")
    names = (await site.info()).naming
    orders = [{"id": f"o{n}", "customer": "Ada", "n": n} for n in range(5)]
    await asyncio.to_thread(programs["publish_orders"], kafka, names.intake, orders)
    expected = sorted(submission_job_id("/shop/checkout", order["id"]) for order in orders)
    assert sorted(await ids_done(site, 5)) == expected

    ended = programs["jobs_done"](kafka, names.done, f"{names.prefix}.stranger")
    found = await asyncio.to_thread(lambda: [next(ended) for _ in orders])
    await asyncio.to_thread(ended.close)
    assert sorted(each["job"] for each in found) == expected
    assert {each["status"] for each in found} == {"succeeded"}

    rows = {}
    for message in stranger.read(names.ledger):
        programs["fold"](rows, message.key(), message.value())
    assert {rows[f"{job}|@job"]["s"] for job in expected} == {"SUCCESS"}
