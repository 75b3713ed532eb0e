"""Stages of a graph in this process: built once, run in their runner's task where that will do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import dataclasses
import inspect
import itertools
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from types import CoroutineType, MappingProxyType
from typing import Any, Protocol, cast

from streams.authoring.context import CancelToken, ContextSnapshot, StageContext
from streams.authoring.faults import StageOutputError
from streams.authoring.signature import is_async
from streams.blobs import BlobError, BlobStore
from streams.clock import Clock
from streams.engine.payload import BlobRef
from streams.policies import policy_of
from streams.registry import StageRegistry
from streams.runtime.call_context import CallScope, blobs_needed
from streams.runtime.call_outputs import answer_of
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Answer, Call, Outcome, Raised
from streams.runtime.execution import Execution
from streams.runtime.runner import Job
from streams.secrets import Secrets

NAMESPACE = "local"
JSON = "application/json"


class MemoryBlobs(BlobStore):
    """Values over 48 KiB of the runs of one graph, each for as long as its run lasts."""

    def __init__(self) -> None:
        super().__init__("memory://runs")
        self._kept: dict[str, dict[str, bytes]] = {}
        self._count = itertools.count()

    def put_now(self, prefix: str, data: Any, content_type: str = JSON) -> BlobRef:
        """Keeps the content under a number: nobody else sees this store, and nothing is repeated
        after a crash, so it need not be named by its checksum."""
        content = bytes(data)
        url = f"{self.url}/{next(self._count)}/{prefix}"
        self._kept.setdefault(prefix, {})[url] = content
        return BlobRef(url, len(content), "", content_type)

    def get_now(self, ref: BlobRef) -> bytes:
        _, _, prefix = ref.url.removeprefix(f"{self.url}/").partition("/")
        content = self._kept.get(prefix, {}).get(ref.url)
        if content is None:
            raise BlobError("a blob is not in the store", code="B001")
        return content

    async def put(self, prefix: str, data: Any, content_type: str = JSON) -> BlobRef:
        return self.put_now(prefix, data, content_type)

    async def get(self, ref: BlobRef) -> bytes:
        return self.get_now(ref)

    async def value(self, ref: BlobRef) -> Any:
        return self.value_now(ref)

    def forget(self, prefix: str) -> None:
        """Drops all of a run."""
        self._kept.pop(prefix, None)


class LocalExecution(Execution):
    """The worker's execution, with stages that were built before and snapshots given as objects."""

    def __init__(
        self,
        registry: StageRegistry,
        blobs: MemoryBlobs,
        secrets: Secrets,
        clock: Clock,
        ready: Mapping[tuple[str, str], Prepared],
    ) -> None:
        super().__init__(registry, blobs, secrets, clock, namespace=NAMESPACE)
        self.snapshots: dict[str, Callable[[], ContextSnapshot]] = {}
        """Job → what its stages see as `ctx.snapshot`; of other jobs it is made of their data."""
        self.direct: dict[str, Prepared] = {}
        """Stages that are called as they are, with nothing to open: inline, or async without a
        time limit."""
        self.batches: set[str] = set()
        """Parts whose events are gathered before they are given to their stage."""
        for key, prepared in ready.items():
            prepared.opened = not callable(getattr(prepared.stage, "open", None))
            self._prepared[key] = prepared
            path = prepared.part.path
            if prepared.is_batch:
                self.batches.add(path)
            elif not prepared.opened:
                continue
            elif prepared.inline or (prepared.is_async and _has_no_limit(prepared)):
                self.direct[path] = prepared

    async def answer(
        self, prepared: Prepared, ctx: LazyContext, *, may_lack: bool
    ) -> Answer | Raised:
        """What a direct stage answers or raises, as a value. `may_lack`: values may have to be
        fetched, which may fail, and has to before the stage begins."""
        try:
            if may_lack or not prepared.is_fixed:
                ctx.make()
            if prepared.inline:
                given = self._called_inline(prepared, ctx)
            else:
                given = prepared.invoke(ctx)
                if type(given) is CoroutineType or inspect.isawaitable(given):
                    given = await given
            scope = UNREAD if prepared.is_plain else ctx.scope
            return answer_of(prepared, scope, self._secrets, given)
        except BaseException as error:  # noqa: BLE001 - the boundary
            return Raised(error)

    def _called_inline(self, prepared: Prepared, ctx: LazyContext) -> Any:
        before = self._clock.monotonic()
        given = prepared.invoke(ctx)
        self._watch_inline(prepared, self._clock.monotonic() - before)
        if inspect.iscoroutine(given):
            given.close()
            raise StageOutputError("an inline stage returned something to be awaited")
        return given

    async def judged(self, started: int, ctx: LazyContext, given: Answer | Raised) -> Outcome:
        """The outcome of a direct call that is not a plain success."""
        return await self._stored(ctx.call, started, ctx.scope, given)

    def scope(self, call: Call) -> CallScope:
        """What a call of a direct stage can read."""
        scope = CallScope(call, self._secrets, self._blobs, call.cancel)
        scope.prepared = self.direct[call.part.path]
        return scope

    async def _context(self, prepared: Prepared, call: Call, scope: CallScope) -> StageContext:
        return self.context_now(prepared, call, scope)

    def context_now(self, prepared: Prepared, call: Call, scope: CallScope) -> StageContext:
        """The context of a call; what it reads is here, so nothing is waited for."""
        scope.prepared = prepared
        for ref in blobs_needed(prepared, call):
            scope.resolved(ref, self._blobs.value_now(ref))
        return self._shown(scope.context(self._clock, None))

    async def _in_task(self, work: Any, token: CancelToken, limit: float | None) -> Any:
        """Without a time limit the call needs no task of its own: it runs in its runner's, under
        context variables of its own, and a stop is a cancellation of that."""
        task = asyncio.current_task()
        if limit is not None or task is None:
            return await super()._in_task(work, token, limit)
        before = task.cancelling()
        forget = (token.parent or token).on_set(task.cancel)
        try:
            result = await _apart(work)
        finally:
            forget()
        if task.cancelling() > before:
            await self.calm(task, before)
        return result

    async def calm(self, task: asyncio.Task[Any], before: int) -> None:
        """A cancellation meant for the call is over with it, even one it asked for itself and did
        not wait for."""
        while task.cancelling() > before:
            task.uncancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._clock.sleep(0)

    def _shown(self, ctx: StageContext) -> StageContext:
        job = ctx.job_id
        given = self.snapshots.get(job)
        if given is not None:
            ctx.load_snapshot = lambda: own_copy(given(), job)
        return ctx


