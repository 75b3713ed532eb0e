"""A file's tree against the grammar: the model, and a finding for everything that does not fit."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from streams.topology.findings import did_you_mean, listed
from streams.topology.model import (
    LATER_FIELDS,
    LATER_KINDS,
    MODELS,
    GateModel,
    Grammar,
    TopologyModel,
)
from streams.topology.source import SYNONYMS, Node, Path, Source

_BROKER_KEY = re.compile(
    r"^(kafka|brokers?|sasl([._-].*)?|bootstrap[._-]?servers?|security[._-]protocol|ssl[._-].*"
    r"|.*jaas.*|transactional[._-]id|group[._-]id|client[._-]id)$",
    re.IGNORECASE,
)
_CLEAR_BROKER_KEY = re.compile(
    r"^(sasl([._-].*)?|bootstrap[._-]servers|security[._-]protocol|.*jaas.*)$", re.IGNORECASE
)
_BROKER_VALUE = re.compile(
    r"sasl[_+]?(plaintext|ssl)|org\.apache\.kafka|LoginModule", re.IGNORECASE
)
_WORDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_SOME_TOPIC = "-"
_MISPLACED = {
    "timeout": "stands at the stage itself, not in its config",
    "retry": "stands at the stage itself, not in its config",
    "depends_on": "stands at the stage itself",
    "when": "stands at the gate (`gates:`) or in the gate stage's config",
    "until": "stands at the gate (`gates:`) or in the gate stage's config",
    "equals": "stands at the gate (`gates:`) or in the gate stage's config",
    "field": "stands at the gate (`gates:`) or in the gate stage's config",
    "resume_stage": "stands at the gate (`gates:`) or in the gate stage's config",
    "on_timeout": "stands at the gate (`gates:`) or in the gate stage's config",
    "timeout_seconds": "at a stage it is `timeout: 30s`; at a gate it stands under `gates:`",
    "max_attempts": "at a stage it is `retry:` (extra attempts), or use a policy",
    "env": "comes with `bash`",
    "stages": "one topology a file",
}


def fit(source: Source) -> tuple[TopologyModel | None, frozenset[int]]:
    """The file as a model, and the stages this version does not have (found and set aside)."""
    root = source.root
    if root is None:
        if not source.findings:
            source.fault("T109", "the file is empty", (), "a topology has at least `stages:`")
        return None, frozenset()
    if root.keys is None:
        hint = "write `stages:` above the list" if root.items is not None else ""
        source.fault("T108", "a topology is a mapping with `stages:`", (), hint)
        return None, frozenset()
    refuse_broker_settings(source, root)
    _one_source_as_a_list(root)
    values = root.plain()
    later = _set_later_aside(source, values)
    _normalise(source, values)
    return validated(source, TopologyModel, values, ()), later


def validated(source: Source, model: type[Any], values: Any, prefix: Path) -> Any:
    """The model, with a finding for each error; faulty fields are left out so that the rest is
    checked too. None if that does not help."""
    told: set[Path] = set()
    for _ in range(6):
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for detail in error.errors():
                loc = detail["loc"]
                if loc not in told:
                    _explain(source, detail, (*prefix, *loc))
                    told.add(loc)
                source.damaged.add((*prefix, *loc)[:2])
                _leave_out(values, loc)
    return None


def _leave_out(values: Any, path: Path) -> None:
    """Removes the field at the path, or the nearest field around it that exists."""
    holder: Any = None
    step: Any = None
    for name in path:
        at = _spelt(values, name)
        if at is None:
            break
        holder, step = values, at
        values = values[at]
    if isinstance(holder, dict):
        del holder[step]
        if path[:1] == ("source",) and step == "topic":
            holder[step] = _SOME_TOPIC
    elif isinstance(holder, list) and isinstance(step, int):
        holder[step] = _stand_in(path)


def _stand_in(path: Path) -> dict[str, Any]:
    """The least that may stand in a list in place of a faulty entry."""
    if len(path) <= 2 and path[0] == "stages":
        return {"name": f"stage-{int(path[1]) + 1}", "echo": ""}
    return {"topic": _SOME_TOPIC} if len(path) <= 2 and path[0] == "source" else {}


def _spelt(values: Any, name: str | int) -> Any:
    """The key or index under which a field stands, or None."""
    if isinstance(values, list):
        return name if isinstance(name, int) and name < len(values) else None
    if not isinstance(values, dict):
        return None
    spellings = (name, str(name).replace("_", "-"), *SYNONYMS.get(str(name), ()))
    return next((spelling for spelling in spellings if spelling in values), None)


def _explain(source: Source, detail: Any, path: Path) -> None:
    kind, context = detail["type"], detail.get("ctx", {})
    field = f"`{path[-1]}`" if path and isinstance(path[-1], str) else "this"
    where = describe(source, path[:-1])
    if kind[0] == "T" and kind[1:].isdigit():
        source.fault(kind, _join(context["message"], field, kind), path, context["hint"])
    elif kind == "extra_forbidden":
        _unknown_field(source, path, where)
    elif kind == "missing":
        source.fault("T109", f"{field} is missing{where}", path)
    elif kind in _WORDS:
        given = _kind(detail["input"])
        source.fault("T108", f"{field} must be {_WORDS[kind]}, not {given}{where}", path)
    elif kind == "literal_error":
        expected = context["expected"].replace("'", "")
        source.fault("T108", f"{field}: `{detail['input']}` is none of: {expected}", path)
    elif kind == "string_pattern_mismatch":
        _bad_pattern(source, path, detail["input"])
    elif kind in ("string_too_long", "too_long", "too_short"):
        word = "at least" if kind == "too_short" else "at most"
        limit = context.get("max_length", context.get("min_length"))
        text = isinstance(detail["input"], str)
        what = "characters" if text else "entries"
        source.fault("T110" if text else "T117", f"{field} must have {word} {limit} {what}", path)
    else:
        bounds = detail["msg"].replace("Input should be ", "")
        source.fault("T117", f"{field} must be {bounds}, not {detail['input']}", path)


def _join(message: str, field: str, code: str) -> str:
    return f"{field}: {message}" if code in ("T108", "T116") else message


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return f"{names.get(type(value), 'a mapping')}" + (
        f" (`{value}`)" if isinstance(value, str | int | float) and len(str(value)) < 40 else ""
    )


def _bad_pattern(source: Source, path: Path, value: Any) -> None:
    if path[-1] == "callable":
        source.fault("T123", f"`{value}` is not `package.module:name`", path)
        return
    dot = " `.`," if path[-1] == "topic" else ""
    hint = f"letters, digits,{dot} `_` and `-`"
    source.fault("T110", f"`{path[-1]}: {value}` has characters that are not allowed", path, hint)


def model_at(path: Path) -> type[Grammar] | None:
    """The model whose fields stand at this place."""
    for pattern, model in MODELS:
        if len(pattern) == len(path) and all(
            word in ("*", step) for word, step in zip(pattern, path, strict=True)
        ):
            return model
    return None


def _unknown_field(source: Source, path: Path, where: str) -> None:
    name = str(path[-1])
    plain = name.replace("-", "_")
    if plain in LATER_FIELDS.get(str(path[0]), ()):
        source.fault("T150", f"`{name}` is not built in this version", path, "remove it", key=True)
        return
    place = source.place(path, key=True)
    if place and any(
        (f.code, f.line, f.column) == ("T118", place.line, place.column) for f in source.findings
    ):
        return
    model = model_at(path[:-1])
    known = model.spellings() if model else []
    hint = did_you_mean(name, known, "fields")
    if not hint.startswith("did you mean") and plain in _MISPLACED:
        hint = f"`{name}` {_MISPLACED[plain]}"
    notes = (f"fields here: {listed(sorted(known))}",) if known and "fields" not in hint else ()
    source.fault("T104", f"unknown field `{name}`{where}", path, hint, key=True, notes=notes)


def describe(source: Source, path: Path) -> str:
    """` in stage `x`` for a place inside something that has a name."""
    if len(path) < 2 or path[0] not in ("stages", "gates", "params", "policies"):
        return f" in `{path[0]}`" if path else ""
    kind = {"stages": "stage", "gates": "gate", "params": "parameter", "policies": "policy"}
    name = path[1]
    if isinstance(name, int):
        found = source.root.find(str(path[0])) if source.root else None
        entry = found[1].find(name) if found else None
        named = entry and (entry[1].find("id") or entry[1].find("name"))
        if entry and entry[0].items is None:
            name = str(entry[0].value)
        elif named:
            name = str(named[1].value)
        else:
            return f" in {kind[str(path[0])]} number {name + 1}"
    return f" in {kind[str(path[0])]} `{name}`"


def _set_later_aside(source: Source, values: dict[str, Any]) -> frozenset[int]:
    """Replaces each stage of a later kind by a bare one with the same name."""
    later = set()
    found = values.get("stages")
    stages: list[Any] = found if isinstance(found, list) else []
    for n, stage in enumerate(stages):
        if not isinstance(stage, dict):
            continue
        kinds = [key for key in stage if key in LATER_KINDS]
        if stage.get("type") == "gate" or "gate" in stage:
            kinds = [key for key in kinds if key != "until"]
        kind, place = (kinds[0], kinds[0]) if kinds else (stage.get("type"), "type")
        if not isinstance(kind, str) or kind not in LATER_KINDS:
            continue
        message = f"stage type `{kind}` is not built in this version; it arrives later"
        source.fault(
            "T150", message, ("stages", n, place), "remove the stage for now", key=bool(kinds)
        )
        kept = {key: stage[key] for key in ("id", "name", "depends_on", "needs") if key in stage}
        stages[n] = {**kept, "echo": ""}
        if "id" not in kept and "name" not in kept:
            stages[n]["id"] = f"{kind}-{n + 1}"
        later.add(n)
    return frozenset(later)


def _normalise(source: Source, values: dict[str, Any]) -> None:
    """Brings the shorter spellings of gates, params and conditions to the models' form."""
    gates = values.get("gates")
    if isinstance(gates, dict):
        values["gates"] = [
            {"name": name, **gate}
            if isinstance(gate, dict)
            else {"name": name}
            if gate is None
            else gate
            for name, gate in gates.items()
        ]
    elif isinstance(gates, list):
        for n, gate in enumerate(gates):
            if isinstance(gate, dict) and not gate.get("name"):
                source.fault("T109", "a gate in a list needs a `name`", ("gates", n))
    elif gates is None:
        values.pop("gates", None)
    gates = values.get("gates")
    for gate in gates if isinstance(gates, list) else ():
        if isinstance(gate, dict):
            _condition_text(gate, "until")
    params = values.get("params")
    if isinstance(params, dict):
        values["params"] = {
            name: {"type": param} if isinstance(param, str) else {} if param is None else param
            for name, param in params.items()
        }
    stages = values.get("stages")
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict):
            gate = stage.get("type") == "gate" or "gate" in stage
            if not gate:
                _condition_text(stage, "if")
            elif isinstance(stage.get("condition"), str):
                config = stage.get("config")
                stage["config"] = {
                    **(config if isinstance(config, dict) else {}),
                    "until": stage.pop("condition"),
                }


