"""Checked steps → the plan: plain values, the same whatever the order of keys in the file."""

from __future__ import annotations

from streams.topology.cel_syntax import Read
from streams.topology.expressions import compile_expression
from streams.topology.gates import GateSpec
from streams.topology.model import StageModel, TopologyModel
from streams.topology.plan import (
    Batch,
    Clause,
    Edge,
    Gate,
    OnTimeout,
    Param,
    Part,
    Plan,
    Policy,
    SourceTopic,
)
from streams.topology.policies import ALIASES, ONCE, at_stage, from_model, named
from streams.topology.reading import LEDGER_ROOTS
from streams.topology.steps import Step, Steps
from streams.topology.wiring import carried

ANY_FACT = "*"
"""In `Gate.facts`: which facts it reads is only known when it is judged."""


def compile_plan(
    model: TopologyModel,
    pipeline: str,
    params: tuple[Param, ...] | None,
    steps: Steps,
    before: dict[str, set[str]],
    secrets: tuple[str, ...],
    sources: tuple[SourceTopic, ...] = (),
) -> Plan:
    """The plan of a file without faults."""
    policies = {name: from_model(model.policies[name]) for name in sorted(model.policies)}
    carry = carried(steps, before)
    return Plan(
        pipeline=pipeline,
        version=model.version,
        parts=tuple(_part(step, steps, carry, policies) for step in steps.all),
        params=params,
        policies=policies,
        plugins=tuple(entry.callable for entry in model.plugins.stages),
        secrets=secrets,
        deadline_ms=model.deadline,
        retention_ms=model.retention.jobs,
        owner=model.metadata.owner,
        description=model.metadata.description,
        tags=tuple(model.metadata.tags),
        sources=sources,
    )


def _part(
    step: Step,
    steps: Steps,
    carry: dict[tuple[str, str], tuple[str, ...]],
    policies: dict[str, Policy],
) -> Part:
    edges = tuple(Edge(to, kind, carry[step.id, to]) for to, kind in step.edges.items())
    keep = tuple(sorted(step.keep - {""}))
    gate = _gate(step, step.gate, steps) if step.gate else None
    stage = step.stage
    if stage is None:
        desc = (step.gate.desc if step.gate else None) or ""
        return Part(
            step.id, "gate", "gate", step.name, desc, tuple(step.needs), edges, gate=gate, keep=keep
        )
    policy = ALIASES.get(stage.policy, stage.policy) if stage.policy else None
    base = named(stage.policy, policies) or ONCE
    return Part(
        path=step.id,
        kind=step.kind,
        type=step.type,
        name=step.name,
        desc=stage.desc or (step.gate.desc if step.gate and step.gate.desc else ""),
        needs=tuple(step.needs),
        edges=edges,
        condition=_inner(stage.if_),
        ledger=step.ledger,
        pool=stage.pool,
        concurrency=stage.concurrency,
        policy=policy,
        retry=None if gate else at_stage(base, stage.retry, stage.timeout),
        batch=_batch(stage),
        config={} if gate else stage.config,
        uses=stage.uses,
        args=stage.with_,
        echo=stage.echo if stage.echo is not None or step.kind != "echo" else "",
        sleep_ms=step.sleep_ms,
        sleep=_inner(step.sleep),
        message=stage.raise_,
        gate=gate,
        sets=stage.sets,
        keep=keep,
        overrides=stage.metadata_overrides.model_dump(exclude_unset=True)
        if stage.metadata_overrides
        else {},
    )


def _inner(text: str | None) -> str | None:
    """The expression without braces."""
    return None if text is None else compile_expression(text).source


def _batch(stage: StageModel) -> Batch | None:
    if stage.batch is None:
        return None
    wait = stage.batch.max_wait
    return Batch(stage.batch.max_items, Batch().max_wait if wait is None else wait / 1000)


def _gate(step: Step, spec: GateSpec, steps: Steps) -> Gate:
    on_timeout: OnTimeout = "fail"
    target = None
    if spec.on_timeout in ("fail", "skip", "continue"):
        on_timeout = spec.on_timeout  # type: ignore[assignment]
    elif spec.on_timeout is not None:
        found = steps.find(spec.on_timeout)
        on_timeout, target = "route", found.id if found else None
    return Gate(
        name=spec.name,
        when=_inner(spec.when),
        until=_inner(spec.until),
        clauses=spec.clauses or (),
        mode="any" if spec.mode == "any" else "all",
        timeout_ms=spec.timeout_ms,
        on_timeout=on_timeout,
        on_timeout_to=target,
        facts=_facts(step, spec.clauses or ()),
    )


def _facts(step: Step, clauses: tuple[Clause, ...]) -> tuple[str, ...]:
    """Names of facts whose change may open the gate."""
    found = {clause.field.split(".")[0] for clause in clauses} - {"stages"}
    for read, _ in step.reads:
        if read.root in LEDGER_ROOTS:
            found.add(_fact(read))
    return tuple(sorted(found))


def _fact(read: Read) -> str:
    path = read.path
    if read.root == "ledger" and path and path[0] in ("facts", "metadata"):
        path = path[1:]
    return path[0] if path and isinstance(path[0], str) else ANY_FACT
