"""The plan: a topology, checked and resolved to plain values with a digest.

A plan is all that agents and keepers know of a pipeline. It is written to the control topic under
its digest, so every worker reads the same one; a job ends on the plan it began with.

How a part is entered follows from the plan alone (`Plan.entry`):

- `topic`  user code with one way in: its own topic carries the event
- `hold`   the keeper's: gates, sleeps, joins (two or more ways in), parts that want the ledger view
- `fold`   no user code and one way in: done inside the step of whatever precedes it
"""

from __future__ import annotations

import graphlib
import hashlib
from functools import cached_property
from typing import Any, Literal

import msgspec

EdgeKind = Literal["next", "timeout"]
PartKind = Literal["stage", "uses", "echo", "sleep", "raise", "gate"]
ParamType = Literal[
    "string", "integer", "number", "decimal", "boolean", "date", "datetime", "choice", "list", "map"
]
OnTimeout = Literal["fail", "skip", "continue", "route"]

USER_CODE: frozenset[str] = frozenset({"stage", "uses"})
KEEPER_RUN: frozenset[str] = frozenset({"gate", "sleep"})
EVENT_ROOM = 640 * 1024
"""Bytes for all outputs in one event; parameters, data and the rest take up to 200 KiB of a record's
1 MiB."""


class Edge(msgspec.Struct, frozen=True):
    """A way from one part to the next. `carry`: whose outputs something reachable still reads."""

    to: str
    kind: EdgeKind = "next"
    carry: tuple[str, ...] = ()


class Backoff(msgspec.Struct, frozen=True):
    """Delay before attempt n+1, in seconds."""

    strategy: Literal["exponential", "linear", "none"] = "exponential"
    initial: float = 0.5
    maximum: float = 30.0
    jitter: bool = True


class Policy(msgspec.Struct, frozen=True):
    """How often and how long a stage may try. Policies are not pinned by a job's plan."""

    max_attempts: int = 1
    timeout_seconds: float | None = None
    backoff: Backoff = Backoff()


class Batch(msgspec.Struct, frozen=True):
    """Events of many jobs in one call."""

    max_items: int = 32
    max_wait: float = 0.05


class Clause(msgspec.Struct, frozen=True):
    """One test of a gate: `field` is looked up in facts, metadata, the job's own fields."""

    field: str
    operator: Literal["exists", "equals", "changed"] = "equals"
    value: Any = None


class Gate(msgspec.Struct, frozen=True):
    """What a gate waits for. `until` (CEL) or `clauses`; `when` false lets pass at once."""

    name: str
    when: str | None = None
    until: str | None = None
    clauses: tuple[Clause, ...] = ()
    mode: Literal["all", "any"] = "all"
    timeout_ms: int | None = None
    on_timeout: OnTimeout = "fail"
    on_timeout_to: str | None = None
    facts: tuple[str, ...] = ()
    """Names of facts it reads: the index for shared facts."""


class Part(msgspec.Struct, frozen=True):
    """One part of a plan. `path` is its id and address; `name` is free text for people."""

    path: str
    kind: PartKind
    type: str
    name: str = ""
    desc: str = ""
    needs: tuple[str, ...] = ()
    """Declared dependencies, in the author's order."""
    edges: tuple[Edge, ...] = ()
    condition: str | None = None
    """`if`: a CEL expression; false skips the part."""
    ledger: bool = False
    """Wants the job's ledger view (`@ledger`, or an expression over facts or metadata)."""
    pool: str = "default"
    concurrency: int = 16
    policy: str | None = None
    """Name of a policy; its numbers come from `Plan.policies` or the shipped ones."""
    retry: Policy | None = None
    """Written at the stage itself; wins over `policy`."""
    batch: Batch | None = None
    config: dict[str, Any] = {}
    """Stage type's own settings; strings may hold `${{ }}`."""
    uses: str | None = None
    args: dict[str, Any] = {}
    """`with:` of `uses`; strings may hold `${{ }}`."""
    echo: str | None = None
    sleep_ms: int = 0
    sleep: str | None = None
    """An expression for the seconds, where it is not a plain number."""
    message: str | None = None
    """`raise`: the message; may hold `${{ }}`."""
    gate: Gate | None = None
    sets: dict[str, Any] = {}
    """Fields of the ledger view written on success: name → value or `${{ }}`."""
    keep: tuple[str, ...] = ()
    """Fields of the output that gate conditions read; kept in the row."""
    overrides: dict[str, Any] = {}
    """`metadata_overrides` of the stage's registration."""


class Param(msgspec.Struct, frozen=True):
    """A declared parameter."""

    name: str
    type: ParamType = "string"
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    desc: str = ""


