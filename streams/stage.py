"""What a stage author imports: the contract, the decorators, the context.

    @stage
    async def parse(document: Download) -> Parsed: ...

is the one way the docs show. A class works too; it needs nothing but `execute`:

    class Parse(Stage):
        def execute(self, ctx, upstream): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from streams.authoring.context import (
    CancelToken,
    ContextSnapshot,
    RunIdentity,
    StageContext,
    StageInputs,
    StageLog,
    StageTimer,
)
from streams.authoring.faults import (
    StageInputError,
    StageOutputError,
    StageRegistryError,
    StageSetupError,
    UndeclaredDependencyError,
)
from streams.authoring.function_stage import stage, tag
from streams.authoring.registration import (
    LEDGER,
    StageDefinition,
    StageKind,
    StageMetadata,
    StageRegistration,
)
from streams.outcome import StageOutput

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = [
    "LEDGER",
    "BatchStage",
    "CancelToken",
    "ContextSnapshot",
    "RunIdentity",
    "Stage",
    "StageContext",
    "StageDefinition",
    "StageInputError",
    "StageInputs",
    "StageKind",
    "StageLog",
    "StageMetadata",
    "StageOutput",
    "StageOutputError",
    "StageRegistration",
    "StageRegistryError",
    "StageSetupError",
    "StageTimer",
    "UndeclaredDependencyError",
    "registration_of",
    "stage",
    "tag",
]


_REGISTRATION = "__streams_registration__"


class Stage:
    """A stage as a class. Inheriting is optional: anything with `execute` will do.

    One object serves every job of its stage, several at once; keep per-job state in variables.
    `execute(self, ctx)` or `execute(self, ctx, upstream)`, sync (runs in a thread) or async. It
    returns a value, a `StageOutput`, or None.
    """

    stage_type: ClassVar[str] = ""
    """Its name in topologies; the class's name in snake case unless set."""
    name: str = ""
    kind: ClassVar[StageKind] = StageKind.TRANSFORM
    Config: ClassVar[type[BaseModel] | None] = None
    """Model of the stage's `config`; None accepts any mapping."""
    config: Any = None
    """The config where it does not depend on the job, set before `open`; else see `ctx.config`."""
    inline: ClassVar[bool] = False
    """Promises that a call takes under 10 ms and never waits: no task, no thread."""
    sets: ClassVar[tuple[str, ...]] = ()
    metadata: ClassVar[StageMetadata | None] = None

    async def open(self) -> None:
        """Called once before the first call, in the worker that runs the stage."""

    async def close(self) -> None:
        """Called once when the worker ends, if `open` succeeded."""

    def execute(self, ctx: StageContext) -> Any:
        """The work: one call, one answer."""
        raise NotImplementedError(f"{type(self).__name__} has no execute")


class BatchStage(Stage):
    """A stage that takes events of many jobs in one call: embedding, bulk indexing."""

    max_items: ClassVar[int] = 32
    max_wait: ClassVar[float] = 0.05

    def execute_batch(self, ctxs: list[StageContext]) -> Any:
        """One answer per context, in their order; an exception object fails its job alone."""
        raise NotImplementedError(f"{type(self).__name__} has no execute_batch")


def registration_of(stage_class: type[Stage]) -> StageRegistration:
    """The registration of a stage class: the same one each time."""
    made_before = vars(stage_class).get(_REGISTRATION)
    if isinstance(made_before, StageRegistration):
        return made_before
    name = stage_class.stage_type or _snake(stage_class.__name__)
    document = (stage_class.__doc__ or "").strip().partition("\n")[0]

    def build(definition: StageDefinition) -> Stage:
        made = stage_class()
        made.name = made.name or definition.name
        return made

    registration = StageRegistration(
        metadata=stage_class.metadata or StageMetadata(stage_type=name, description=document),
        builder=build,
        kind=stage_class.kind,
        config=stage_class.Config,
        inline=stage_class.inline,
        sets=tuple(stage_class.sets),
    )
    setattr(stage_class, _REGISTRATION, registration)
    return registration


def _snake(name: str) -> str:
    letters = [f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name)]
    return "".join(letters).removesuffix("_stage")
