"""Pipelines written in Python: a builder, the graph it makes, and running it here.

    graph = Pipeline("p").with_stage("a", A).with_stage("b", b, dependencies=("a",)).build()
    results = await graph.run(data={"n": 1})
    results.require("b").value

A graph is checked by the checker of topology files, since it is one: `to_yaml` prints it, and the
file gives the same plan. It runs in this process, through the same engine, with rows in memory; or
with `durable=True` on the embedded log, where a crash loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from streams.authoring.context import ContextSnapshot
from streams.authoring.faults import StageRegistryError
from streams.authoring.function_stage import stage as stage_of_function
from streams.authoring.registration import (
    StageDefinition,
    StageKind,
    StageMetadata,
    StageRegistration,
)
from streams.clock import Clock, SystemClock
from streams.engine.rows import PUBLIC
from streams.errors import UserError
from streams.registry import StageRegistry, is_batch
from streams.results import Results
from streams.stage import Stage, registration_of
from streams.topology.durations import spell
from streams.topology.plan import Plan, Policy

if TYPE_CHECKING:
    from streams.app import App
    from streams.runtime.inprocess_host import Host
    from streams.settings import Settings
    from streams.topology.findings import Finding

EXPLANATIONS: dict[str, str] = {
    "J102": """\
**Two stages of a pipeline have the same name.** A second one would replace the first in silence.
Next: give it another name.""",
    "J104": """\
**A pipeline's settings are plain values**: what JSON can hold, since they stand in the topology.
Next: give objects to the stage itself: `with_stage(name, MyStage(connection))`.""",
    "J105": """\
**A job of this id is being run by this graph.** Next: leave `job` out and each run gets its own.""",
}

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_NOT_PLAIN = frozenset("true false null yes no on off y n".split())


@dataclass(frozen=True)
class StageSpec:
    """One stage of a pipeline in the making."""

    name: str
    runner: Any
    """What runs; None for a gate."""
    kind: StageKind | None
    fields: Mapping[str, Any]
    """Its other fields in the topology."""
    policy: Policy | None = None


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A pipeline in the making. Each `with_…` gives a new one and leaves this as it was."""

    name: str = "pipeline"
    version: int | str = 1
    params: Mapping[str, Any] | None = None
    """Declared parameters as in a topology (`{"n": "integer"}`); None: any may be given."""
    stages: tuple[StageSpec, ...] = field(default=(), repr=False)

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    def with_stage(
        self,
        name: str,
        runner: Any,
        kind: StageKind | str | None = None,
        *,
        dependencies: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        policy: str | Policy | None = None,
        retry: int | None = None,
        timeout: float | str | None = None,
        condition: str | bool | None = None,
        pool: str | None = None,
        concurrency: int | None = None,
    ) -> Pipeline:
        """The pipeline with one stage more.

        `runner` is a class with `execute` (made once, given `config` if its constructor takes it),
        an object, a function, or what `@stage` gives. `retry` counts further attempts; `timeout`
        is in seconds, or a duration (`"30s"`); `condition` is an expression as in `if:`.
        """
        fields = {
            "depends_on": _names(dependencies),
            "if": condition,
            "policy": policy if isinstance(policy, str) else name if policy else None,
            "retry": retry,
            "timeout": _duration(timeout),
            "pool": pool,
            "concurrency": concurrency,
            "config": _plain_config(name, _config_of(runner) if config is None else config),
        }
        chosen = None if kind is None else StageKind(kind)
        own = policy if isinstance(policy, Policy) else None
        _require_runner(name, runner)
        return self._with(StageSpec(name, runner, chosen, _given(fields), own))

    def with_gate(
        self,
        name: str,
        *,
        until: str | None = None,
        field: str | None = None,
        equals: Any = None,
        when: str | None = None,
        dependencies: Sequence[str] = (),
        timeout: float | str | None = None,
        on_timeout: str | None = None,
    ) -> Pipeline:
        """The pipeline with a gate, which holds the job until an expression (`until`) or a field
        of the ledger says go; `on_timeout` is fail, skip, continue or a later stage."""
        config = {
            "until": until, "field": field, "equals": equals, "when": when,
            "timeout": _duration(timeout), "on_timeout": on_timeout,
        }  # fmt: skip
        fields = {"depends_on": _names(dependencies), "config": _plain_config(name, _given(config))}
        return self._with(StageSpec(name, None, None, _given(fields)))

    def _with(self, added: StageSpec) -> Pipeline:
        if added.name in self.stage_names:
            raise UserError(
                f"pipeline {self.name!r} has a stage {added.name!r} already",
                code="J102",
                help="give the second one another name",
            )
        return dataclasses.replace(self, stages=(*self.stages, added))

    def build(self, *, clock: Clock | None = None) -> StageGraph:
        """The checked graph. Raises `TopologyError` with all faults, as `streams validate` does;
        their lines are those of the file that `to_yaml` would give."""
        from streams.topology.check import check_text
        from streams.topology.findings import TopologyError

        registry, types = _registered(self.stages)
        text = _yaml(self, types)
        plan, findings = check_text(text, f"Pipeline({self.name!r})", registry)
        if plan is None:
            raise TopologyError(findings)
        paths = dict(zip(self.stage_names, (part.path for part in plan.parts), strict=True))
        return StageGraph(plan, registry, text, paths, clock or SystemClock(), tuple(findings))


