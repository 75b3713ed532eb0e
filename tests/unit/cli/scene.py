"""A log as a pipeline left it, made by hand: what the verbs are shown."""

from pathlib import Path

import msgspec

from streams.broker.local import LocalLog
from streams.broker.port import Outgoing, TopicSpec, partition_for
from streams.client import Client
from streams.clock import Clock, ManualClock
from streams.engine import rows
from streams.engine.rows import AnyRow, Attempt, Failure, InputRow, JobRow, Parked, Row, Wait
from streams.topology.plan import Edge, Gate, Naming, Part, Plan

PARTITIONS = 2
START = 1_800_000_000_000  # 2027-01-15 08:00:00Z
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

PLAN = Plan(
    "demo",
    "1",
    (
        Part("fetch", "stage", "fetch", edges=(Edge("summarise"),)),
        Part("summarise", "stage", "summarise", needs=("fetch",), edges=(Edge("review"),)),
        Part(
            "review",
            "gate",
            "gate",
            needs=("summarise",),
            edges=(Edge("publish"),),
            gate=Gate("review", until="facts.reviewed", timeout_ms=3 * DAY, facts=("reviewed",)),
        ),
        Part("publish", "stage", "publish", needs=("review",)),
    ),
)


class Scene:
    """Writes what keepers and agents would have written."""

    def __init__(self, log: LocalLog, clock: Clock, plan: Plan = PLAN) -> None:
        self.log = log
        self.clock = clock
        self.plan = plan
        self.naming = Naming("default", plan.pipeline)
        self.client = Client(log, "default", clock=clock)

    @classmethod
    async def open(
        cls, path: Path | None = None, clock: Clock | None = None, plan: Plan = PLAN
    ) -> "Scene":
        """The pipeline is set up; nothing was submitted."""
        clock = clock or ManualClock(START)
        scene = cls(LocalLog.open(path, clock=clock), clock, plan)
        names = scene.naming
        topics = [names.intake, names.hold, names.done, names.dead, names.stage("fetch")]
        await scene.log.create_topics(
            [
                *(TopicSpec(topic, PARTITIONS) for topic in topics),
                TopicSpec(names.ledger, PARTITIONS, "compact"),
                TopicSpec(names.control, 1, "compact"),
            ]
        )
        await scene.control(f"plan/{plan.digest}", msgspec.json.decode(plan.encoded))
        await scene.control("active", {"digest": plan.digest})
        await scene.control("layout", {"partitions": PARTITIONS})
        return scene

    async def control(self, key: str, value: object) -> None:
        encoded = None if value is None else msgspec.json.encode(value)
        await self.log.publish([Outgoing(self.naming.control, key.encode(), encoded)])

    async def row(self, job: str, part: str, row: AnyRow | None) -> None:
        value = None if row is None else rows.encode(row)
        place = partition_for(job.encode(), PARTITIONS)
        key = f"{job}|{part}".encode()
        await self.log.publish([Outgoing(self.naming.ledger, key, value, (), place)])

    async def job(self, job: str, **fields: object) -> None:
        """The job was taken up a minute after the start of the scene."""
        told = {"plan": self.plan.digest, "root": job, "created": START, "updated": START}
        head = msgspec.convert({"s": "RUNNING", **told, **fields}, JobRow)
        await self.row(job, "@input", InputRow({"title": "Salt"}))
        await self.row(job, "@job", head)

    async def done(self, job: str, part: str, to: str, at: int = START + SECOND) -> None:
        """The stage succeeded at its first attempt, in half a second."""
        tried = Attempt(1, at - 600, at - 500, at, "SUCCESS")
        ended = Row(
            "SUCCESS",
            plan=self.plan.digest,
            root=job,
            taken=(to,) if to else (),
            out=msgspec.Raw(b'{"words":3}'),
            times=(tried,),
            worker="w1",
            at=at,
        )
        await self.row(job, part, ended)

    async def waiting_at_gate(self, job: str, since: int = START + 2 * SECOND) -> None:
        """The job stands at the gate `review`, with three days to go."""
        await self.job(job)
        await self.done(job, "fetch", "summarise")
        await self.done(job, "summarise", "review")
        wait = Wait("gate", since, due=since + 3 * DAY, event=Parked(), looks=1)
        held = Row("WAITING", phase=0, plan=self.plan.digest, root=job, at=since, wait=wait)
        await self.row(job, "review", held)

    async def failed(self, job: str, *, at: int = START + 5 * SECOND) -> None:
        """`summarise` failed three times, and the job with it."""
        error = Failure("S001", "KeyError: 'text'", "reading document\nno text in it")
        await self.job(
            job, s="FAILED", ph=2, completed=at, updated=at, err=msgspec.to_builtins(error)
        )
        await self.done(job, "fetch", "summarise")
        tries = tuple(
            Attempt(n, START, START + n * SECOND, START + n * SECOND + 40, "FAILED", error.message)
            for n in (1, 2, 3)
        )
        ended = Row(
            "FAILED",
            attempt=3,
            turn=3,
            plan=self.plan.digest,
            root=job,
            err=error,
            times=tries,
            worker="w1",
            at=at,
        )
        await self.row(job, "summarise", ended)

    async def dead_letter(self, key: str, stage: str = "summarise") -> None:
        """A record as an agent leaves it when it gives up; without a stage, as a keeper does."""
        job = key if stage else ""
        cause = {
            "topic": self.naming.stage(stage) if stage else self.naming.intake,
            "partition": "0",
            "offset": "7",
            "stage": stage,
            "reason": "stage-failed",
            "error": "S001: KeyError: 'text'",
            "attempts": "3",
            "first-failed-at": str(START),
            "job": job,
            "epoch": "1",
        }
        headers = [("ce_id", b"e1"), ("x-own", b"kept")]
        headers += [(f"streams-dlq-{name}", text.encode()) for name, text in cause.items()]
        letter = Outgoing(self.naming.dead, key.encode(), b"\x00raw", tuple(headers), 0)
        await self.log.publish([letter])
        if stage:
            wait = Wait("dead", START, event=Parked())
            kept = Row("FAILED", plan=self.plan.digest, root=job, wait=wait, at=START)
            await self.row(job, f"{stage}~dead", kept)
