"""What came of a run: every stage's result by its name, and how the job ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import msgspec

from streams.engine.rows import Failure
from streams.errors import NotFoundError, StreamsError, UserError
from streams.topology.plan import USER_CODE, Plan

if TYPE_CHECKING:
    from streams.engine.view import JobView, StageView

EXPLANATIONS: dict[str, str] = {
    "J101": """\
**A pipeline that was run here did not succeed.** A stage failed, or the job was cancelled: by a
stage, by its time limit, or by whoever ran it. The error carries the stage, its failure and all
results; what other stages returned before can be read there.
Next: `error.results[STAGE].error`, and the log of the attempt in its `log`.""",
    "J103": """\
**The output was not kept.** A row holds outputs up to 1 KiB. `graph.run(durable=True)` puts larger
ones into the blob store, but another worker ran this stage, which keeps there only what is over
48 KiB; what lies between travels to the next stages only.
Next: read it in a stage that depends on it, or return a reference to where you stored it.""",
}

_NOT_OWN_WORDS = frozenset({"stopped", "did not heed the stop", "the job ended first"})
"""Reasons of stages that ended only because the job did."""


class PipelineError(StreamsError):
    """A run that did not succeed: where and why, with everything that came of it."""

    code = "J101"

    def __init__(
        self, message: str, *, stage: str | None, error: Failure | None, results: Results
    ) -> None:
        super().__init__(message)
        self.stage = stage
        """The stage that failed or asked for the cancel; None if nobody of the pipeline did."""
        self.error = error
        self.results = results

    @property
    def status(self) -> str:
        return self.results.status


class StageResult:
    """How one stage ended."""

    def __init__(self, stage: str, view: StageView, output: bytes | None) -> None:
        self.stage = stage
        self.status: str = view.status
        self.error = view.error
        self.reason = view.reason
        self.attempts = view.attempts
        self.metadata: Mapping[str, Any] = view.metadata
        self.duration_ms = view.duration_ms
        self.reached = view.created_at is not None
        """False where every way to it was closed: by a route, or by a stage that failed."""
        self._output = output

    @property
    def ok(self) -> bool:
        """It succeeded, or there was nothing to do."""
        return self.status in ("succeeded", "skipped")

    @cached_property
    def value(self) -> Any:
        """What the stage returned; None unless it succeeded."""
        if self.status != "succeeded":
            return None
        if self._output is None:
            raise UserError(
                f"the output of stage {self.stage!r} was not kept",
                code="J103",
                help="read it in a stage that depends on it, or return a reference",
            )
        return msgspec.json.decode(self._output)

    @property
    def data(self) -> Any:
        """The value; an empty mapping where there is none."""
        return {} if self.value is None else self.value

    def __repr__(self) -> str:
        return f"<{self.stage}: {self.status}>"


class Results(Mapping[str, StageResult]):
    """Every stage of a run by its name, and how the job ended."""

    def __init__(
        self,
        job: str,
        status: str,
        reason: str,
        error: Failure | None,
        paths: Mapping[str, str],
        plan: Plan,
        view: Callable[[], JobView],
        outputs: Mapping[str, bytes],
    ) -> None:
        self.job = job
        self.status = status
        """succeeded, skipped (every stage was), failed or cancelled."""
        self.reason = reason
        self.error = error
        self._paths = paths
        self._plan = plan
        self._view = view
        self._outputs = outputs
        self._made: dict[str, StageResult] = {}
        """Those that were looked at."""

    @property
    def ok(self) -> bool:
        return self.status in ("succeeded", "skipped")

    @property
    def view(self) -> JobView:
        """The job as `streams get` shows it."""
        return self._view()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the stages that failed."""
        return tuple(name for name, result in self.items() if result.status == "failed")

    def require(self, stage: str) -> StageResult:
        """The result of a stage that ended well. Raises `PipelineError` if it did not, or if the
        job failed before it was reached; `NotFoundError` if there is no such stage."""
        if stage not in self._paths:
            from streams.topology.findings import did_you_mean

            raise NotFoundError(
                f"no stage {stage!r} in this pipeline", help=did_you_mean(stage, self._paths)
            )
        result = self[stage]
        if not result.ok:
            raise self._error(stage)
        return result if result.reached else self.raise_for_status()[stage]

    def raise_for_status(self) -> Self:
        """These results, if the job ended well; else `PipelineError`."""
        if self.ok:
            return self
        culprits = self.failed or tuple(
            name for name, result in self.items()
            if result.status == "cancelled" and result.reason not in _NOT_OWN_WORDS
        )  # fmt: skip
        raise self._error(culprits[0] if culprits else None)

    def _error(self, stage: str | None) -> PipelineError:
        result = None if stage is None else self[stage]
        error = result.error if result else self.error
        words = error.message if error else (result and result.reason) or self.reason
        subject = f"pipeline {self._plan.pipeline!r}" if result is None else f"stage {stage!r}"
        state = self.status if result is None else result.status
        message = f"{subject} {state}: {words}" if words else f"{subject} {state}"
        return PipelineError(message, stage=stage, error=error, results=self)

    def __getitem__(self, stage: str) -> StageResult:
        made = self._made.get(stage)
        if made is None:
            path = self._paths[stage]
            made = StageResult(stage, self.view.stages[path], self._output(path))
            self._made[stage] = made
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"<Results {self.job}: {self.status}>"

    def _output(self, path: str) -> bytes | None:
        nothing = None if self._plan.by_path[path].kind in USER_CODE else b"null"
        return self._outputs.get(path, nothing)