class StageGraph:
    """A pipeline that can be run: here, or by workers from its `to_yaml`.

    Stages are made for the first run and shared by all runs, several at once too. They are opened
    before a run and closed after the last one under way; `async with graph:` keeps them open.
    A graph belongs to one event loop at a time.
    """

    def __init__(
        self,
        plan: Plan,
        registry: StageRegistry,
        text: str,
        paths: Mapping[str, str],
        clock: Clock,
        warnings: tuple[Finding, ...] = (),
    ) -> None:
        self.plan = plan
        self.registry = registry
        self.warnings = warnings
        self._text = text
        self._paths = paths
        """Stage by name → its id in the plan."""
        self._clock = clock

    @property
    def name(self) -> str:
        return self.plan.pipeline

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def to_yaml(self) -> str:
        """The topology file of this graph: the same plan, with the stages under their types."""
        return self._text

    async def run(
        self,
        ctx: ContextSnapshot | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        facts: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        job: str | None = None,
        durable: bool = False,
        settings: Settings | None = None,
    ) -> Results:
        """One job, to its end. A stage that fails does not raise: look at the results' `status`, or
        ask for `results.raise_for_status()`.

        Stages see `ctx` as `ctx.snapshot`, each a copy of its own. `facts` are set before the job
        begins, for gates to read. After `timeout` seconds the job is cancelled. A run that is
        itself cancelled stops its stages, waits for them, and raises `CancelledError`.

        `durable=True`: the job goes through the embedded log that the settings name, with a worker
        in this process. A given `job` id makes it the same job again: what it had finished stays
        done. Cancelling such a run leaves the job in the log. Of `ctx` stages then see the
        identity, texts and data; conversation, enrichments and extensions stay here.
        """
        snapshot: Callable[[], ContextSnapshot] | None = None
        if ctx is not None:
            params, data = _given_with(ctx, params, data)
            snapshot = _Shown(self.plan.pipeline, ctx, params, data)
            data = _submitted(ctx, data)
        deadline = None if timeout is None else self._clock.now() + round(timeout * 1000)
        if durable:
            return await self._run_durably(
                dict(params or {}), data, dict(facts or {}), deadline, job, settings
            )
        ended = await self._host.run(
            params or {}, data, facts=facts, deadline=deadline, job=job, snapshot=snapshot
        )
        end = ended.end
        return Results(
            ended.job, PUBLIC[end.status], end.reason, end.err, self._paths, self.plan,
            lambda: ended.view, ended.outputs,
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._host.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._host.leave()

    @cached_property
    def _host(self) -> Host:
        from streams.runtime.inprocess_host import Host

        if not self.plan.secrets:
            return Host(self.plan, self.registry, self._clock)
        from streams.secrets import Secrets
        from streams.settings import Settings, environment

        secrets = Secrets.load(environment(), Settings.load().secrets_dir)
        return Host(self.plan, self.registry, self._clock, secrets)

    # -- on the embedded log ----------------------------------------------------------------

    async def _run_durably(
        self,
        params: Mapping[str, Any],
        data: Any,
        facts: Mapping[str, Any],
        deadline: int | None,
        job: str | None,
        settings: Settings | None,
    ) -> Results:
        from streams.app import App
        from streams.client import Submission
        from streams.settings import Settings
        from streams.topology.load import Topology

        topology = Topology(self.plan, Path(f"{self.plan.pipeline}.yaml"))
        app = App([topology], self.registry, settings or Settings.load(), clock=self._clock)
        app.keeps_outputs = True
        submission = Submission(params, data, id=job, deadline=deadline)
        async with _working(app):
            return await self._follow(app, submission, facts)
        raise AssertionError("a worker that is not ready has failed")

    async def _follow(self, app: App, submission: Any, facts: Mapping[str, Any]) -> Results:
        from streams.blobs import BlobStore
        from streams.client import Client
        from streams.engine.messages import SignalData
        from streams.engine.payload import blob_of
        from streams.engine.rows import decode_row

        blobs = BlobStore(app.settings.blobs)
        client = Client(
            app.open_log(), app.settings.namespace, blobs=blobs, clock=self._clock, source=SOURCE
        )
        info = await client.pipeline(self.plan.pipeline)
        job = await client.submit(info, submission)
        if facts:
            await client.signal(info, SignalData("fact", dict(facts), by=SOURCE), job)
        async for _ in client.watch(info, [job]):
            pass
        found = await client.find(job, info.name)
        outputs: dict[str, bytes] = {}
        for path in found.view.stages:
            if path in found.rows and (out := decode_row(found.rows[path]).out):
                ref = blob_of(out)
                outputs[path] = bytes(out) if ref is None else await blobs.get(ref)
        view = found.view
        return Results(
            job, view.status, view.reason, view.error, self._paths, self.plan, lambda: view, outputs
        )


class _Shown:
    """What the stages see of `ctx`, with what was given beside it: made when one looks."""

    __slots__ = ("_ctx", "_data", "_made", "_params", "_pipeline")

    def __init__(
        self, pipeline: str, ctx: ContextSnapshot, params: Mapping[str, Any], data: Any
    ) -> None:
        self._pipeline = pipeline
        self._ctx = ctx
        self._params = params
        self._data = data
        self._made: ContextSnapshot | None = None

    def __call__(self) -> ContextSnapshot:
        if self._made is None:
            topology = self._ctx.topology or self._pipeline
            self._made = dataclasses.replace(
                self._ctx, topology=topology, params=self._params, data=self._data
            )
        return self._made


SOURCE = "/streams/pipeline"


@contextlib.asynccontextmanager
async def _working(app: App) -> AsyncIterator[None]:
    """A worker, ready inside the block and drained after it. Its own failure
    counts more than what followed from it in the block."""
    stop = asyncio.Event()
    worker = asyncio.create_task(app.run(stop))
    ready = asyncio.create_task(app.ready.wait())
    try:
        await asyncio.wait({worker, ready}, return_when=asyncio.FIRST_COMPLETED)
        if app.ready.is_set():
            yield
    finally:
        ready.cancel()
        stop.set()
        await asyncio.wait({worker, ready})
        worker.result()


# ── The stages' types ────────────────────────────────────────────────────────────────────────────


def _require_runner(name: str, runner: Any) -> None:
    if isinstance(runner, StageRegistration) or callable(getattr(runner, "execute", None)):
        return
    if is_batch(runner) or (callable(runner) and not isinstance(runner, type)):
        return
    said = runner.__name__ if isinstance(runner, type) else type(runner).__name__
    raise StageRegistryError(
        f"stage {name!r}: {said} has no execute()",
        help="give a class or an object with execute(ctx), or a function",
    )


def _registered(stages: Sequence[StageSpec]) -> tuple[StageRegistry, dict[str, str]]:
    """Every runner under a type, and the stages' types by name. A runner that is used twice has
    one type; two runners whose types would be the same have the stages' names as types."""
    from streams.topology.model import BUILT_IN, LATER_KINDS

    registry = StageRegistry()
    types: dict[str, str] = {}
    known: dict[tuple[int, StageKind | None], str] = {}
    for spec in stages:
        if spec.runner is None:
            continue
        key = (id(spec.runner), spec.kind)
        if key not in known:
            made = _registration(spec)
            fixed = isinstance(spec.runner, StageRegistration) and made.type not in types.values()
            taken = {*registry.stages, *(BUILT_IN | LATER_KINDS if not fixed else ())}
            chosen = _free(made.type, spec.name, taken)
            registry.register(_under(made, chosen))
            known[key] = chosen
        types[spec.name] = known[key]
    return registry, types


def _free(wanted: str, name: str, taken: set[str]) -> str:
    from streams.topology.steps import slug

    if wanted not in taken:
        return wanted
    own = slug(name)
    candidate = own if _TYPE.fullmatch(own) else f"stage-{own}".rstrip("-")[:60]
    number = 1
    found = candidate
    while found in taken:
        number += 1
        found = f"{candidate[:58]}-{number}"
    return found


def _under(made: StageRegistration, type: str) -> StageRegistration:
    if made.type == type:
        return made
    return dataclasses.replace(made, metadata=dataclasses.replace(made.metadata, stage_type=type))


def _registration(spec: StageSpec) -> StageRegistration:
    runner = spec.runner
    if isinstance(runner, StageRegistration):
        made = runner
    elif isinstance(runner, type) and issubclass(runner, Stage):
        made = registration_of(runner)
    elif callable(getattr(runner, "execute", None)) or is_batch(runner):
        made = _registration_of_object(runner)
    else:
        made = stage_of_function(type=_word(getattr(runner, "__name__", ""), spec.name))(runner)
    return made if spec.kind is None else dataclasses.replace(made, kind=spec.kind)


def _registration_of_object(runner: Any) -> StageRegistration:
    """Of a class that inherits from nothing of ours, or of an object."""
    made_by = runner if isinstance(runner, type) else type(runner)
    own = getattr(runner, "metadata", None)
    kind = getattr(runner, "kind", None)
    snake = re.sub(r"(?<=.)(?=[A-Z])", "_", made_by.__name__).lower().removesuffix("_stage")
    metadata = own if isinstance(own, StageMetadata) else StageMetadata(
        stage_type=_word(getattr(runner, "stage_type", "") or snake, "stage"),
        description=(made_by.__doc__ or "").strip().partition("\n")[0],
    )  # fmt: skip
    return StageRegistration(
        metadata=metadata,
        builder=(lambda definition: _made(runner, definition))
        if isinstance(runner, type)
        else (lambda _: runner),
        kind=kind if isinstance(kind, StageKind) else StageKind.TRANSFORM,
        config=getattr(runner, "Config", None),
        inline=getattr(runner, "inline", False) is True,
        sets=tuple(getattr(runner, "sets", ())),
    )


def _made(cls: Any, definition: StageDefinition) -> Any:
    """An object of the class; its constructor is given `config`, or the config's entries, if it
    takes them."""
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return cls()
    config = dict(definition.config)
    if "config" in parameters:
        return cls(config=config)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return cls(**config) if open_ended or config.keys() <= parameters.keys() else cls()


def _word(wanted: str, name: str) -> str:
    """The wanted word if it can be a type, else one made of the stage's name."""
    return wanted if _TYPE.fullmatch(wanted) else _free("", name, {""})


# ── The topology's text ──────────────────────────────────────────────────────────────────────────


def _yaml(pipeline: Pipeline, types: Mapping[str, str]) -> str:
    lines = [f"pipeline: {_value(pipeline.name)}", f"version: {_value(pipeline.version)}"]
    if pipeline.params is not None:
        lines += ["params:", *(f"  {_value(k)}: {_value(v)}" for k, v in pipeline.params.items())]
    policies = {spec.name: spec.policy for spec in pipeline.stages if spec.policy is not None}
    if policies:
        lines += ["policies:", *(f"  {_value(k)}: {_policy(v)}" for k, v in policies.items())]
    lines.append("stages:" if pipeline.stages else "stages: []")
    for spec in pipeline.stages:
        lines += [
            f"  {'- ' if n == 0 else '  '}{key}: {_value(value)}"
            for n, (key, value) in enumerate(_entry(spec, types).items())
        ]
    return "\n".join(lines) + "\n"


def _entry(spec: StageSpec, types: Mapping[str, str]) -> dict[str, Any]:
    from streams.topology.steps import slug

    # As an `id` where the id that follows from the name would be spelt differently.
    exact = _ID.fullmatch(spec.name) is not None and slug(spec.name) != spec.name
    return {
        "id" if exact else "name": spec.name,
        "type": types.get(spec.name, "gate"),
        **spec.fields,
    }


def _policy(policy: Policy) -> str:
    values = _given(msgspec.to_builtins(policy))
    return _value(values)


def _value(value: Any) -> str:
    """The value in one line of YAML: a plain word where that is safe, else JSON."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _NOT_PLAIN:
            return value
        text = json.dumps(value, ensure_ascii=False)
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_value(k)}: {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, allow_nan=False)


def _plain_config(name: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config as JSON has it; None if it is empty."""
    try:
        plain = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"config of stage {name!r}: {error}",
            code="J104",
            help="give objects to the stage itself: with_stage(name, MyStage(connection))",
        ) from None
    return plain or None