UNREAD = cast(CallScope, None)
"""For calls whose answer is judged without a look at what they could read."""


class Source(Protocol):
    """Who knows how the context of a job's call is made."""

    def call_of(self, job: Job) -> Call: ...


class LazyContext(StageContext):
    """A context whose fields are made when they are first looked at: many stages look at few."""

    __slots__ = ("_call", "_execution", "_job", "_made", "_scope", "_source")

    _source: Source
    _execution: LocalExecution
    _job: Job
    _call: Call | None
    _scope: CallScope | None
    _made: StageContext | None

    @classmethod
    def of(cls, source: Source, execution: LocalExecution, job: Job) -> LazyContext:
        """The context of the job's next call."""
        lazy: LazyContext = object.__new__(cls)
        lazy._source, lazy._execution, lazy._job = source, execution, job
        lazy._made = lazy._scope = lazy._call = None
        return lazy

    @property
    def call(self) -> Call:
        if self._call is None:
            self._call = self._source.call_of(self._job)
        return self._call

    @property
    def scope(self) -> CallScope:
        """All that the call can read, and its log."""
        if self._scope is None:
            self._scope = self._execution.scope(self.call)
        return self._scope

    def make(self) -> StageContext:
        """The whole context."""
        if self._made is None:
            scope = self.scope
            self._made = self._execution.context_now(scope.prepared, self.call, scope)
        return self._made

    def __getattr__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self.make(), name)
        setattr(self, name, value)
        return value


_FIELDS = frozenset(field.name for field in dataclasses.fields(StageContext))


@types.coroutine
def _apart(work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """What `work` gives, run under a copy of the context variables, as in a task."""
    run = contextvars.copy_context().run
    step: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            awaited = run(step, value)
        except StopIteration as end:
            return end.value
        try:
            step, value = work.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001 - it is for the work
            step, value = work.throw, error


def own_copy(snapshot: ContextSnapshot, job: str) -> ContextSnapshot:
    """A copy that its holder may change without anybody else seeing it; it names the run. What
    cannot be copied (a connection among the extensions) is handed on as it is."""
    run = snapshot.run_id
    if run.pipeline_run_id is None:
        run = dataclasses.replace(run, pipeline_run_id=job)
    return dataclasses.replace(
        snapshot,
        run_id=run,
        conversation=_copied(snapshot.conversation),
        enrichments=_copied(snapshot.enrichments),
        extensions=_copied(snapshot.extensions),
        params=MappingProxyType(_copied(dict(snapshot.params))),
        data=_copied(snapshot.data),
    )


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - anybody's __deepcopy__ and __reduce__ may raise anything
        return value


def leaves_something(prepared: Prepared) -> bool:
    """Whether a call of the stage leaves a thread, a timer or an open stage behind."""
    stage = prepared.stage
    if any(callable(getattr(stage, name, None)) for name in ("open", "close")):
        return True
    if not _has_no_limit(prepared):
        return True
    if prepared.is_batch:
        return not is_async(stage.execute_batch)
    return not (prepared.is_async or prepared.inline)


def _has_no_limit(prepared: Prepared) -> bool:
    return policy_of(prepared.plan, prepared.part).timeout_seconds is None
