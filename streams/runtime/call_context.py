"""The context of one call: values that an author may see, decoded when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from streams.authoring.context import (
    AttemptLog,
    CancelToken,
    ContextSnapshot,
    LazyOutputs,
    RunIdentity,
    StageContext,
    StageInputs,
)
from streams.blobs import BlobStore
from streams.clock import Clock
from streams.engine.payload import BLOB, BlobRef, blob_of, environment, value_of
from streams.engine.rows import Status
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Call
from streams.secrets import Secrets

Emit = Callable[[str, Mapping[str, Any], Call], None]

_DATA = frozenset({"data", "payload"})
_SUCCESS: Status = "SUCCESS"
_value = msgspec.json.Decoder().decode


def blobs_needed(prepared: Prepared, call: Call) -> list[BlobRef]:
    """References that must be values before the call. The job's data is left in the store when
    neither the stage's input nor a template is made of it: it may be 200 MB."""
    roots = prepared.roots
    every = "stages" in roots
    found = []
    for path, result in call.payload.stages.items():
        if every or path in prepared.needs:
            found.append(blob_of(result.out))
    if not prepared.needs or not roots.isdisjoint(_DATA):
        found.append(blob_of(call.payload.data))
    return [ref for ref in found if ref is not None]


class CallContext(StageContext):
    """A context that says whose call it is when it is asked: most stages do not."""

    __slots__ = ("_call",)

    _call: Call

    @classmethod
    def of(cls, call: Call, config: Any, inputs: StageInputs, scope: CallScope) -> CallContext:
        """The context of this call, without clock and `emit`. What is in `_TOLD` stays empty."""
        ctx: CallContext = object.__new__(cls)
        ctx._call = call
        ctx.config = config
        ctx.inputs = inputs
        ctx.cancel = scope.token
        ctx.attempt_log = scope.log
        ctx.load_snapshot = scope.snapshot
        ctx.ledger_view = call.payload.ledger
        ctx._snapshot = ctx._log = ctx._timer = None
        return ctx

    def __getattr__(self, name: str) -> Any:
        tell = _TOLD.get(name)
        if tell is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = tell(self._call)
        setattr(self, name, value)
        return value


_TOLD: Mapping[str, Callable[[Call], Any]] = {
    "stage_name": lambda call: call.part.name or call.part.path,
    "job_id": lambda call: call.job.id,
    "tenant_id": lambda call: call.job.tenant,
    "correlation_id": lambda call: str(call.event.extensions.get("correlationid", call.job.id)),
    "pipeline_name": lambda call: call.plan.pipeline,
    "pipeline_version": lambda call: call.plan.version,
    "attempt": lambda call: call.job.attempt,
    "event_id": lambda call: call.event.id,
    "idempotency_key": lambda call: call.idempotency_key,
}
"""Fields of a context that are made of its call."""


class CallScope:
    """Everything one call can read."""

    __slots__ = ("_blobs", "_call", "_log", "_secrets", "_store", "prepared", "token")

    prepared: Prepared
    """Set once the stage is ready; until then there is only the log."""

    def __init__(self, call: Call, secrets: Secrets, store: BlobStore, token: CancelToken) -> None:
        self._call = call
        self._secrets = secrets
        self._store = store
        self._blobs: dict[str, Any] = {}
        self.token = token
        self._log: AttemptLog | None = None

    @property
    def log(self) -> AttemptLog:
        """The attempt's log, made when somebody asks for it."""
        if self._log is None:
            self._log = AttemptLog(self._secrets.redact if len(self._secrets) else None)
        return self._log

    @property
    def logged(self) -> str:
        """What was written to the log."""
        return self._log.text() if self._log is not None else ""

    def resolved(self, ref: BlobRef, value: Any) -> None:
        """Keeps the value of a reference."""
        self._blobs[ref.url] = value

    def names(self, roots: frozenset[str]) -> dict[str, Any]:
        """Names that templates see."""
        call = self._call
        found = environment(call.payload, call.job, roots, self._blobs)
        if "secrets" in roots:
            found["secrets"] = self._secrets.only(call.plan.secrets)
        return found

    def names_after(self, roots: frozenset[str], result: Any) -> dict[str, Any]:
        """Names that `sets` sees: the same, `result`, and the stage's own output."""
        found = self.names(roots)
        found["result"] = result
        if "stages" in roots:
            own = dict(result) if isinstance(result, dict) else {}
            own |= {"status": _SUCCESS, "outputs": result, "errors": None}
            found["stages"][self._call.part.path] = own
        return found

    def context(self, clock: Clock, emit: Emit | None) -> StageContext:
        """The author's view. Evaluates the config, which may raise."""
        prepared, call = self.prepared, self._call
        inputs = StageInputs(
            LazyOutputs(call.payload.stages.keys(), self._output),
            declared=prepared.declared,
            aliases=prepared.aliases,
            value=self.upstream,
        )
        ctx = CallContext.of(call, prepared.config_for(self.names), inputs, self)
        ctx.clock = clock
        ctx.emit = None if emit is None else lambda type, data: emit(type, data, call)
        return ctx

    def lone_value(self) -> Any:
        """The upstream value of a stage that has one dependency, or none; read from the store if it
        is there."""
        payload, needs = self._call.payload, self.prepared.needs
        if needs:
            result = payload.stages.get(needs[0])
            if result is None:
                return None
            raw = result.out
        else:
            raw = payload.data
        data = bytes(raw)
        if data.startswith(BLOB) and (ref := blob_of(raw)) is not None:
            return self._store.value_now(ref)
        return _value(data) if data else None

    def upstream(self) -> Any:
        """The one dependency's value; of several a mapping; of none the submitted data."""
        prepared = self.prepared
        if not prepared.needs:
            value = self._data()
        elif len(prepared.needs) == 1:
            value = self._output(prepared.needs[0])
        else:
            value = {prepared.keys[need]: self._output(need) for need in prepared.needs}
        if not prepared.ledger_in_upstream:
            return value
        view = self._call.payload.ledger or {}
        if isinstance(value, dict):
            return {**value, "ledger": view}
        if not prepared.needs:
            return {"data": value, "ledger": view}
        return {prepared.keys[prepared.needs[0]]: value, "ledger": view}

    def snapshot(self) -> ContextSnapshot:
        """The job as it was submitted."""
        call = self._call
        data = self._data()
        fields: Mapping[str, Any] = data if isinstance(data, dict) else {}
        text = data if isinstance(data, str) else fields.get("input_text")
        mode = fields.get("execution_mode")
        return ContextSnapshot(
            run_id=RunIdentity(
                pipeline_run_id=call.job.id,
                request_id=call.event.extensions.get("correlationid", call.job.id),
                session_id=fields.get("session_id"),
                user_id=fields.get("user_id"),
                org_id=call.job.tenant or fields.get("org_id"),
                interaction_id=fields.get("interaction_id"),
            ),
            topology=call.plan.pipeline,
            execution_mode=mode if isinstance(mode, str) else None,
            input_text=text if isinstance(text, str) else None,
            params=MappingProxyType(call.payload.params),
            data=data,
            subject=call.event.subject or "",
        )

    def _output(self, path: str) -> Any:
        result = self._call.payload.stages.get(path)
        return None if result is None else value_of(result.out, self._blobs)

    def _data(self) -> Any:
        raw = self._call.payload.data
        ref = blob_of(raw)
        if ref is not None and ref.url not in self._blobs:
            # Only a stage that looks at the snapshot's data though its input is another's output.
            self.resolved(ref, self._store.value_now(ref))
        return value_of(raw, self._blobs)