def _config_of(runner: Any) -> Mapping[str, Any]:
    """The config a stage object brings: the runtime hands every stage its config anew."""
    own = runner.config if isinstance(runner, Stage) else None
    if own is None:
        return {}
    dump = getattr(own, "model_dump", None)
    found: Mapping[str, Any] = dump(mode="json") if callable(dump) else own
    return found


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _names(dependencies: Sequence[str]) -> list[str]:
    return [dependencies] if isinstance(dependencies, str) else list(dependencies)


def _duration(given: float | str | None) -> str | None:
    return given if given is None or isinstance(given, str) else spell(round(given * 1000))


def _given_with(
    ctx: object, params: Mapping[str, Any] | None, data: Any
) -> tuple[dict[str, Any], Any]:
    """Parameters and data of a run: those of `ctx`, and what was given beside it, which wins."""
    if not isinstance(ctx, ContextSnapshot):
        raise TypeError(f"ctx must be a ContextSnapshot, not {type(ctx).__name__}")
    return {**ctx.params, **(params or {})}, ctx.data if data is None else data


def _submitted(ctx: ContextSnapshot, data: Any) -> Any:
    """The snapshot as a job's data: what `ctx.snapshot` is made of where only the log connects
    the one who submits with the stages."""
    if data is not None and not isinstance(data, Mapping):
        return data
    run = ctx.run_id
    fields = {
        "input_text": ctx.input_text,
        "execution_mode": ctx.execution_mode,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "org_id": run.org_id,
        "interaction_id": run.interaction_id,
    }
    return {**_given(fields), **(data or {})}
