"""A plan as a picture: text, Mermaid, or JSON."""

from __future__ import annotations

import json
from typing import Any, Literal

from streams.event_rules import timestamp
from streams.topology.durations import spell
from streams.topology.plan import Clause, Gate, Part, Plan, SourceTopic

GraphFormat = Literal["text", "mermaid", "json"]


def render(plan: Plan, format: GraphFormat = "text") -> str:
    """The picture, ending without a newline."""
    if format == "json":
        return json.dumps(picture(plan), indent=2, ensure_ascii=False)
    return _mermaid(plan) if format == "mermaid" else _text(plan)


def picture(plan: Plan) -> dict[str, Any]:
    """The plan as plain values with stable names."""
    return {
        "pipeline": plan.pipeline,
        "version": plan.version,
        "digest": plan.digest,
        "sources": [_source(each) for each in plan.sources],
        "stages": [_stage(plan, part) for part in plan.parts],
        "edges": [
            {"from": part.path, "to": edge.to, "kind": edge.kind, "carry": list(edge.carry)}
            for part in plan.parts
            for edge in part.edges
        ],
    }


def _source(source: SourceTopic) -> dict[str, Any]:
    start = source.start
    return {
        "topic": source.topic,
        "format": source.format,
        "id": source.id,
        "start": start if isinstance(start, str) else timestamp(start),
        "on_error": source.on_error,
        "deletes": source.deletes,
    }


def _told(source: dict[str, Any]) -> str:
    """Where a source begins and what becomes of odd records, in a few words."""
    words = [f"from {source['start']}"]
    if source["id"]:
        words.append(f"id {source['id']}")
    words += [f"broken records: {source['on_error']}", f"deletions: {source['deletes']}"]
    return "; ".join(words)


def _stage(plan: Plan, part: Part) -> dict[str, Any]:
    return {
        "id": part.path,
        "name": part.name or part.path,
        "kind": part.kind,
        "type": part.type,
        "depends_on": list(part.needs),
        "entry": plan.entries[part.path],
        "pool": part.pool,
        "condition": part.condition,
        "waits_for": waits_for(part.gate) if part.gate else None,
    }


def waits_for(gate: Gate) -> str:
    """A gate's condition, limit and what then, in a few words."""
    joint = " and " if gate.mode == "all" else " or "
    words = gate.until or joint.join(_test(clause) for clause in gate.clauses)
    if gate.when:
        words = f"{words}, if {gate.when}"
    if gate.timeout_ms is None:
        return words
    then = f"go to {gate.on_timeout_to}" if gate.on_timeout == "route" else gate.on_timeout
    return f"{words}; after {spell(gate.timeout_ms)}: {then}"


def _test(clause: Clause) -> str:
    if clause.operator != "equals":
        return f"{clause.field} {clause.operator}"
    return f"{clause.field} == {json.dumps(clause.value, ensure_ascii=False)}"


def _text(plan: Plan) -> str:
    rows = [
        (
            f"topic {each['topic']}",
            each["format"],
            f"-> {', '.join(plan.roots)}",
            _told(each),
        )
        for each in map(_source, plan.sources)
    ]
    for path in plan.order:
        part = plan.by_path[path]
        kind = part.type if part.kind == "stage" else part.uses or part.kind
        ways = ", ".join(
            edge.to if edge.kind == "next" else f"{edge.to} (timeout)" for edge in part.edges
        )
        notes = [waits_for(part.gate)] if part.gate else []
        if part.condition:
            notes.append(f"if {part.condition}")
        if part.pool != "default":
            notes.append(f"pool {part.pool}")
        rows.append((path, kind, f"-> {ways}" if ways else "(end)", "; ".join(notes)))
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    lines = [f"{plan.pipeline} version {plan.version} ({plan.digest})"]
    for row in rows:
        cells = (row[n].ljust(widths[n]) for n in range(3))
        lines.append(("  " + "  ".join((*cells, row[3]))).rstrip())
    return "\n".join(lines)


def _mermaid(plan: Plan) -> str:
    names = {part.path: f"s{n}" for n, part in enumerate(plan.parts)}
    lines = ["flowchart TD"]
    for part in plan.parts:
        label = _label(part)
        opening, closing = ('{{"', '"}}') if part.kind == "gate" else ('["', '"]')
        lines.append(f"    {names[part.path]}{opening}{label}{closing}")
    for n, source in enumerate(plan.sources):
        lines.append(f'    t{n}[/"{_plain(source.topic)}"/]')
        lines += [f"    t{n} --> {names[root]}" for root in plan.roots]
    for part in plan.parts:
        for edge in part.edges:
            arrow = "-->" if edge.kind == "next" else "-. timeout .->"
            lines.append(f"    {names[part.path]} {arrow} {names[edge.to]}")
    return "\n".join(lines)


def _label(part: Part) -> str:
    return _plain(part.path if part.name in ("", part.path) else f"{part.path}: {part.name}")


def _plain(name: str) -> str:
    return "".join(
        letter if letter.isalnum() or letter in " .:/_-" else f"#{ord(letter)};" for letter in name
    )
