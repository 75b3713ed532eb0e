"""The worker's own execution, with failures on demand and a note of every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streams.authoring.context import CancelToken
from streams.blobs import BlobStore
from streams.outcome import Fail, Verdict
from streams.registry import StageRegistry
from streams.runtime.call_preparation import Prepared
from streams.runtime.call_values import Answer, Call, Outcome, Raised
from streams.runtime.execution import Execution
from streams.secrets import Secrets
from streams.testing.tester_clock import TesterClock
from streams.testing.tester_inline import OnTheSpot
from streams.topology.plan import Part, Plan

Error = BaseException | type[BaseException] | Verdict | str
"""What a stage may be made to fail with; text is a `Fail` of that message."""


class Faults:
    """Failures that are still to happen, by (pipeline, stage)."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[Error]] = {}

    def add(self, pipeline: str, stage: str, error: Error, times: int) -> None:
        """The next `times` calls of the stage end with this."""
        self._waiting.setdefault((pipeline, stage), []).extend([error] * times)

    @property
    def left(self) -> list[str]:
        """Failures that have not happened, with how many of each."""
        return [
            stage if len(errors) == 1 else f"{stage} ×{len(errors)}"
            for (_, stage), errors in self._waiting.items()
            if errors
        ]

    def pending(self, pipeline: str, stage: str) -> bool:
        return bool(self._waiting.get((pipeline, stage)))

    def take(self, pipeline: str, stage: str) -> BaseException | Verdict | None:
        """What the next call ends with; None: with what the stage answers."""
        waiting = self._waiting.get((pipeline, stage))
        if not waiting:
            return None
        error = waiting.pop(0)
        if isinstance(error, str):
            return Fail(error)
        return error() if isinstance(error, type) else error


class Notes:
    """What stages answered: rows keep only outputs up to 1 KiB, a test wants to see them all."""

    def __init__(self) -> None:
        self.outputs: dict[tuple[str, str, str], bytes] = {}
        """(pipeline, job, stage) → JSON of the newest output."""
        self.calls: list[tuple[str, str, str]] = []
        """(pipeline, job, stage) of every call of user code, in order."""
        self.running = 0

    def noted(self, call: Call, outcome: Outcome) -> Outcome:
        key = (call.plan.pipeline, call.job.id, call.part.path)
        self.calls.append(key)
        if bytes(outcome.out):
            self.outputs[key] = bytes(outcome.out)
        return outcome


class TesterExecution(Execution):
    """Runs sync stages on the spot; stages fail when the test says so."""

    __test__ = False

    def __init__(
        self,
        registry: StageRegistry,
        blobs: BlobStore,
        secrets: Secrets,
        clock: TesterClock,
        faults: Faults,
        notes: Notes,
        *,
        namespace: str,
    ) -> None:
        super().__init__(
            registry, blobs, secrets, clock, namespace=namespace, threads=OnTheSpot(clock)
        )
        self._wall = clock
        self._faults = faults
        self._notes = notes

    def runs_inline(self, plan: Plan, part: Part) -> bool:
        """Not while a failure is asked for: that takes the other way."""
        return not self._faults.pending(plan.pipeline, part.path) and super().runs_inline(
            plan, part
        )

    async def run(self, call: Call) -> Outcome:
        prepared = self._prepared.get((call.plan.digest, call.part.path))
        if prepared is not None and prepared.is_batch:
            return await super().run(call)  # it comes by `run_batch`
        with _Passing(self._wall, self._notes):
            return self._notes.noted(call, await super().run(call))

    def run_inline(self, call: Call) -> Outcome:
        return self._notes.noted(call, super().run_inline(call))

    async def run_batch(self, calls: Sequence[Call]) -> list[Outcome]:
        with _Passing(self._wall, self._notes):
            outcomes = await super().run_batch(calls)
        return [self._notes.noted(c, o) for c, o in zip(calls, outcomes, strict=True)]

    async def _supervised(
        self,
        prepared: Prepared,
        token: CancelToken,
        invoke: Callable[[], Any],
        check: Callable[[Any], Any],
    ) -> Any:
        fault = self._faults.take(prepared.plan.pipeline, prepared.part.path)
        if fault is None:
            return await super()._supervised(prepared, token, invoke, check)
        return Raised(fault) if isinstance(fault, BaseException) else Answer(fault)


class _Passing:
    """Wall-clock time passes while a stage works."""

    def __init__(self, clock: TesterClock, notes: Notes) -> None:
        self._clock = clock
        self._notes = notes

    def __enter__(self) -> None:
        self._notes.running += 1
        self._clock.go()

    def __exit__(self, *_: object) -> None:
        self._notes.running -= 1
        if not self._notes.running:
            self._clock.stand()
