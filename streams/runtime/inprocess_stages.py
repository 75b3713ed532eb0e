"""Stages of a graph in this process: built once, run in their runner's task where that will do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import itertools
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from streams.authoring.context import CancelToken, ContextSnapshot, StageContext
from streams.authoring.signature import is_async
from streams.blobs import BlobError, BlobStore
from streams.clock import Clock
from streams.engine.payload import BlobRef
from streams.policies import policy_of
from streams.registry import StageRegistry
from streams.runtime.call_context import CallScope
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Call
from streams.runtime.execution import Execution
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
        self.snapshots: dict[str, ContextSnapshot] = {}
        """Job → what its stages see as `ctx.snapshot`; of other jobs it is made of their data."""
        for key, prepared in ready.items():
            prepared.opened = not callable(getattr(prepared.stage, "open", None))
            self._prepared[key] = prepared
            if prepared.inline:
                prepared.invoke = self._with_snapshot(prepared.invoke)

    async def _context(self, prepared: Prepared, call: Call, scope: CallScope) -> StageContext:
        return self._shown(await super()._context(prepared, call, scope))

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
            await self._calm(task, before)
        return result

    async def _calm(self, task: asyncio.Task[Any], before: int) -> None:
        """A cancellation meant for the call is over with it, even one it asked for itself and did
        not wait for."""
        while task.cancelling() > before:
            task.uncancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._clock.sleep(0)

    def _with_snapshot(self, invoke: Callable[[StageContext], Any]) -> Callable[[Any], Any]:
        return lambda ctx: invoke(self._shown(ctx))

    def _shown(self, ctx: StageContext) -> StageContext:
        snapshot = self.snapshots.get(ctx.job_id)
        if snapshot is not None:
            ctx.load_snapshot = lambda: own_copy(snapshot)
        return ctx


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


def own_copy(snapshot: ContextSnapshot) -> ContextSnapshot:
    """A copy that its holder may change without anybody else seeing it. What cannot be copied
    (a connection among the extensions) is handed on as it is."""
    return replace(
        snapshot,
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
    if policy_of(prepared.plan, prepared.part).timeout_seconds is not None:
        return True
    if prepared.is_batch:
        return not is_async(stage.execute_batch)
    return not (prepared.is_async or prepared.inline)
