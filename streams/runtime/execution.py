"""One call of a stage gives one outcome: the failure boundary between user code and the engine.

Nothing that user code does gets past this module: not an exception, not `sys.exit`, not a value
that JSON cannot hold, not a call that never ends. Each becomes a verdict by the one table of
`call_failures`. Only the worker's own shutdown (a cancelled task) passes through.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Collection, Sequence
from types import CoroutineType
from typing import Any

import msgspec

from streams.authoring.context import CancelToken, StageContext
from streams.authoring.faults import StageOutputError
from streams.authoring.signature import is_async
from streams.blobs import BlobStore
from streams.clock import Clock
from streams.engine.payload import INLINE_LIMIT, reference
from streams.engine.rows import NULL
from streams.errors import StageError, StageResolutionError
from streams.outcome import Cancel, Fail, Ok, Retry, Skip, Verdict
from streams.policies import Policies
from streams.registry import StageRegistry
from streams.runtime.call_context import CallScope, Emit, blobs_needed
from streams.runtime.call_deadlines import Deadlines
from streams.runtime.call_failures import bounded, fail_of, failure_of, told, trace_of
from streams.runtime.call_outputs import answer_of
from streams.runtime.call_preparation import Prepared, prepare
from streams.runtime.call_supervision import Watch
from streams.runtime.call_threads import Threading, Threads
from streams.runtime.call_values import Answer, Call, Outcome, Raised
from streams.secrets import Secrets
from streams.topology.plan import USER_CODE, Batch, Part, Plan

__all__ = ["Call", "CancelToken", "Execution", "Outcome"]

GRACE = 5.0
"""Seconds that stopped code has to return by itself; a cancel has to take effect within 10."""
NOT_HERE = 5.0
"""Seconds until work that this worker cannot do at all is offered again."""
INLINE_SECONDS = 0.010
INLINE_STRIKES = 3

_UNTRACED = frozenset({"S010", "S011", "S012", "S013", "S014", "S020"})
"""Codes whose message says all; a traceback into this package would only confuse."""

_logger = logging.getLogger("streams.runtime")


class Execution:
    """Runs stages. One object per worker; `close` ends what it opened."""

    def __init__(
        self,
        registry: StageRegistry,
        blobs: BlobStore,
        secrets: Secrets,
        clock: Clock,
        *,
        namespace: str = "streams",
        threads: int | Threading = 32,
        grace: float = GRACE,
        debug: bool = False,
        emit: Emit | None = None,
        inline: int = INLINE_LIMIT,
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._secrets = secrets
        self._clock = clock
        self._namespace = namespace
        self._grace = grace
        self._debug = debug
        """No time limits, and sync stages in the main thread: for `breakpoint()`."""
        self._emit = emit
        self._inline = inline
        """Bytes of an output that travel in the event; what is larger goes to the blob store."""
        self.policies = Policies()
        self._threads = Threads(threads, clock) if isinstance(threads, int) else threads
        self._deadlines = Deadlines(clock)
        self._prepared: dict[tuple[str, str], Prepared] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- before the first event

    async def prepare(self, plan: Plan, paths: Collection[str] | None = None) -> dict[str, Fail]:
        """Builds and opens the stages of a plan, or those of `paths` (a worker's own pool); what
        could not be, by part, with its reason."""
        failed: dict[str, Fail] = {}
        for part in plan.parts:
            if part.kind in USER_CODE and (paths is None or part.path in paths):
                try:
                    await self._ready(plan, part)
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001 - one broken stage stops no other
                    failed[part.path] = self._redacted(fail_of(error))
        return failed

    def batch_of(self, plan: Plan, part: Part) -> Batch | None:
        """How many events of the part go into one call, if its stage takes several. Until the
        stage is ready nobody knows: `run` takes its events one by one."""
        prepared = self._prepared.get((plan.digest, part.path))
        if prepared is None or not prepared.is_batch:
            return None
        stage = prepared.stage
        return part.batch or Batch(
            int(getattr(stage, "max_items", 32)), float(getattr(stage, "max_wait", 0.05))
        )

    def runs_inline(self, plan: Plan, part: Part) -> bool:
        """Whether `run_inline` may be used: the author promised it, and the stage is open."""
        prepared = self._prepared.get((plan.digest, part.path))
        return prepared is not None and prepared.inline and prepared.opened

    def is_open(self, digest: str, path: str) -> bool:
        """Whether the stage of that plan is ready to be called."""
        prepared = self._prepared.get((digest, path))
        return prepared is not None and prepared.opened

    # -- calls

    async def run(self, call: Call) -> Outcome:
        """The outcome of one call. Raises nothing but the worker's own cancellation."""
        prepared = self._prepared.get((call.plan.digest, call.part.path))
        if prepared is not None and prepared.is_batch:
            return (await self.run_batch([call]))[0]
        started = self._clock.now()
        token = CancelToken(call.cancel)
        scope = CallScope(call, self._secrets, self._blobs, token)
        answer: Answer | Raised
        try:
            prepared = await self._ready(call.plan, call.part)
            if prepared.is_batch:
                return (await self.run_batch([call]))[0]
            ctx = await self._context(prepared, call, scope)
            invoke = prepared.invoke
            answer = await self._supervised(
                prepared,
                token,
                lambda: invoke(ctx),
                lambda given: answer_of(prepared, scope, self._secrets, given),
            )
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary
            answer = Raised(error)
        return await self._stored(call, started, scope, answer)

    def run_inline(self, call: Call) -> Outcome:
        """The outcome of one call made here and now: no task, no thread, no time limit."""
        prepared = self._prepared[call.plan.digest, call.part.path]
        started = self._clock.now()
        scope = CallScope(call, self._secrets, self._blobs, call.cancel)
        answer: Answer | Raised
        out = NULL
        try:
            scope.prepared = prepared
            if prepared.with_value is not None:
                given = prepared.with_value(scope.lone_value())
            else:
                for ref in blobs_needed(prepared, call):
                    scope.resolved(ref, self._blobs.value_now(ref))
                given = prepared.invoke(scope.context(self._clock, self._emit))
            if isinstance(given, CoroutineType):
                given.close()
                raise StageOutputError("an inline stage returned something to be awaited")
            answer = answer_of(prepared, scope, self._secrets, given)
            out = msgspec.Raw(answer.data)
            if len(answer.data) > self._room(call):
                out = reference(self._blobs.put_now(self._prefix(call), answer.data))
        except BaseException as error:  # noqa: BLE001 - the boundary
            answer = Raised(error)
        outcome = self._outcome(call, started, scope, answer, out)
        if outcome.ended - started > INLINE_SECONDS * 1000:
            self._watch_inline(prepared, (outcome.ended - started) / 1000)
        return outcome

    async def run_batch(self, calls: Sequence[Call]) -> list[Outcome]:
        """One outcome per call, in their order, of one call of a batch stage. All calls are of
        one part of one plan."""
        started = self._clock.now()
        whole = CancelToken()
        tokens = [CancelToken(call.cancel) for call in calls]
        whole.on_set(lambda: _set_all(tokens, whole.reason))
        scopes = [
            CallScope(call, self._secrets, self._blobs, token)
            for call, token in zip(calls, tokens, strict=True)
        ]
        answers: list[Answer | Raised | None] = [None] * len(calls)
        contexts: dict[int, StageContext] = {}
        forget: list[Callable[[], None]] = []

        def stop_if_all_are() -> None:
            if all(call.cancel.cancelled for call in calls):
                whole.set("cancelled")

        try:
            prepared = await self._ready(calls[0].plan, calls[0].part)
            for n, (call, scope) in enumerate(zip(calls, scopes, strict=True)):
                try:
                    contexts[n] = await self._context(prepared, call, scope)
                except Exception as error:  # noqa: BLE001 - one bad input fails its job alone
                    answers[n] = Raised(error)
            # An event whose job was cancelled while it waited for the others is left out.
            live = [n for n in contexts if not calls[n].cancel.cancelled]
            forget += [calls[n].cancel.on_set(stop_if_all_are) for n in live]
            if live:
                given = await self._supervised(
                    prepared,
                    whole,
                    lambda: prepared.stage.execute_batch([contexts[n] for n in live]),
                    lambda given: self._batch_answers(prepared, [scopes[n] for n in live], given),
                )
                several = given if isinstance(given, list) else [given] * len(live)
                for n, answer in zip(live, several, strict=True):
                    answers[n] = answer
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary
            answers = [answer or Raised(error) for answer in answers]
        finally:
            for take_back in forget:
                take_back()
        return [
            await self._stored(call, started, scope, answer or Raised(asyncio.CancelledError()))
            for call, scope, answer in zip(calls, scopes, answers, strict=True)
        ]

    async def close(self) -> None:
        """Ends running code, closes every stage that was opened, ends the threads."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._grace)
        for prepared in self._prepared.values():
            close = getattr(prepared.stage, "close", None)
            if prepared.opened and callable(close) and prepared.part.kind == "stage":
                await self._close_stage(prepared, close)
        self._prepared.clear()
        await self._deadlines.close()
        await asyncio.to_thread(self._threads.close)

    # -- getting ready

    async def _ready(self, plan: Plan, part: Part) -> Prepared:
        key = (plan.digest, part.path)
        prepared = self._prepared.get(key)
        if prepared is not None and prepared.opened:
            return prepared
        async with self._locks.setdefault(key, asyncio.Lock()):
            prepared = self._prepared.get(key)
            if prepared is None:
                # In a thread, because builders may load a model.
                prepared = await self._in_thread(lambda: self._built(plan, part))
                self._prepared[key] = prepared
            if not prepared.opened:
                await self._open(prepared)
        return prepared

    def _built(self, plan: Plan, part: Part) -> Prepared:
        try:
            return prepare(plan, part, self._registry, self._secrets)
        except StageResolutionError as error:
            raise _NotHereError(error.message, help=error.help) from error

    async def _open(self, prepared: Prepared) -> None:
        try:
            await self._called(prepared.stage.open)
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
            raise StageError(
                f"stage {prepared.part.path!r} could not be opened: cancelled", code="S013"
            ) from None
        except BaseException as error:
            raise StageError(
                f"stage {prepared.part.path!r} could not be opened: "
                f"{type(error).__name__}: {told(error)}",
                code="S013",
            ) from error
        prepared.opened = True

    async def _close_stage(self, prepared: Prepared, close: Callable[[], Any]) -> None:
        try:
            await self._called(close)
        except BaseException as error:
            if _is_being_cancelled():
                raise
            reason = self._secrets.redact(f"{type(error).__name__}: {told(error)}")
            _logger.warning("stage %s did not close: %s", prepared.part.path, reason)

    async def _called(self, method: Callable[[], Any]) -> Any:
        """What `open` or `close` gives, sync or async."""
        result = method() if is_async(method) else await self._in_thread(method)
        return await result if inspect.isawaitable(result) else result

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self._debug:
            return work()
        result = await self._threads.submit(lambda: _guarded(work, _unchanged)).future
        if isinstance(result, Raised):
            raise result.error
        return result

    async def _context(self, prepared: Prepared, call: Call, scope: CallScope) -> StageContext:
        scope.prepared = prepared
        for ref in blobs_needed(prepared, call):
            scope.resolved(ref, await self._blobs.value(ref))
        return scope.context(self._clock, self._emit)

    # -- running

    async def _supervised(
        self,
        prepared: Prepared,
        token: CancelToken,
        invoke: Callable[[], Any],
        check: Callable[[Any], Any],
    ) -> Any:
        """What `check` makes of the answer, or `Raised`, however the code ends or does not."""
        if token.cancelled:
            return Raised(asyncio.CancelledError())
        limit = (
            None if self._debug else self.policies.of(prepared.plan, prepared.part).timeout_seconds
        )
        asynchronous = (
            is_async(prepared.stage.execute_batch) if prepared.is_batch else (prepared.is_async)
        )
        if asynchronous:
            return await self._in_task(_awaited(invoke, check), token, limit)
        if self._debug:
            result = _guarded(invoke, check)
        else:
            work = self._threads.submit(lambda: _guarded(invoke, check))
            watch = Watch(
                token=token,
                deadlines=self._deadlines,
                grace=self._grace,
                interrupt=lambda: None,
                give_up=lambda: self._threads.abandon(work),
                began=lambda: work.began,
            )
            await watch.wait(work.future, limit)
            if watch.stopped is not None:
                return _stopped(watch, limit)
            result = work.future.result()
        if isinstance(result, _Awaiting):
            # A plain function that returned a coroutine: a lambda, a partial.
            return await self._in_task(_awaited(lambda: result.answer, check), token, limit)
        return result

    async def _in_task(self, work: Any, token: CancelToken, limit: float | None) -> Any:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        watch = Watch(
            token=token,
            deadlines=self._deadlines,
            grace=self._grace,
            interrupt=task.cancel,
            give_up=task.cancel,
        )
        await watch.wait(task, limit)
        if watch.stopped is not None:
            return _stopped(watch, limit)
        return Raised(asyncio.CancelledError()) if task.cancelled() else task.result()

    def _batch_answers(
        self, prepared: Prepared, scopes: list[CallScope], given: Any
    ) -> list[Answer | Raised]:
        if not isinstance(given, list | tuple) or len(given) != len(scopes):
            got = f"{len(given)}" if isinstance(given, list | tuple) else type(given).__name__
            raise StageOutputError(
                f"execute_batch must return a list of {len(scopes)} answers, not {got}"
            )
        return [
            self._batch_answer(prepared, scope, one)
            for one, scope in zip(given, scopes, strict=True)
        ]

    def _batch_answer(self, prepared: Prepared, scope: CallScope, given: Any) -> Answer | Raised:
        if isinstance(given, BaseException):
            return Raised(given)
        try:
            return answer_of(prepared, scope, self._secrets, given)
        except BaseException as error:  # noqa: BLE001 - one bad answer fails its job alone
            return Raised(error)

    def _watch_inline(self, prepared: Prepared, seconds: float) -> None:
        if prepared.slow_calls >= INLINE_STRIKES:
            return
        prepared.slow_calls += 1
        if prepared.slow_calls == INLINE_STRIKES:
            _logger.warning(
                "stage %s is declared inline but took %.0f ms, the third call over %.0f ms; "
                "everything else waits meanwhile: remove inline=True",
                prepared.part.path,
                seconds * 1000,
                INLINE_SECONDS * 1000,
            )

    # -- outcomes

    def _room(self, call: Call) -> int:
        """What an output may take in events and rows; the rest goes to the blob store."""
        return min(self._inline, call.plan.room)

    def _prefix(self, call: Call) -> str:
        return f"{self._namespace}/{call.plan.pipeline}/{call.job.id}"

    async def _stored(
        self, call: Call, started: int, scope: CallScope, answer: Answer | Raised
    ) -> Outcome:
        out = NULL
        if isinstance(answer, Answer) and not call.cancel.cancelled:
            out = msgspec.Raw(answer.data)
            if len(answer.data) > self._room(call):
                try:
                    out = reference(await self._blobs.put(self._prefix(call), answer.data))
                except Exception as error:  # noqa: BLE001 - the store is not the worker
                    answer = Raised(error)
        return self._outcome(call, started, scope, answer, out)

    def _outcome(
        self,
        call: Call,
        started: int,
        scope: CallScope,
        answer: Answer | Raised,
        out: msgspec.Raw,
    ) -> Outcome:
        cancelled = call.cancel.cancelled
        log = scope.logged
        if type(answer) is Answer and not (cancelled or log) and type(answer.verdict) is Ok:
            # Nearly all of them. By position: naming the fields takes longer than all the rest.
            return Outcome(answer.verdict, out, answer.meta, started, self._clock.now())
        verdict, meta = self._verdict(answer, scope)
        if cancelled:
            reason = call.cancel.reason
            verdict, meta = (
                Fail(f"cancelled: {reason}" if reason else "cancelled", "S030", False),
                {},
            )
        verdict = self._redacted(verdict)
        log = scope.logged
        if log:
            log = self._secrets.redact(log)
        error = None
        if isinstance(verdict, Fail):
            error, out = failure_of(verdict, log, self._secrets.redact), NULL
        return Outcome(
            verdict=verdict,
            out=out,
            meta=meta,
            started=started,
            ended=self._clock.now(),
            log=log,
            error=error,
            cancelled=cancelled,
        )

    def _verdict(self, answer: Answer | Raised, scope: CallScope) -> tuple[Verdict, dict[str, Any]]:
        if isinstance(answer, Answer):
            return answer.verdict, answer.meta
        if isinstance(answer.error, _NotHereError):
            return Retry(NOT_HERE, f"no-capable-worker: {answer.error.message}"), {}
        fail = fail_of(answer.error)
        if fail.code not in _UNTRACED:
            scope.log.write(trace_of(answer.error))
        return fail, {}

    def _redacted(self, verdict: Any) -> Any:
        """The verdict without secrets in its words."""
        if isinstance(verdict, Ok):
            return verdict  # it has no words, and its value is judged elsewhere
        redact = self._secrets.redact
        if isinstance(verdict, Fail):
            return Fail(bounded(redact(verdict.message)), redact(verdict.code), verdict.retriable)
        if isinstance(verdict, Skip | Cancel):
            return type(verdict)(bounded(redact(verdict.reason)))
        if isinstance(verdict, Retry):
            return Retry(float(verdict.after), bounded(redact(str(verdict.reason))))
        return verdict


class _NotHereError(StageResolutionError):
    """This worker has no such stage type or function; another one may."""


class _Awaiting(msgspec.Struct, frozen=True):
    """A sync call returned something to be awaited."""

    answer: Any


def _guarded(invoke: Callable[[], Any], check: Callable[[Any], Any]) -> Any:
    """The checked answer, or what was raised, as a value."""
    try:
        answer = invoke()
        return _Awaiting(answer) if inspect.isawaitable(answer) else check(answer)
    except BaseException as error:  # noqa: BLE001 - the boundary, inside a thread
        return Raised(error)


async def _awaited(invoke: Callable[[], Any], check: Callable[[Any], Any]) -> Any:
    """The same for async code. `SystemExit` out of a task would end the event loop."""
    try:
        answer = invoke()
        return check(await answer if inspect.isawaitable(answer) else answer)
    except BaseException as error:  # noqa: BLE001 - the boundary, inside a task
        return Raised(error)


def _stopped(watch: Watch, limit: float | None) -> Answer | Raised:
    if watch.stopped != "timeout":
        return Raised(asyncio.CancelledError())
    given_up = "; it did not stop and was given up" if watch.given_up else ""
    return Answer(Fail(f"no answer within {limit or 0:g} s{given_up}", "S020", True))


def _set_all(tokens: Sequence[CancelToken], reason: str) -> None:
    for token in tokens:
        token.set(reason)


def _unchanged(value: Any) -> Any:
    return value


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
