"""A folder with pipelines, and the processes that work on them: what an operator would have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from streams.blobs import BlobStore
from streams.broker.opening import open_log
from streams.broker.port import Record, TopicPartition
from streams.client import Client, Submission
from streams.clock import SystemClock
from streams.engine.messages import SignalData
from streams.engine.view import JobView
from streams.errors import LogUnavailable, NotFoundError
from streams.settings import Settings
from streams.topology.plan import Naming

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STAGES = ("site_stages:stages", "site_stages:greet")
ENDED = {"succeeded", "skipped", "failed", "cancelled"}


class Site:
    """Starts, kills and stops workers; submits, signals and looks through the client."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        """`settings` are lines of `streams.yaml`; without any the log is the embedded one."""
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / ".streams").mkdir()
        (folder / "site_stages.py").write_text((HERE / "user_stages.py").read_text())
        self.configure(settings)
        self.settings = Settings.load(cwd=folder)
        self.clock = SystemClock()
        self.log = open_log(self.settings, self.clock)
        self.blobs = BlobStore(self.settings.blobs)
        self.client = Client(self.log, self.settings.namespace, blobs=self.blobs)

    def configure(self, settings: str) -> None:
        """More lines of `streams.yaml`, for processes that start from now on."""
        with (self.folder / "streams.yaml").open("a") as file:
            file.write(settings)

    def naming(self, pipeline: str = "p") -> Naming:
        """What a pipeline's topics and groups are called here."""
        return Naming(self.settings.namespace, pipeline)

    def pipeline(self, name: str, text: str, brings: Sequence[str] = STAGES) -> None:
        """Writes a topology file."""
        brought = ", ".join(f"{{callable: '{each}'}}" for each in brings)
        head = f"pipeline: {name}\nplugins: {{stages: [{brought}]}}\n"
        (self.folder / f"{name}.pipeline.yaml").write_text(head + text)

    def start(self, name: str, *what: str) -> None:
        """A process with `--agents`, `--keeper`, or both; the worker has the same name."""
        words = [str(HERE / "worker.py"), str(self.folder), "--name", name, *what]
        self._spawn(name, words, {})

    def worker(self, name: str, *words: str, inside: str = ".", **environment: str) -> None:
        """`streams worker p.pipeline.yaml` as people start it, in the folder or one inside it; it
        finds its name by itself."""
        command = ["-m", "streams.cli.main", "worker", "p.pipeline.yaml", *words]
        self._spawn(name, command, environment, inside)

    def _spawn(
        self, name: str, words: list[str], environment: dict[str, str], inside: str = "."
    ) -> None:
        around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        command, folder = [sys.executable, *words], self.folder / inside
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env=around
            )

    def start_all(self) -> None:
        """Two processes of agents, and the keeper in a third."""
        self.start("agents-1", "--agents")
        self.start("agents-2", "--agents")
        self.start("keeper", "--keeper")

    async def settled(self, agents: int, pipeline: str = "p", pool: str = "default") -> None:
        """So many share a pool's partitions, each has its part, and no partition moves any more."""
        await self.info(pipeline)

        async def all_there() -> bool:
            members = await self.log.members(self.naming(pipeline).pool_group(pool))
            assigned = self.said("partition.assigned", member=f"pool {pool}", pipeline=pipeline)
            return len(members) == agents and set(members) <= {line["worker"] for line in assigned}

        await self.until(all_there)
        await self.clock.sleep(0.5)

    def kill(self, name: str) -> None:
        """kill -9, and nobody says good-bye."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    async def freeze(self, name: str) -> None:
        """SIGSTOP; in a file between two writes: who is stopped within one keeps it for all
        (K024)."""
        if self.settings.kafka.bootstrap:
            self.signal(name, signal.SIGSTOP)
            return

        async def stopped_between_writes() -> bool:
            self.signal(name, signal.SIGSTOP)
            if free_to_write(self.settings.log):
                return True
            self.signal(name, signal.SIGCONT)
            return False

        await self.until(stopped_between_writes)

    def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        process = self.processes.pop(name)
        process.terminate()
        return process.wait(timeout=20)

    async def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        if self.settings.kafka.bootstrap:  # which the next tests use, too
            await self.log.delete_topics(await self.topics())
        await self.log.close()

    async def topics(self) -> list[str]:
        """All of this site."""
        ours = f"{self.settings.namespace}."
        return [name for name in await self.log.topics() if name.startswith(ours)]

    # -- through the client -------------------------------------------------------------------

    async def info(self, pipeline: str = "p") -> Any:
        """The pipeline, once a worker has set it up."""

        async def there() -> Any:
            try:
                found = await self.client.pipeline(pipeline)
            except (NotFoundError, LogUnavailable):  # its topics may have no leaders yet
                return None
            return found

        return await self.until(there)

    async def submit(
        self, *jobs: str, pipeline: str = "p", data: Any = None, **params: Any
    ) -> None:
        info = await self.info(pipeline)
        submissions = [Submission(id=job, params=params, data=data) for job in jobs]
        async for _ in self.client.submit_many(info, submissions):
            pass

    async def say(self, job: str | None, kind: str, pipeline: str = "p", **more: Any) -> None:
        """A signal."""
        info = await self.info(pipeline)
        await self.client.signal(info, SignalData(kind=kind, by="test", **more), job)

    async def job(self, job: str, pipeline: str = "p") -> JobView:
        return await self.client.job(job, pipeline)

    async def until_job(
        self,
        job: str,
        holds: Callable[[JobView], bool] | str,
        *,
        timeout: float = 60,
        pipeline: str = "p",
    ) -> JobView:
        """The job, once it has that status or fits that test."""

        async def fits() -> JobView | None:
            try:
                view = await self.job(job, pipeline)
            except NotFoundError:
                return None
            good = view.status == holds if isinstance(holds, str) else holds(view)
            return view if good else None

        try:
            return await self.until(fits, timeout=timeout)
        except TimeoutError:
            raise AssertionError(
                f"{job} is still {await self.job(job, pipeline)}\n{self.logs()}"
            ) from None

    async def until_ended(self, jobs: list[str], *, timeout: float = 60) -> dict[str, JobView]:
        async def all_ended() -> dict[str, JobView] | None:
            views = {view.id: view for view in await self.client.jobs()}
            good = all(job in views and views[job].status in ENDED for job in jobs)
            return {job: views[job] for job in jobs} if good else None

        try:
            return await self.until(all_ended, timeout=timeout)
        except TimeoutError:
            views = [v for v in await self.client.jobs() if v.status not in ENDED][:3]
            raise AssertionError(f"still open: {views}\n{self.logs()}") from None

    async def until(self, look: Callable[[], Any], *, timeout: float = 60) -> Any:
        """What `look` gives, once it gives something."""
        async with asyncio.timeout(timeout):
            while True:
                found = await look()
                if found:
                    return found
                await self.clock.sleep(0.05)

    async def done_events(self, pipeline: str = "p") -> list[str]:
        """Jobs that the done topic says have ended, one entry an event."""
        return await self.keys(self.naming(pipeline).done)

    async def keys(self, topic: str) -> list[str]:
        """Of each record that can be seen in a topic."""
        async with self.reading(topic) as seen:
            return [(record.key or b"").decode() for record in await seen()]

    async def bytes_in_log(self) -> int:
        """What all records that can be seen weigh together."""
        weight = 0
        for topic in await self.topics():
            async with self.reading(topic) as seen:
                weight += sum(len(record.value or b"") for record in await seen())
        return weight

    @asynccontextmanager
    async def reading(self, topic: str) -> AsyncIterator[Callable[[], Awaitable[list[Record]]]]:
        """Gives a look at the topic: all records that can be seen there by now."""
        spec = (await self.log.topics())[topic]
        places = [TopicPartition(topic, p) for p in range(spec.partitions)]
        marks = await self.log.watermarks(places)
        reader = self.log.reader()
        reader.assign({place: marks[place].low for place in places})
        records: list[Record] = []

        async def seen() -> list[Record]:
            marks = await self.log.watermarks(places)
            while any(reader.position(place) < marks[place].high for place in places):
                records.extend(await reader.poll(1_000, 0.1))
            return records

        try:
            yield seen
        finally:
            await reader.close()

    def side_effects(self, stage: str) -> list[str]:
        """Jobs for which a stage's code has run, one entry a run."""
        file = self.folder / f"{stage}.ran"
        return file.read_text().split() if file.exists() else []

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """What the processes have logged of such an event, with these fields, so far."""
        found = []
        for path in self.folder.glob("*.log"):
            lines = path.read_text().splitlines()
            told = [json.loads(line) for line in lines if line.startswith("{")]
            found += [line for line in told if {**line, "event": event, **fields} == line]
        return found

    def children(self, name: str) -> list[int]:
        """Processes that a process has started."""
        pid = self.processes[name].pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(each) for each in listed.split()]

    def logs(self) -> str:
        """The ends of all process logs, for a failed test."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log")
        )


def free_to_write(log: Path) -> bool:
    """No process that stands still holds the file; who works lets go of it within the second."""
    file = sqlite3.connect(log, timeout=1.0, isolation_level=None)
    try:
        file.execute("BEGIN IMMEDIATE")
        file.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    else:
        return True
    finally:
        file.close()
