"""Who takes part: how each engine is started, fed, and how its results are read.

A contestant is written `engine:mode:option=value;option=value@documents`, for example
`quix:eos:commit=0.2` or `faust:alo:take=500;best=1@5000`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from streams.app import App
from streams.broker.kafka import KafkaLog
from streams.clock import SystemClock
from streams.codec import kafka
from streams.engine import rows
from streams.engine.messages import (
    SIGNAL,
    SUBMIT,
    Origin,
    SignalData,
    SubmitData,
    stage_event,
)
from streams.engine.payload import Payload
from streams.event import Event
from streams.event_rules import timestamp
from streams.runtime.commit import written
from streams.settings import Settings
from streams.topology.plan import Naming, Plan
from tests.bench.engines import documents, setup
from tests.bench.engines.cluster import PARTITIONS, Cluster

HERE = Path(__file__).parent
CLOCK = SystemClock()
Sent = tuple[bytes, bytes | None, list[tuple[str, str | bytes | None]]]


class Topics(NamedTuple):
    """Where an engine's records stand in one run."""

    source: str
    after_first: str
    """What the first stage gives: the run begins with its first record."""
    sink: str
    ledger: str


class Start(NamedTuple):
    """How a worker is started."""

    command: list[str]
    environment: dict[str, str]


class Engine(Protocol):
    """One engine in one run."""

    topics: Topics
    rows_each: int
    """Ledger rows that a document has in the end."""

    def prepare(self) -> None:
        """Its topics are there."""

    def start(self, worker: int, folder: Path) -> Start: ...

    def record(self, number: int, sent: float) -> Sent:
        """What is fed to the source."""

    def has_ended(self, key: bytes, value: bytes) -> bool:
        """Whether this ledger row says that its document is through."""


class Contestant(msgspec.Struct, frozen=True):
    """An engine and how it is run."""

    engine: str
    mode: str = "eos"
    options: str = ""
    documents: int = 0
    """0: as many as the others."""

    @classmethod
    def parse(cls, text: str) -> Contestant:
        body, _, count = text.partition("@")
        engine, mode, options = [*body.split(":", 2), "", ""][:3]
        return cls(engine, mode or "eos", options.replace(";", ","), int(count or 0))

    def __str__(self) -> str:
        return ":".join(filter(None, (self.engine, self.mode, self.options.replace(",", ";"))))

    @property
    def chosen(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.options.split(",") if pair)

    @property
    def missing(self) -> bool:
        """Whether `setup` could not or did not set it up."""
        return self.engine in PEERS and not setup.is_ready(self.engine)

    def in_run(self, cluster: Cluster, run: str) -> Engine:
        if self.engine in PEERS:
            return Peer(self, cluster, run)
        return {"product": Agents, "product_jobs": Jobs}[self.engine](self, cluster, run)


PEERS = (*setup.PACKAGES, setup.KAFKA_STREAMS)


class Peer:
    """A program of this folder that reads BENCH_* and has topics of the run's name."""

    rows_each = 1

    def __init__(self, contestant: Contestant, cluster: Cluster, run: str) -> None:
        self._contestant = contestant
        self._cluster = cluster
        self._run = run
        # Those with tables of their own keep the ledger in the table's changelog.
        own_table = contestant.engine in ("faust", setup.KAFKA_STREAMS)
        ledger = f"{run}-ledger-changelog" if own_table else f"{run}-ledger"
        self.topics = Topics(f"{run}-s0", f"{run}-s1", f"{run}-s4", ledger)

    def prepare(self) -> None:
        self._cluster.create([f"{self._run}-s{stage}" for stage in range(5)])
        self._cluster.create([f"{self._run}-ledger"], compact=True)

    def start(self, worker: int, folder: Path) -> Start:
        engine = self._contestant.engine
        if engine == setup.KAFKA_STREAMS:
            command = setup.java_command()
        else:
            command = [str(setup.python_of(engine)), str(HERE / f"{engine}_engine.py")]
        environment = {
            "BENCH_BOOTSTRAP": self._cluster.bootstrap,
            "BENCH_RUN": self._run,
            "BENCH_MODE": self._contestant.mode,
            "BENCH_OPTIONS": self._contestant.options,
            "BENCH_WORKER": str(worker),
            "BENCH_FOLDER": str(folder),
        }
        return Start(command, environment)

    def record(self, number: int, sent: float) -> Sent:
        key = documents.key_of(number).encode()
        return key, documents.cloudevent(number, sent), documents.HEADERS

    def has_ended(self, key: bytes, value: bytes) -> bool:
        return bool(msgspec.json.decode(value)["status"] == "done")


