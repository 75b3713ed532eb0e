"""The checker: a file's text → a plan and findings. `validate` and `worker` use the same one."""

from __future__ import annotations

from pathlib import PurePath

from streams.topology.cel_syntax import Read
from streams.topology.compile import compile_plan
from streams.topology.declarations import declared
from streams.topology.findings import Finding, did_you_mean, place_of
from streams.topology.gates import GateSpec, merged, spec_of, with_condition
from streams.topology.model import StageModel, TopologyModel
from streams.topology.origins import source_topics
from streams.topology.plan import Clause, Param, Plan, SourceTopic
from streams.topology.policies import SHIPPED, from_model, named
from streams.topology.reading import CHANGING_ROOTS, Reader
from streams.topology.shape import fit, gate_config
from streams.topology.source import Path, Source, read_source
from streams.topology.steps import Step, Steps, slug, step_of
from streams.topology.types import StageTypes
from streams.topology.wiring import upstream, wire


def check_text(
    text: str, name: str, types: StageTypes | None = None
) -> tuple[Plan | None, list[Finding]]:
    """The plan (None if anything is wrong) and all findings, in the order of the file."""
    return check_source(read_source(text, name), types)


def check_source(
    source: Source, types: StageTypes | None = None
) -> tuple[Plan | None, list[Finding]]:
    """The same of a file that has been read, and that nobody has checked before: the findings are
    noted in it."""
    plan = _Check(source, types).run() if source.root or not source.findings else None
    return None if source.faults else plan, sorted(source.findings, key=place_of)


