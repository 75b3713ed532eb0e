"""A pipeline's stages in a Faust app, on a real broker: two Faust processes, the keeper in a third.

Faust runs at least once; derived ids and the rows make that once in the eyes of the ledger.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from streams.broker.port import Outgoing
from tests.processes.site import Site

pytestmark = [pytest.mark.processes, pytest.mark.slow]

HERE = Path(__file__).parent
_numbers = itertools.count()

PIPELINE = """
gates: {review: {after: two, until: facts.reviewed}}
stages:
  - {name: one, type: work, pool: faust}
  - {name: two, type: brief, pool: faust}
  - {name: three, type: work, pool: faust}
"""


class FaustSite(Site):
    """A site whose stages run in processes of a Faust app."""

    def start_faust(self, name: str) -> None:
        command = [sys.executable, str(HERE / "faust_app.py"), str(self.folder), name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder
            )

    async def faust_ready(self, *names: str) -> None:
        """Each has its partitions, or was told that it has none."""

        async def ready() -> bool:
            said = [(self.folder / f"{name}.log").read_text() for name in names]
            return all("Worker ready" in each for each in said)

        await self.until(ready, timeout=40)

    def rows_in_table(self, *names: str) -> set[str]:
        """Keys that the processes' Faust tables hold now."""
        files = [self.folder / f"{name}.rows" for name in names]
        return {key for file in files if file.exists() for key in file.read_text().split()}


@pytest.fixture
async def site(tmp_path: Path, kafka: str) -> AsyncIterator[Any]:
    """A namespace of its own on the broker that all tests share."""
    made = FaustSite(
        tmp_path, f"namespace: faust-{next(_numbers)}\nkafka: {{bootstrap: '{kafka}'}}\n"
    )
    yield made
    await made.close()


async def test_stages_in_faust_and_a_gate_with_the_keeper_make_one_pipeline(site: Any) -> None:
    """The card's promise: agents of an existing app, everything else with `streams worker`."""
    site.pipeline("p", PIPELINE)
    site.start("keeper", "--keeper")
    await site.info()
    site.start_faust("faust-1")
    await site.faust_ready("faust-1")
    jobs = [f"j{n}" for n in range(20)]
    await site.submit(*jobs, data={"n": 1})
    await site.until_job("j0", "waiting")
    for job in jobs:
        await site.say(job, "fact", facts={"reviewed": True})
    views = await site.until_ended(jobs)

    assert {view.status for view in views.values()} == {"succeeded"}
    assert sorted(site.side_effects("one")) == sorted(jobs)
    assert sorted(site.side_effects("three")) == sorted(jobs)
    assert sorted(await site.done_events()) == sorted(jobs)

    async def table_has_all() -> bool:
        return {f"{job}|@job" for job in jobs} <= site.rows_in_table("faust-1")

    await site.until(table_has_all)
    assert {f"{job}|three" for job in jobs} <= site.rows_in_table("faust-1")


async def test_kill_9_of_a_faust_process_ends_every_job_once(site: Any) -> None:
    """Faust repeats what it had not committed; the ledger and the done topic show each job once."""
    site.pipeline("p", PIPELINE.partition("stages:")[1] + PIPELINE.partition("stages:")[2])
    site.start("keeper", "--keeper")
    await site.info()
    site.start_faust("faust-1")
    site.start_faust("faust-2")
    await site.faust_ready("faust-1", "faust-2")
    jobs = [f"j{n}" for n in range(200)]
    await site.submit(*jobs, data={"n": 1})

    async def under_way() -> bool:
        return len(site.side_effects("two")) >= 40

    await site.until(under_way)
    site.kill("faust-1")
    site.start_faust("faust-3")
    views = await site.until_ended(jobs, timeout=90)

    assert {view.status for view in views.values()} == {"succeeded"}
    assert Counter(await site.done_events()) == Counter(jobs)
    assert set(site.side_effects("three")) == set(jobs)
    assert await site.client.dead_letters("p") == []


async def test_what_was_rolled_back_is_not_run_and_what_is_no_event_is_buried(site: Any) -> None:
    """Faust reads uncommitted records by itself; a keeper that aborts would be believed."""
    site.pipeline("p", "stages:\n  - {name: one, type: broken-once, pool: faust}\n")
    site.start("keeper", "--keeper")
    await site.info()
    site.start_faust("faust-1")
    await site.faust_ready("faust-1")
    topic = site.naming().stage("one")
    rolled_back(site.settings.kafka.bootstrap, topic, b"never happened")
    await site.log.publish([Outgoing(topic, b"k", b"no event", (), 0)])
    await site.submit("a")
    failed = await site.until_job("a", "failed")
    letters = await site.client.dead_letters("p")

    assert failed.stages["one"].error.code == "S001"
    assert sorted(letter.job for letter in letters) == ["", "a"]

    (site.folder / "mended").touch()
    await site.say("a", "retry")
    await site.until_job("a", "succeeded")


def rolled_back(bootstrap: str, topic: str, value: bytes) -> None:
    """A record that lies in the topic and never counted."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}.aborted"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value, partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
