"""From what user code returned to an answer: handler, counter, JSON, ledger fields, no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.authoring.faults import StageOutputError
from streams.engine.rows import NULL
from streams.outcome import Fail, Ok, Route, Verdict
from streams.runtime.call_answers import encode, encode_metadata, verdict_of
from streams.runtime.call_context import CallScope
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Answer
from streams.secrets import MASK, Secrets

_OK = Ok()
_NULL = bytes(NULL)
_WITH_VALUE = (Ok, Route)


def answer_of(prepared: Prepared, scope: CallScope, secrets: Secrets, given: Any) -> Answer:
    """The checked answer; raises `StageOutputError` where there can be none."""
    if prepared.is_plain and not isinstance(given, Verdict) and not len(secrets):
        return Answer(_OK, _NULL if given is None else encode(given))
    verdict = verdict_of(given)
    if isinstance(verdict, Fail):
        return Answer(
            msgspec.structs.replace(verdict, metadata={}), meta=_failed_meta(verdict, secrets)
        )
    if not isinstance(verdict, _WITH_VALUE):
        return Answer(verdict)
    meta = encode_metadata(verdict.metadata)
    value = verdict.value
    if prepared.metadata.output_counter is not None:
        meta[f"stage.{prepared.part.path}.output_count"] = _count(prepared, value)
    if prepared.metadata.output_handler is not None:
        value = _handled(prepared, scope, value)
    data = encode(value) if value is not None else bytes(NULL)
    meta |= _ledger_fields(prepared, scope, data)
    _refuse_secrets(secrets, data, meta)
    return Answer(_OK if isinstance(verdict, Ok) else Route(verdict.branch), data, meta)


def _failed_meta(verdict: Fail, secrets: Secrets) -> dict[str, Any]:
    """What of a failure's metadata can be kept: the failure is the news and must not be hidden."""
    try:
        meta = encode_metadata(verdict.metadata)
    except StageOutputError:
        return {}
    return {
        name: value if secrets.redact(text := encode([name, value]).decode()) == text else MASK
        for name, value in meta.items()
    }


def _count(prepared: Prepared, value: Any) -> int:
    counter = prepared.metadata.output_counter
    count = counter(value) if counter is not None else 0
    if isinstance(count, bool) or not isinstance(count, int):
        raise StageOutputError(f"output_counter gave {type(count).__name__}, not a whole number")
    return count


def _handled(prepared: Prepared, scope: CallScope, value: Any) -> Any:
    """What the output handler put under the state keys: that is what travels on."""
    metadata, part = prepared.metadata, prepared.part
    assert metadata.output_handler is not None
    upstream = scope.upstream()
    keyed = len(prepared.needs) > 1 and isinstance(upstream, dict)
    state: dict[str, Any] = dict(upstream) if keyed else {}
    if len(prepared.needs) == 1:
        state[prepared.keys[prepared.needs[0]]] = upstream
    metadata.output_handler(state, part.name or part.path, value)
    keys = metadata.state_keys
    missing = [key for key in keys if key not in state]
    if missing:
        raise StageOutputError(f"output_handler left no {missing[0]!r} in the state")
    if not keys:
        return value
    return state[keys[0]] if len(keys) == 1 else {key: state[key] for key in keys}


def _ledger_fields(prepared: Prepared, scope: CallScope, data: bytes) -> dict[str, Any]:
    """`sets` of the stage type, `sets` of the topology, and fields that gates read."""
    part = prepared.part
    if not (prepared.publishes or part.sets or part.keep):
        return {}
    result = msgspec.json.decode(data)
    fields: dict[str, Any] = {}
    for path in (*part.keep, *prepared.publishes):
        found, value = _at(result, path)
        if found:
            fields[path] = value
    if part.sets:
        roots = prepared.sets.roots
        fields |= prepared.sets.evaluate(scope.names_after(roots, result))
    return encode_metadata(fields)


def _at(value: Any, path: str) -> tuple[bool, Any]:
    """Whether there is something at the dotted path, and what."""
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _refuse_secrets(secrets: Secrets, data: bytes, meta: Mapping[str, Any]) -> None:
    if not len(secrets):
        return
    name = secrets.found_in(data) or (secrets.found_in(encode(meta)) if meta else None)
    if name is not None:
        raise StageOutputError(f"the answer holds the value of secret {name!r}", code="S014")