def _one_source_as_a_list(root: Node) -> None:
    """`source:` with one mapping is a list of one, in the tree too: findings name their place."""
    for n, (key, _, item) in enumerate(root.pairs()):
        if key == "source" and item.keys is not None and root.items is not None:
            listed = Node(item.line, item.column, item.length)
            listed.items = [item]
            root.items[n] = listed


def _condition_text(entry: dict[str, Any], field: str) -> None:
    """`condition: text` is another spelling of `if` (stages) or `until` (gates)."""
    if isinstance(entry.get("condition"), str | bool) and field not in entry:
        entry[field] = entry.pop("condition")


def gate_config(source: Source, config: dict[str, Any], n: int) -> GateModel | None:
    """The config of a gate stage as a gate's description."""
    fields = {key: value for key, value in config.items() if key != "gate"}
    _condition_text(fields, "until")
    gate: GateModel | None = validated(source, GateModel, fields, ("stages", n, "config"))
    return gate


def refuse_broker_settings(source: Source, root: Node) -> None:
    """Finds settings of the broker or its client, wherever they stand (Y15)."""
    pending: list[tuple[Node, bool]] = [(root, True)]
    seen: set[int] = set()
    while pending:
        node, grammar = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for key, label, item in node.pairs():
            wrong = (_BROKER_KEY if grammar else _CLEAR_BROKER_KEY).match(key)
            if wrong or (isinstance(item.value, str) and _BROKER_VALUE.search(item.value)):
                source.fault_at(
                    "T118",
                    f"broker settings (`{key}`) do not belong in a topology",
                    label,
                    "set them for the process: `streams config show --origin`",
                )
                continue
            pending.append((item, grammar and key not in _FREE))
        if node.keys is None:
            pending.extend((item, grammar) for item in node.items or ())


_FREE = frozenset({"config", "with", "args", "params", "sets", "extras", "metadata", "gates"})
"""Fields whose content is the author's own."""
