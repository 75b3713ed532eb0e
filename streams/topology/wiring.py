"""Which step follows which: dependencies and gates become edges; circles are found."""

from __future__ import annotations

import graphlib
import itertools

from streams.topology.expressions import reads_of_stages
from streams.topology.findings import did_you_mean
from streams.topology.inputs import seen_through
from streams.topology.model import StageModel
from streams.topology.plan import USER_CODE
from streams.topology.source import Path, Source
from streams.topology.steps import Step, Steps

LEDGER = "@ledger"


def wire(source: Source, steps: Steps) -> bool:
    """Gives every step its edges; False, with findings, if they go in a circle."""
    staged = [step for step in steps.all if step.stage is not None]
    if any(_named(step.stage) is not None for step in staged if step.stage):
        for step in staged:
            _depend(source, steps, step)
    else:
        for before, step in itertools.pairwise(staged):
            before.edges[step.id] = "next"
            step.needs = [before.id]
    for step in staged:
        _wants_ledger(step)
    for step in steps.all:
        if step.stage is None:
            _insert(source, steps, step)
    if _circle(source, steps):
        return False
    for step in steps.all:
        if step.gate is not None:
            _resume(source, steps, step)
            _timeout(source, steps, step)
    return not _circle(source, steps)


def _named(stage: StageModel) -> list[str] | None:
    """The dependencies that make the list a graph: none but `@ledger` does not."""
    if stage.depends_on is None or (stage.depends_on and set(stage.depends_on) == {LEDGER}):
        return None
    return stage.depends_on


def _wants_ledger(step: Step) -> None:
    stage = step.stage
    overrides = stage.metadata_overrides if stage else None
    if stage and LEDGER in (stage.depends_on or ()):
        step.ledger = True
    if overrides and LEDGER in (overrides.dependencies or ()):
        step.ledger = True


def _depend(source: Source, steps: Steps, step: Step) -> None:
    assert step.stage is not None
    for n, reference in enumerate(step.stage.depends_on or ()):
        path: Path = (*step.place, "depends_on", n)
        if reference == LEDGER:
            continue
        before = steps.resolve(reference, path)
        if before is None:
            continue
        if before is step:
            source.fault("T114", f"`{step.id}` depends on itself", path, "remove it")
        elif before.id in step.needs:
            source.fault("T115", f"`{reference}` is listed twice", path, "remove one")
        else:
            step.needs.append(before.id)
            before.edges[step.id] = "next"


def _insert(source: Source, steps: Steps, gate: Step) -> None:
    """Puts a gate with `after` on the edges leaving that step, behind gates put there before."""
    assert gate.gate is not None
    assert gate.gate.after is not None
    path = (*gate.place, "after")
    before = steps.resolve(gate.gate.after, path)
    if before is None:
        return
    if before is gate:
        source.fault("T114", f"gate `{gate.id}` comes after itself", path)
        return
    gate.needs = [before.id]
    last = before
    while True:
        behind = next(
            (steps.by_id[to] for to in last.edges if _sits_after(steps.by_id[to], before, gate)),
            None,
        )
        if behind is None:
            break
        last = behind
    for to, kind in list(last.edges.items()):
        if kind == "next" and to != gate.id:
            gate.edges.setdefault(to, "next")
            del last.edges[to]
    last.edges[gate.id] = "next"


def _sits_after(step: Step, before: Step, gate: Step) -> bool:
    return step is not gate and step.stage is None and step.needs == [before.id]


def _resume(source: Source, steps: Steps, step: Step) -> None:
    spec = step.gate
    if spec is None or spec.resume_stage is None:
        return
    path = spec.at("resume_stage")
    target = steps.resolve(spec.resume_stage, path)
    if target is None or target.id in reach(steps, step.id) - {step.id}:
        return
    if target is step or step.id in reach(steps, target.id):
        source.fault(
            "T206", f"`{target.id}` comes before the gate `{spec.name}`", path, "name a later stage"
        )
    elif any(target.id in other.edges for other in steps.all):
        hint = f"add `depends_on: [{step.id}]` to `{target.id}`"
        source.fault(
            "T206", f"`{target.id}` does not come after the gate `{spec.name}`", path, hint
        )
    else:
        step.edges[target.id] = "next"


def _timeout(source: Source, steps: Steps, step: Step) -> None:
    spec = step.gate
    if spec is None or spec.on_timeout in (None, "fail", "skip", "continue"):
        return
    path = spec.at("on_timeout")
    target = steps.find(str(spec.on_timeout))
    if target is None:
        words = ["fail", "skip", "continue", *steps.by_id]
        hint = did_you_mean(str(spec.on_timeout), words, "choices")
        source.fault(
            "T207", f"`on_timeout: {spec.on_timeout}` is no choice and no stage", path, hint
        )
    elif target is step or step.id in reach(steps, target.id):
        source.fault(
            "T207", f"`{target.id}` comes before the gate `{spec.name}`", path, "name a later stage"
        )
    else:
        step.edges.setdefault(target.id, "timeout")


def reach(steps: Steps, start: str) -> set[str]:
    """The step and everything that can come after it."""
    found = {start}
    pending = [start]
    while pending:
        for to in steps.by_id[pending.pop()].edges:
            if to not in found:
                found.add(to)
                pending.append(to)
    return found


def _circle(source: Source, steps: Steps) -> bool:
    order = graphlib.TopologicalSorter[str]()
    for step in steps.all:
        order.add(step.id)
        for to in step.edges:
            order.add(to, step.id)
    try:
        order.prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        start = min(range(len(circle) - 1), key=lambda n: circle[n])
        turned = [*circle[start:-1], *circle[: start + 1]]
        second = steps.by_id[turned[1]]
        place = (*second.place, "depends_on" if second.stage else "after")
        source.fault(
            "T114",
            f"stages wait for each other: {' > '.join(turned)}",
            place,
            "remove one of these dependencies",
        )
        return True
    return False


def upstream(steps: Steps) -> dict[str, set[str]]:
    """Step → everything that can come before it."""
    before: dict[str, set[str]] = {step.id: set() for step in steps.all}
    order = graphlib.TopologicalSorter({step.id: () for step in steps.all})
    for step in steps.all:
        for to in step.edges:
            order.add(to, step.id)
    for identity in order.static_order():
        for to in steps.by_id[identity].edges:
            before[to] |= before[identity] | {identity}
    return before


def carried(steps: Steps, before: dict[str, set[str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Edge → whose outputs must travel on it, because something from there on reads them."""
    order = graphlib.TopologicalSorter({step.id: list(step.edges) for step in steps.all})
    rank = {step.id: n for n, step in enumerate(steps.all)}
    live: dict[str, set[str]] = {}
    for identity in order.static_order():
        step = steps.by_id[identity]
        wanted = set(read_ids(step))
        if step.kind in USER_CODE:
            wanted.update(
                seen_through(
                    identity,
                    lambda other: steps.by_id[other].needs,
                    lambda other: steps.by_id[other].kind in USER_CODE,
                )
            )
        live[identity] = wanted.union(*(live[to] for to in step.edges))
    found = {}
    for step in steps.all:
        passed = before[step.id] | {step.id}
        for to in step.edges:
            carry = passed if "*" in live[to] else passed & live[to]
            found[step.id, to] = tuple(sorted(carry, key=rank.__getitem__))
    return found


def read_ids(step: Step) -> set[str]:
    """Stages whose outputs the step's expressions read; `*`: only running it tells."""
    return {identity for identity, _ in reads_of_stages(read for read, _ in step.reads)}