class _Check:
    def __init__(self, source: Source, types: StageTypes | None) -> None:
        self.source = source
        self.types = types
        self.steps = Steps(source)
        self.gates: dict[str, GateSpec] = {}
        self.sources: tuple[SourceTopic, ...] = ()

    def run(self) -> Plan | None:
        model, self.later = fit(self.source)
        if model is None:
            return None
        pipeline = self._pipeline(model)
        params = None if model.params is None else declared(self.source, model.params)
        self._plugins(model)
        self._policies(model)
        self.sources = source_topics(self.source, model)
        self._gates(model)
        self._stages(model)
        reader = Reader(self.source, model, self.steps)
        for step in self.steps.all:
            reader.read(step)
            if step.gate is not None:
                self._condition(reader, step, step.gate)
        if not wire(self.source, self.steps):
            return None
        before = upstream(self.steps)
        for step in self.steps.all:
            self._order(step, before[step.id])
        if self.source.faults:
            return None
        return self._plan(model, pipeline, params, before, reader)

    def _plan(
        self,
        model: TopologyModel,
        pipeline: str,
        params: tuple[Param, ...] | None,
        before: dict[str, set[str]],
        reader: Reader,
    ) -> Plan:
        return compile_plan(
            model,
            pipeline,
            params,
            self.steps,
            before,
            tuple(sorted(reader.secrets)),
            self.sources,
        )

    def _pipeline(self, model: TopologyModel) -> str:
        if model.pipeline is not None:
            return model.pipeline
        stem = PurePath(self.source.name).name.split(".")[0]
        found = slug(stem)
        if not found:
            hint = "add `pipeline: NAME`"
            self.source.fault("T109", f"no name can be made of the file name `{stem}`", (), hint)
        return found

    def _plugins(self, model: TopologyModel) -> None:
        """The true cause first: a stage file that cannot be imported makes its types unknown."""
        for n, entry in enumerate(model.plugins.stages):
            place: Path = ("plugins", "stages", n)
            why = self.types.trouble(entry.callable) if self.types else ""
            if why:
                message = f"`{entry.callable}` cannot be loaded: {why}"
                self.source.fault("T127", message, (*place, "callable"))
            if entry.replace:
                message = "`replace` is not built in this version"
                self.source.fault("T150", message, (*place, "replace"), "remove it", key=True)

    def _policies(self, model: TopologyModel) -> None:
        own = {name: from_model(policy) for name, policy in model.policies.items()}
        for name, policy in model.policies.items():
            back = policy.backoff
            place: Path = ("policies", name)
            if policy.timeout is not None and policy.timeout_seconds is not None:
                self.source.fault(
                    "T113",
                    "`timeout` and `timeout_seconds`",
                    (*place, "timeout"),
                    "keep one",
                    key=True,
                )
            if back.strategy != "none" and (
                back.initial < 0.05 or back.maximum < max(0.1, back.initial)
            ):
                message = "backoff needs initial ≥ 0.05, maximum ≥ 0.1, and maximum ≥ initial"
                self.source.fault("T117", message, (*place, "backoff"))
        for n, stage in enumerate(model.stages):
            if stage.policy is not None and named(stage.policy, own) is None:
                hint = did_you_mean(stage.policy, [*own, *SHIPPED], "policies")
                self.source.fault(
                    "T122", f"no policy `{stage.policy}`", ("stages", n, "policy"), hint
                )

    def _gates(self, model: TopologyModel) -> None:
        order = list(range(len(model.gates)))
        root = self.source.root
        written = root.find("gates") if root else None
        if written and written[1].keys is not None:
            order.sort(key=lambda n: model.gates[n].name)
        for n in order:
            gate = model.gates[n]
            place: Path = ("gates", n)
            if gate.name in self.gates:
                self.source.fault(
                    "T111",
                    f"the gate `{gate.name}` is declared twice",
                    (*place, "name"),
                    "keep one",
                )
                continue
            if gate.name and not slug(gate.name):
                self.source.fault("T110", f"`{gate.name}` cannot be a gate's name", place, key=True)
            self.gates[gate.name] = spec_of(self.source, gate, gate.name, place)

    def _stages(self, model: TopologyModel) -> None:
        known = frozenset(self.types.known() if self.types else ())
        functions = frozenset(self.types.known_functions() if self.types else ())
        for n, stage in enumerate(model.stages):
            step = step_of(self.source, stage, n)
            if step is None:
                continue
            if step.kind == "gate":
                step.gate = self._gate_of(step, stage, n)
            self.steps.add(step)
            if self.types is None or n in self.later:
                continue
            if step.kind == "stage":
                self._known_type(self.types, known, step, stage)
            elif step.kind == "uses" and stage.uses:
                self._known_function(self.types, functions, step, stage)
        for spec in self.gates.values():
            self._place_gate(spec)

    def _known_type(
        self, types: StageTypes, known: frozenset[str], step: Step, stage: StageModel
    ) -> None:
        if step.type not in known:
            hint = did_you_mean(step.type, known, "types")
            message = f"unknown stage type `{step.type}`"
            self.source.fault("T105", message, (*step.place, "type"), hint)
            return
        step.ledger = step.ledger or types.wants_ledger(step.type)
        for fault in types.check_config(step.type, stage.config):
            path: Path = (*step.place, "config", *fault.path)
            self.source.fault("T130", fault.message, path, fault.hint, key=True)

    def _known_function(
        self, types: StageTypes, functions: frozenset[str], step: Step, stage: StageModel
    ) -> None:
        reference = str(stage.uses)
        name, _, version = reference.partition("@")
        newest = version in ("", "latest") and any(f.startswith(f"{name}@") for f in functions)
        if reference not in functions and not newest:
            hint = did_you_mean(reference, functions, "functions")
            message = f"no function `{reference}` is registered"
            self.source.fault("T121", message, (*step.place, "uses"), hint)
            return
        for fault in types.check_arguments(reference, stage.with_):
            path: Path = (*step.place, "with", *fault.path)
            self.source.fault("T130", fault.message, path, fault.hint, key=True)

    def _gate_of(self, step: Step, stage: StageModel, n: int) -> GateSpec | None:
        """What a gate stage waits for: the gate it names, its own config, or both together."""
        name = stage.gate
        in_config = stage.config.get("gate")
        if in_config is not None and not isinstance(in_config, str):
            self.source.fault(
                "T108", "`gate` must be a gate's name", (*step.place, "config", "gate")
            )
            return None
        if name and in_config and name != in_config:
            self.source.fault("T205", "two gates at one stage", (*step.place, "gate"), "keep one")
        name = name or in_config
        config = gate_config(self.source, stage.config, n)
        if config is None:
            return None
        place: Path = (*step.place, "config") if stage.config else step.place
        own = spec_of(self.source, config, name or step.id, place)
        own = with_condition(self.source, own, stage.condition, step.place)
        if stage.timeout is not None:
            timed = GateSpec(own.name, step.place, timeout_ms=stage.timeout)
            own = merged(self.source, own, timed)
        if own.after is not None:
            message = "a gate stage stands where its `depends_on` puts it"
            self.source.fault("T113", message, (*place, "after"), "remove it", key=True)
        if name is None and not (own.until or own.clauses):
            name = step.id if step.id in self.gates else None
        if name is None:
            return own
        spec = self.gates.get(name)
        if spec is None:
            if self.gates or not (own.until or own.clauses):
                hint = did_you_mean(name, self.gates, "gates")
                path = (*step.place, "gate") if stage.gate else (*place, "gate")
                self.source.fault("T203", f"no gate `{name}` under `gates:`", path, hint)
            return own
        spec.used = True
        if spec.after is not None:
            message = f"the gate `{name}` has `after` and a stage of its own"
            self.source.fault("T205", message, spec.at("after"), "keep one", key=True)
        return merged(self.source, spec, own)

    def _place_gate(self, spec: GateSpec) -> None:
        """Makes a part of a gate that stands on edges; refuses one that nothing uses."""
        if spec.after is not None:
            identity = (
                spec.name
                if spec.name.isascii() and slug(spec.name) == spec.name.lower()
                else slug(spec.name)
            )
            if identity:
                self.steps.add(Step(identity, "gate", "gate", spec.place, None, spec))
        elif not spec.used:
            hint = f"say `after: STAGE`, or `config: {{gate: {spec.name}}}` in a gate stage"
            self.source.fault(
                "T204", f"nothing uses the gate `{spec.name}`", spec.place, hint, key=True
            )

    def _condition(self, reader: Reader, step: Step, spec: GateSpec) -> None:
        """Reads a gate's condition and refuses one that nobody could open."""
        if spec.when is not None:
            reader.condition(step, spec.when, spec.at("when"))
        if spec.clauses:
            for clause in spec.clauses:
                self._clause(reader, step, spec, clause)
            return
        if spec.until is None:
            hint = "give it `until: facts.NAME`, or `field` and `equals`"
            self.source.fault(
                "T202", f"gate `{spec.name}` has no condition", spec.place, hint, key=True
            )
            return
        expression = reader.condition(step, spec.until, spec.at("until"))
        if expression is not None and not expression.roots & CHANGING_ROOTS:
            what = "only values that never change" if expression.roots else "nothing"
            self.source.fault(
                "T202",
                f"nobody can open gate `{spec.name}`: its condition reads {what}",
                spec.at("until"),
                "read a fact: `until: facts.reviewed`",
            )

    def _clause(self, reader: Reader, step: Step, spec: GateSpec, clause: Clause) -> None:
        words = clause.field.split(".")
        if words[0] != "stages" or len(words) < 2:
            return
        path = spec.at("field" if spec.places.get("clauses") else "condition")
        step.reads.append((Read("stages", tuple(words[1:]), True), path))
        if words[1] not in self.steps.by_id:
            reader.unknown_stage(words[1], path)

    def _order(self, step: Step, before: set[str]) -> None:
        """Outputs that are read must come from stages before; notes what gates need kept."""
        for read, path in step.reads:
            if read.root != "stages":
                continue
            stage_id = read.path[0] if read.path else None
            if not isinstance(stage_id, str) or stage_id not in self.steps.by_id:
                continue
            if stage_id not in before:
                self._not_before(step, stage_id, path)
            elif step.gate is not None:
                self.steps.by_id[stage_id].keep.add(_kept_field(read))

    def _not_before(self, step: Step, stage_id: str, path: Path) -> None:
        if step.gate is not None:
            message = f"gate `{step.gate.name}` reads `{stage_id}`, which does not come before it"
            hint = f"let the gate depend on `{stage_id}`, or read a fact"
            self.source.fault("T201", message, path, hint)
            return
        own = stage_id == step.id
        message = (
            "a stage cannot read its own output"
            if own
            else f"`{stage_id}` does not come before `{step.id}`"
        )
        hint = "in `sets` it is `result`" if own else f"add `{stage_id}` to `depends_on`"
        self.source.fault("T125", message, path, hint)


def _kept_field(read: Read) -> str:
    """The field of an output that a gate reads; "*": all of it, "": none (only the status)."""
    below = read.path[1:]
    if below and below[0] in ("status", "errors", "attempts"):
        return ""
    if below and below[0] == "outputs":
        below = below[1:]
    return str(below[0]) if below else "*"