class Product:
    """`streams worker` as shipped, in a namespace of its own.

    Options: session= (ms), dynamic=1 (no static membership), file=, partitions=, log=.
    """

    file: str
    words: tuple[str, ...]

    def __init__(self, contestant: Contestant, cluster: Cluster, run: str) -> None:
        self._options = contestant.chosen
        self._cluster = cluster
        self._run = run
        self._file = HERE / "product" / self._options.get("file", self.file)
        self._plan: Plan | None = None

    @property
    def naming(self) -> Naming:
        return Naming(self._run, "bench")

    @property
    def plan(self) -> Plan:
        assert self._plan is not None, "not prepared"
        return self._plan

    def prepare(self) -> None:
        partitions = int(self._options.get("partitions", PARTITIONS))
        settings = Settings(namespace=self._run, partitions=partitions)
        app = App.from_files(self._file, settings=settings)
        self._plan = app.topologies[0].plan
        asyncio.run(self._apply(app))

    async def _apply(self, app: App) -> None:
        log = KafkaLog.open(self._cluster.bootstrap, clock=CLOCK)
        try:
            await app.apply(log)
        finally:
            await log.close()

    def start(self, worker: int, folder: Path) -> Start:
        options: dict[str, Any] = {}
        if "session" in self._options:
            options["session.timeout.ms"] = int(self._options["session"])
        if "dynamic" in self._options:
            options["streams.static"] = False
        command = [
            sys.executable, "-m", "streams.cli.main", "worker", str(self._file),
            "--kafka", self._cluster.bootstrap, *self.words,
        ]  # fmt: skip
        environment = {
            "STREAMS_NAMESPACE": self._run,
            "STREAMS_STATE_DIR": str(folder),
            "STREAMS_LOG_LEVEL": self._options.get("log", "warning"),
            "STREAMS_WORKER__NAME": f"w{worker}",
        }
        if options:
            environment["STREAMS_KAFKA__OPTIONS"] = msgspec.json.encode(options).decode()
        return Start(command, environment)


class Agents(Product):
    """Bench A: stage agents without a keeper, fed at the first stage as the keeper would feed it."""

    file = "documents.yaml"
    words = ("--keeper", "no", "--pool", "default")
    rows_each = 4

    @property
    def topics(self) -> Topics:
        n = self.naming
        return Topics(n.stage("a"), n.stage("b"), n.stage("sink"), n.ledger)

    def record(self, number: int, sent: float, turn: int = 1) -> Sent:
        key = documents.key_of(number)
        origin = Origin(key, key, 1, self.plan.digest)
        data = msgspec.Raw(msgspec.json.encode(documents.document(number, sent)))
        parent, now = f"submit-{number}", round(sent * 1000)
        event = stage_event(self.plan, origin, "a", parent, Payload(data=data), now, turn=turn)
        value, headers = written(event)
        return key.encode(), value, list(headers)

    def has_ended(self, key: bytes, value: bytes) -> bool:
        return key.endswith(b"|d") and rows.head(value).status == "SUCCESS"


def submission(number: int, sent: float) -> Sent:
    """A job to be, as `streams submit` writes it."""
    key = documents.key_of(number)
    data = msgspec.Raw(msgspec.json.encode(documents.document(number, sent)))
    event = Event.make(
        id=CLOCK.new_id(),
        source="/bench/feed",
        type=SUBMIT,
        time=timestamp(CLOCK.now()),
        value=SubmitData({}, data),
        extensions={"job": key},
    )
    value, headers = kafka.encode(event)
    return key.encode(), value, list(headers)


class Jobs(Product):
    """Bench B: intake to `done`, the keeper in the same process."""

    file = "jobs.yaml"
    words = ()
    rows_each = 6

    @property
    def topics(self) -> Topics:
        n = self.naming
        return Topics(n.intake, n.stage("a"), n.done, n.ledger)

    def record(self, number: int, sent: float) -> Sent:
        return submission(number, sent)

    def has_ended(self, key: bytes, value: bytes) -> bool:
        return key.endswith(b"|@job") and rows.head(value).status == "SUCCESS"


class Keepers(Product):
    """A keeper alone: jobs wait at a gate, and what comes after it is served by nobody."""

    file = "gate.yaml"
    words = ("--pool", "default")
    rows_each = 3

    @property
    def topics(self) -> Topics:
        n = self.naming
        return Topics(n.intake, n.stage("two"), n.stage("two"), n.ledger)

    def record(self, number: int, sent: float) -> Sent:
        return submission(number, sent)

    def has_ended(self, key: bytes, value: bytes) -> bool:
        return key.endswith(b"|wait") and rows.head(value).status == "WAITING"

    def opening(self, number: int, sent: float) -> Sent:
        """The fact that lets a job pass the gate."""
        return self._fact(documents.key_of(number), documents.key_of(number))

    def opening_for_all(self) -> Sent:
        """The fact that lets every job pass the gate."""
        return self._fact("@global/go", "")

    def _fact(self, key: str, job: str) -> Sent:
        fact = SignalData(kind="fact", facts={"go": True}, everywhere=not job, by="bench")
        event = Event.make(
            id=CLOCK.new_id(),
            source="/bench/facts",
            type=SIGNAL,
            time=timestamp(CLOCK.now()),
            value=fact,
            extensions={"job": job} if job else {},
        )
        value, headers = kafka.encode(event)
        return key.encode(), value, list(headers)