class SourceTopic(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic that the pipeline reads and does not own; each record is submitted to it."""

    topic: str
    format: Literal["cloudevents", "json", "avro", "debezium"] = "cloudevents"
    id: str | None = None
    """Text with `${{ }}` for the job's id; None: it follows from (source, id) of the event."""
    start: Literal["earliest", "latest"] | int = "earliest"
    """Where a group that never read it begins; a number is a time (ms)."""
    on_error: Literal["dead", "skip", "halt"] = "dead"
    deletes: Literal["skip", "submit"] = "skip"
    registry: str = ""
    schema: Any = None
    """The Avro schema itself, where no registry is asked."""

    @property
    def is_avro(self) -> bool:
        """Whether its values are Avro (a Debezium topic may be either)."""
        given = bool(self.registry) or self.schema is not None
        return self.format == "avro" or (self.format == "debezium" and given)


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A checked topology. Equal plans have equal digests."""

    pipeline: str
    version: str
    parts: tuple[Part, ...]
    params: tuple[Param, ...] | None = None
    """None: the file declares none, any name may be given."""
    policies: dict[str, Policy] = {}
    plugins: tuple[str, ...] = ()
    """`module:name` of stage registrations the pipeline brings."""
    secrets: tuple[str, ...] = ()
    deadline_ms: int | None = None
    retention_ms: int = 7 * 24 * 3600 * 1000
    owner: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    sources: tuple[SourceTopic, ...] = ()
    """Topics of others that it reads."""

    @cached_property
    def encoded(self) -> bytes:
        """Canonical JSON. Without sources they are left out, as in plans from before there were
        any: a recorded digest stays true."""
        whole = msgspec.json.encode(self, order="deterministic")
        return whole.removesuffix(b',"sources":[]}') + b"}" if not self.sources else whole

    @cached_property
    def digest(self) -> str:
        """First 16 hex characters of the sha256 of the canonical JSON."""
        return hashlib.sha256(self.encoded).hexdigest()[:16]

    @cached_property
    def by_path(self) -> dict[str, Part]:
        return {part.path: part for part in self.parts}

    @cached_property
    def incoming(self) -> dict[str, tuple[tuple[str, EdgeKind], ...]]:
        """Part → (upstream, kind of edge), in plan order."""
        ways: dict[str, list[tuple[str, EdgeKind]]] = {part.path: [] for part in self.parts}
        for part in self.parts:
            for edge in part.edges:
                ways[edge.to].append((part.path, edge.kind))
        return {path: tuple(found) for path, found in ways.items()}

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Parts without a way in, started when the job is."""
        return tuple(part.path for part in self.parts if not self.incoming[part.path])

    @cached_property
    def entries(self) -> dict[str, Literal["topic", "hold", "fold"]]:
        return {part.path: self._entry(part) for part in self.parts}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Paths so that every part comes after what leads to it."""
        ways = {path: [up for up, _ in found] for path, found in self.incoming.items()}
        return tuple(graphlib.TopologicalSorter(ways).static_order())

    @cached_property
    def reach(self) -> dict[str, frozenset[str]]:
        """Part → itself and everything that can come after it."""
        found: dict[str, frozenset[str]] = {}
        for path in reversed(self.order):
            after = (found[edge.to] for edge in self.by_path[path].edges)
            found[path] = frozenset({path}).union(*after)
        return found

    @cached_property
    def room(self) -> int:
        """Bytes that one output may take in an event, so that the event still fits into a record
        of the log with all the others that it carries: at a join those of every way in."""
        most = 1
        for ways in self.incoming.values():
            carried = {up for up, _ in ways}
            for up, _ in ways:
                carried.update(*(edge.carry for edge in self.by_path[up].edges))
            most = max(most, len(carried))
        return EVENT_ROOM // most

    @cached_property
    def linear(self) -> bool:
        """One root, and never more than one way on."""
        return len(self.roots) == 1 and all(len(part.edges) <= 1 for part in self.parts)

    def _entry(self, part: Part) -> Literal["topic", "hold", "fold"]:
        if part.kind in KEEPER_RUN or part.ledger or len(self.incoming[part.path]) > 1:
            return "hold"
        return "topic" if part.kind in USER_CODE else "fold"

    def edge(self, source: str, to: str) -> Edge:
        return next(edge for edge in self.by_path[source].edges if edge.to == to)

    def default_taken(self, path: str) -> tuple[str, ...]:
        """Where a part that ended well goes on, unless its verdict says otherwise."""
        return self._taken[path]

    @cached_property
    def _taken(self) -> dict[str, tuple[str, ...]]:
        return {
            part.path: tuple(edge.to for edge in part.edges if edge.kind == "next")
            for part in self.parts
        }

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        return _decoder.decode(data)


_decoder = msgspec.json.Decoder(Plan)


class Naming(msgspec.Struct, frozen=True, dict=True):
    """Names of everything a pipeline owns in the log. Each is made once: every record needs one."""

    namespace: str
    pipeline: str

    @cached_property
    def prefix(self) -> str:
        return f"{self.namespace}.{self.pipeline}"

    def stage(self, path: str) -> str:
        return f"{self.prefix}.{path.replace('/', '.')}"

    @cached_property
    def intake(self) -> str:
        return f"{self.prefix}.intake"

    @cached_property
    def hold(self) -> str:
        return f"{self.prefix}.hold"

    @cached_property
    def ledger(self) -> str:
        return f"{self.prefix}.ledger"

    @cached_property
    def control(self) -> str:
        return f"{self.prefix}.control"

    @cached_property
    def done(self) -> str:
        return f"{self.prefix}.done"

    @cached_property
    def dead(self) -> str:
        return f"{self.prefix}.dead"

    def pool_group(self, pool: str) -> str:
        return f"{self.prefix}.pool-{pool}"

    @property
    def keeper_group(self) -> str:
        return f"{self.prefix}.keeper"

    @property
    def source_group(self) -> str:
        """The group that reads the topics of others."""
        return f"{self.prefix}.source"


RESERVED_TOPICS: frozenset[str] = frozenset(
    {"intake", "hold", "ledger", "control", "done", "dead", "events"}
)
"""Last parts of the pipeline's own topics: no stage may have such an id."""
