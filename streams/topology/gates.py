"""Gates of a file in one form, whichever of the three spellings described them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

from streams.topology.durations import spell
from streams.topology.model import ConditionModel, GateModel
from streams.topology.plan import Clause
from streams.topology.source import Path, Source

_FIELD = re.compile(r"[A-Za-z_][\w-]*(\.[A-Za-z0-9_][\w-]*)*")
_LOOKUPS = ("ledger.", "facts.", "metadata.")


@dataclass
class GateSpec:
    """What is said of a gate; None: not said."""

    name: str
    place: Path
    after: str | None = None
    when: str | None = None
    until: str | None = None
    clauses: tuple[Clause, ...] | None = None
    mode: str | None = None
    timeout_ms: int | None = None
    on_timeout: str | None = None
    resume_stage: str | None = None
    desc: str | None = None
    used: bool = False
    places: dict[str, Path] = field(default_factory=dict)
    """Field → where it is written, if not at the gate's own place."""

    def at(self, name: str) -> Path:
        return (*self.places.get(name, self.place), name)


def spec_of(source: Source, model: GateModel, name: str, place: Path) -> GateSpec:
    """The gate as described at one place."""
    spec = GateSpec(name, place, model.after, model.when, model.until)
    spec.on_timeout = model.on_timeout
    spec.resume_stage = model.resume_stage
    spec.desc = model.desc or None
    _conditions(source, spec, model)
    _timeouts(source, spec, model)
    return spec


def with_condition(
    source: Source, spec: GateSpec, condition: ConditionModel | None, place: Path
) -> GateSpec:
    """The gate with the `condition` that stands at the stage itself."""
    if condition is None:
        return spec
    own = spec_of(source, GateModel(condition=condition), spec.name, place)
    return merged(source, spec, own)


def merged(source: Source, declared: GateSpec, own: GateSpec) -> GateSpec:
    """What is declared under `gates:`, completed by what its stage says; differences are noted."""
    changes: dict[str, Any] = {}
    for part in fields(GateSpec):
        if part.name in ("name", "place", "places", "used", "after"):
            continue
        here, there = getattr(own, part.name), getattr(declared, part.name)
        if here is None:
            continue
        if there is not None and here != there:
            source.fault(
                "T205",
                f"gate `{declared.name}`: `{_word(part.name)}` differs from the one "
                f"at line {source.line_of(declared.at(part.name))}",
                own.at(part.name),
                "say it once",
            )
            continue
        changes[part.name] = here
    places = {**declared.places, **dict.fromkeys(changes, own.place)}
    if ("until" in changes and declared.clauses) or ("clauses" in changes and declared.until):
        source.fault(
            "T205", f"gate `{declared.name}` has two conditions", own.at("until"), "keep one"
        )
    return replace(declared, **changes, places=places)


def _word(name: str) -> str:
    return {"timeout_ms": "timeout", "clauses": "condition"}.get(name, name)


def _conditions(source: Source, spec: GateSpec, model: GateModel) -> None:
    condition = model.condition
    found: list[tuple[str, tuple[Clause, ...]]] = []
    if model.field is not None:
        found.append(("field", _equals(source, spec, model, ())))
    elif "equals" in model.model_fields_set:
        source.fault("T109", "`equals` without `field`", (*spec.place, "equals"), key=True)
    if condition and condition.field is not None:
        found.append(("condition", _equals(source, spec, condition, ("condition",))))
    if condition and condition.clauses:
        found.append(("condition", _clauses(source, spec, condition)))
        spec.mode = condition.mode
    if model.conditions:
        found.append(
            (
                "conditions",
                tuple(
                    Clause(
                        _field(source, test.key, (*spec.place, "conditions", n, "key")),
                        "equals",
                        test.expected,
                    )
                    for n, test in enumerate(model.conditions)
                ),
            )
        )
    if condition and not found:
        source.fault(
            "T109",
            "the condition tests nothing",
            (*spec.place, "condition"),
            "give it `field` or `clauses`",
            key=True,
        )
    if model.until is not None and found:
        source.fault(
            "T205", "`until` and another condition", (*spec.place, "until"), "keep one", key=True
        )
    if found:
        spec.clauses = found[0][1]
        for where, clauses in found[1:]:
            if clauses != spec.clauses:
                source.fault(
                    "T205",
                    f"`{found[0][0]}` and `{where}` say different things",
                    (*spec.place, where),
                    "keep one",
                    key=True,
                )


def _equals(
    source: Source, spec: GateSpec, model: GateModel | ConditionModel, below: Path
) -> tuple[Clause, ...]:
    name = _field(source, str(model.field), (*spec.place, *below, "field"))
    given = "equals" in model.model_fields_set
    return (Clause(name, "equals", model.equals if given else True),)


def _clauses(source: Source, spec: GateSpec, condition: ConditionModel) -> tuple[Clause, ...]:
    found = []
    for n, clause in enumerate(condition.clauses):
        path = (*spec.place, "condition", "clauses", n)
        has_value = "value" in clause.model_fields_set
        if clause.operator == "equals" and not has_value:
            source.fault("T109", "`equals` needs a `value`", path)
        if clause.operator != "equals" and has_value:
            source.fault(
                "T113",
                f"`{clause.operator}` takes no `value`",
                (*path, "value"),
                "remove it",
                key=True,
            )
        name = _field(source, clause.field, (*path, "field"))
        found.append(Clause(name, clause.operator, clause.value))
    return tuple(found)


def _field(source: Source, written: str, path: Path) -> str:
    """The name that is looked up: facts, metadata, ledger and bare names mean the same."""
    name = written.strip()
    if name.startswith("${{") and name.endswith("}}"):
        name = name[3:-2].strip()
    if not _FIELD.fullmatch(name):
        source.fault(
            "T108", f"`{written}` is not a field", path, "a dotted name: metadata.pdf_ir_ready"
        )
        return name
    for _ in range(2):
        for root in _LOOKUPS:
            name = name.removeprefix(root)
    return name


def _timeouts(source: Source, spec: GateSpec, model: GateModel) -> None:
    given = [
        ("timeout", model.timeout),
        ("timeout_seconds", model.timeout_seconds),
        ("condition", model.condition.timeout_seconds if model.condition else None),
    ]
    found = [(name, ms) for name, ms in given if ms is not None]
    if found:
        spec.timeout_ms = found[0][1]
        for name, ms in found[1:]:
            if ms != spec.timeout_ms:
                message = (
                    f"gate `{spec.name}` has two timeouts, {spell(spec.timeout_ms)} and {spell(ms)}"
                )
                source.fault("T205", message, (*spec.place, name), "keep one")
    polled = [("poll_interval_seconds",)] if model.poll_interval_seconds else []
    if model.condition and model.condition.poll_interval_seconds:
        polled.append(("condition", "poll_interval_seconds"))  # type: ignore[arg-type]
    if polled and not any(finding.code == "T208" for finding in source.findings):
        source.fault(
            "T208",
            "`poll_interval_seconds` has no effect: gates are judged when something changes",
            (*spec.place, *polled[0]),
            "remove it",
            key=True,
            warning=True,
        )
