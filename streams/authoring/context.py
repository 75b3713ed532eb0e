"""What a stage sees while it runs: the job's frozen snapshot, its inputs, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from streams.authoring.faults import StageInputError, UndeclaredDependencyError
from streams.clock import Clock, SystemClock
from streams.errors import UserError

LOG_LIMIT = 8 * 1024
"""Bytes of an attempt's log that are kept; the newest win."""

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_logger = logging.getLogger("streams.stage")


_tokens = threading.Lock()
"""Of all tokens: each call has one, few are ever watched, and none is watched for long."""
_lines = threading.Lock()


class CancelToken(msgspec.Struct, eq=False):
    """Tells running work to stop. Set once, from the loop's thread; read from any thread.

    A token made with a parent is also set when the parent is.
    """

    parent: CancelToken | None = None
    _reason: str | None = None
    _callbacks: list[Callable[[], object]] | None = None

    def set(self, reason: str = "") -> None:
        """Stops whatever watches this token; later calls change nothing."""
        with _tokens:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()

    @property
    def cancelled(self) -> bool:
        return self._reason is not None or (self.parent is not None and self.parent.cancelled)

    @property
    def reason(self) -> str:
        if self._reason is not None:
            return self._reason
        return self.parent.reason if self.parent is not None else ""

    def on_set(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls back once when set (at once if it is); returns how to take that back."""
        tokens = [self] if self.parent is None else [self, self.parent]
        for token in tokens:
            with _tokens:
                waiting = token._reason is None  # noqa: SLF001 - the parent is of this class
                if waiting:
                    token._callbacks = [*(token._callbacks or ()), callback]  # noqa: SLF001
            if not waiting:
                callback()
                break
        return lambda: _forget(tokens, callback)

    async def wait(self) -> str:
        """Returns the reason, once there is one."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        forget = self.on_set(lambda: loop.call_soon_threadsafe(event.set))
        try:
            await event.wait()
        finally:
            forget()
        return self.reason


def _forget(tokens: list[CancelToken], callback: Callable[[], object]) -> None:
    for token in tokens:
        with _tokens:
            if token._callbacks and callback in token._callbacks:  # noqa: SLF001 - same class
                token._callbacks.remove(callback)  # noqa: SLF001


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Who and what a run belongs to."""

    pipeline_run_id: Any = None
    request_id: Any = None
    session_id: Any = None
    user_id: Any = None
    org_id: Any = None
    interaction_id: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSnapshot:
    """The job as it was submitted. No stage can change it."""

    run_id: RunIdentity = RunIdentity()
    topology: str | None = None
    execution_mode: str | None = None
    input_text: str | None = None
    conversation: Any = None
    enrichments: Any = None
    extensions: Any = None
    params: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    data: Any = None
    subject: str = ""

    @property
    def pipeline_run_id(self) -> Any:
        return self.run_id.pipeline_run_id

    @property
    def request_id(self) -> Any:
        return self.run_id.request_id

    @property
    def session_id(self) -> Any:
        return self.run_id.session_id

    @property
    def user_id(self) -> Any:
        return self.run_id.user_id

    @property
    def org_id(self) -> Any:
        return self.run_id.org_id

    @property
    def interaction_id(self) -> Any:
        return self.run_id.interaction_id


class StageInputs:
    """Outputs of the declared dependencies, in the declared order; no others."""

    __slots__ = ("_aliases", "_outputs", "_value", "declared")

    def __init__(
        self,
        outputs: Mapping[str, Any] = _EMPTY,
        *,
        declared: Collection[str] | None = None,
        aliases: Mapping[str, str] = _EMPTY,
        value: Callable[[], Any] | None = None,
    ) -> None:
        self._outputs = outputs
        self._aliases = aliases
        self._value = value
        self.declared = tuple(outputs if declared is None else declared)

    @property
    def value(self) -> Any:
        """The one dependency's value; of several a mapping; of none the submitted data."""
        if self._value is not None:
            return self._value()
        found = [self._outputs[stage] for stage in self.declared if stage in self._outputs]
        if len(self.declared) == 1:
            return found[0] if found else None
        return {stage: self._outputs.get(stage) for stage in self.declared}

    def get(self, key: str, default: Any = None) -> Any:
        """The first value under `key` in the declared dependencies' outputs."""
        _require_name("key", key)
        for stage in self.declared:
            output = self._outputs.get(stage)
            if isinstance(output, Mapping) and key in output:
                return output[key]
        return default

    def get_from(self, stage: str, key: str, default: Any = None) -> Any:
        """The value under `key` in the output of one declared dependency."""
        _require_name("key", key)
        output = self.get_output(stage)
        return output[key] if isinstance(output, Mapping) and key in output else default

    def require_from(self, stage: str, key: str) -> Any:
        """As `get_from`; a missing key is an error that names it."""
        _require_name("key", key)
        output = self.get_output(stage)
        if not isinstance(output, Mapping) or key not in output:
            raise StageInputError(f"the output of stage {stage!r} has no {key!r}")
        return output[key]

    def has_output(self, stage: str) -> bool:
        """Whether a declared dependency left an output (a skipped one did not)."""
        return self._outputs.get(self._resolve(stage)) is not None

    def get_output(self, stage: str) -> Any:
        """The whole output of one declared dependency; None if it left none."""
        return self._outputs.get(self._resolve(stage))

    def _resolve(self, stage: str) -> str:
        _require_name("stage", stage)
        path = stage if stage in self.declared else self._aliases.get(stage, stage)
        if path not in self.declared:
            declares = ", ".join(self.declared) or "none"
            raise UndeclaredDependencyError(
                f"stage {stage!r} is not a declared dependency (declared: {declares})",
                help=f"add {stage!r} to depends_on",
            )
        return path


def _require_name(what: str, given: object) -> None:
    if not isinstance(given, str):
        raise TypeError(f"{what} must be a text, not {type(given).__name__}")
    if not given:
        raise ValueError(f"{what} must not be empty")


class AttemptLog:
    """The tail of an attempt's log, bounded and redacted line by line. Any thread may write."""

    __slots__ = ("_lines", "_redact", "_size", "dropped")

    def __init__(self, redact: Callable[[str], str] | None = None) -> None:
        self._lines: deque[str] | None = None  # made with the first line: most write none
        self._size = 0
        self._redact = redact
        self.dropped = 0
        """Lines that made room for newer ones."""

    def clean(self, text: str) -> str:
        """The text without secrets."""
        return self._redact(text) if self._redact is not None else text

    def write(self, line: str) -> str:
        """Keeps the line and returns it as it was kept, without secrets."""
        line = self.clean(line)
        kept = line.encode("utf-8", "replace")[-LOG_LIMIT + 1 :].decode("utf-8", "ignore")
        with _lines:
            if self._lines is None:
                self._lines = deque()
            self._lines.append(kept)
            self._size += len(kept.encode()) + 1
            while self._size > LOG_LIMIT and len(self._lines) > 1:
                self._size -= len(self._lines.popleft().encode()) + 1
                self.dropped += 1
        return line

    def text(self) -> str:
        """All that is kept, at most 8 KiB."""
        if self._lines is None:
            return ""
        with _lines:
            return "\n".join(self._lines)


class StageLog:
    """A logger bound to the attempt: an event and fields, kept with the job and logged."""

    __slots__ = ("_attempt", "_fields")

    def __init__(self, attempt: AttemptLog, fields: Mapping[str, Any] = _EMPTY) -> None:
        self._attempt = attempt
        self._fields = fields

    def bind(self, **fields: Any) -> StageLog:
        """A logger that says these fields each time."""
        return StageLog(self._attempt, {**self._fields, **fields})

    def debug(self, event: str, *args: Any, **fields: Any) -> None:
        self._write(logging.DEBUG, event, args, fields)

    def info(self, event: str, *args: Any, **fields: Any) -> None:
        self._write(logging.INFO, event, args, fields)

    def warning(self, event: str, *args: Any, **fields: Any) -> None:
        self._write(logging.WARNING, event, args, fields)

    def error(self, event: str, *args: Any, **fields: Any) -> None:
        self._write(logging.ERROR, event, args, fields)

    def _write(
        self, level: int, event: str, args: tuple[Any, ...], fields: Mapping[str, Any]
    ) -> None:
        # A log line must never fail a stage: a value whose repr raises becomes its type's name.
        words = [logging.getLevelName(level).lower(), _formatted(event, args)]
        words += [f"{name}={_shown(value)}" for name, value in fields.items()]
        line = self._attempt.write(" ".join(words))
        bound = " ".join(f"{name}={_shown(value)}" for name, value in self._fields.items())
        if _logger.isEnabledFor(level):
            # Text for any handler; event and fields apart for `observe.logs`.
            apart = {name: self._plain(value) for name, value in {**self._fields, **fields}.items()}
            event_and_fields = (self._attempt.clean(_formatted(event, args)), apart)
            _logger.log(
                level,
                "%s",
                f"{line} {bound}" if bound else line,
                extra={"event_and_fields": event_and_fields},
            )

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self._attempt.clean(_shown(value))


def _formatted(event: str, args: tuple[Any, ...]) -> str:
    try:
        return str(event) % args if args else str(event)
    except Exception:  # noqa: BLE001 - see StageLog._write
        return f"{type(event).__name__} (cannot be shown)"


def _shown(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - see StageLog._write
        return f"<{type(value).__name__}>"


class StageTimer:
    """Time since the attempt began."""

    __slots__ = ("_clock", "_start", "started_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self.started_at = clock.now()

    def now_ms(self) -> int:
        return self._clock.now()

    def elapsed_ms(self) -> int:
        return round((self._clock.monotonic() - self._start) * 1000)


class LedgerNotDeclared(UserError):
    """The stage reads the ledger view without declaring it."""

    code = "S015"


@dataclass(slots=True, kw_only=True)
class StageContext:
    """One attempt of one stage, as its author sees it.

    Everything has a default, so that a test writes `StageContext(inputs=StageInputs({...}))`.
    """

    stage_name: str = "stage"
    job_id: str = "job"
    tenant_id: str = ""
    correlation_id: str = ""
    pipeline_name: str = ""
    pipeline_version: str = ""
    attempt: int = 1
    event_id: str = ""
    idempotency_key: str = ""
    """The same for every repeat of the same work; give it to whatever you call."""
    config: Any = field(default_factory=dict)
    """The stage's config, `${{ }}` evaluated: its model, or a mapping where it has none."""
    inputs: StageInputs = field(default_factory=StageInputs)
    clock: Clock = field(default_factory=SystemClock, repr=False)
    cancel: CancelToken = field(default_factory=CancelToken, repr=False)
    attempt_log: AttemptLog = field(default_factory=AttemptLog, repr=False)
    load_snapshot: Callable[[], ContextSnapshot] = field(default=ContextSnapshot, repr=False)
    ledger_view: Mapping[str, Any] | None = field(default=None, repr=False)
    emit: Callable[[str, Mapping[str, Any]], None] | None = field(default=None, repr=False)
    _snapshot: ContextSnapshot | None = field(default=None, repr=False)
    _log: StageLog | None = field(default=None, repr=False)
    _timer: StageTimer | None = field(default=None, repr=False)

    @property
    def snapshot(self) -> ContextSnapshot:
        """The job as it was submitted."""
        if self._snapshot is None:
            self._snapshot = self.load_snapshot()
        return self._snapshot

    @property
    def params(self) -> Mapping[str, Any]:
        return self.snapshot.params

    @property
    def doc_id(self) -> str | None:
        """The document this job is about, if its data or parameters say so."""
        for source in (self.snapshot.data, self.snapshot.params):
            if isinstance(source, Mapping) and isinstance(source.get("doc_id"), str):
                return str(source["doc_id"])
        return None

    @property
    def log(self) -> StageLog:
        """Kept with the job (last 8 KiB) and written to the worker's log."""
        if self._log is None:
            bound = {"pipeline": self.pipeline_name, "stage": self.stage_name, "job": self.job_id}
            self._log = StageLog(self.attempt_log, bound)
        return self._log

    @property
    def timer(self) -> StageTimer:
        if self._timer is None:
            self._timer = StageTimer(self.clock)
        return self._timer

    @property
    def ledger(self) -> Mapping[str, Any]:
        """The job's ledger view, for stages that declare `"@ledger"`."""
        if self.ledger_view is None:
            raise LedgerNotDeclared(
                f"stage {self.stage_name!r} does not declare the ledger view",
                help='add "@ledger" to depends_on, or to the dependencies of its metadata',
            )
        return self.ledger_view

    @property
    def cancelled(self) -> bool:
        """Whether to stop: the job was cancelled or the time is up. Long sync stages look at it."""
        return self.cancel.cancelled

    def raise_if_cancelled(self) -> None:
        """Ends the stage here if it is to stop."""
        if self.cancel.cancelled:
            raise asyncio.CancelledError(self.cancel.reason)

    async def wait_cancelled(self) -> str:
        """Returns the reason, once the stage is to stop."""
        return await self.cancel.wait()

    def try_emit_event(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """Hands an event to whoever listens; never waits and never raises."""
        fields = {"job_id": self.job_id, "stage": self.stage_name, **(data or {})}
        if self.emit is None:
            self.log.debug(f"{type} {_shown(dict(data or {}))}")
            return
        try:
            self.emit(type, fields)
        except Exception as error:  # noqa: BLE001 - observing must not change what is observed
            self.log.warning(f"event {type} was not taken: {_shown(error)}")


class LazyOutputs(Mapping[str, Any]):
    """Outputs that are decoded when they are asked for."""

    __slots__ = ("_decode", "_seen", "_stages")

    def __init__(self, stages: Collection[str], decode: Callable[[str], Any]) -> None:
        self._stages = stages
        self._decode = decode
        self._seen: dict[str, Any] = {}

    def __getitem__(self, stage: str) -> Any:
        if stage not in self._seen:
            if stage not in self._stages:
                raise KeyError(stage)
            self._seen[stage] = self._decode(stage)
        return self._seen[stage]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stages)

    def __len__(self) -> int:
        return len(self._stages)
